"""`bench ssd` measures what it says: tried on servers whose speed is known, and as a whole."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from spacegray.bench import load, servers
from spacegray.bench.load import COLUMNS, MIB
from spacegray.bench.servers import Server
from tests.conftest import Cli

BY_KEY = {column.key: column for column in COLUMNS}
SIZE = 32 * MIB
SECONDS = 1.0


@contextlib.contextmanager
def nbdkit(folder: Path, *words: str) -> Iterator[Server]:
    """A server in memory, slowed down by `words`."""
    path = folder / "socket"
    command: list[str | Path] = ["nbdkit", "-f", "-U", path, *words]
    with servers.running(servers.NBDKIT, path, command) as server:
        yield server


def test_the_speed_is_that_of_the_server(tmp_path):
    limit_mb = 40
    limited = ("--filter=rate", "memory", str(SIZE), f"rate={limit_mb * 8_000_000}")
    with nbdkit(tmp_path, *limited) as server:
        figure = load.measure(
            server, BY_KEY["seq_write"], size_bytes=SIZE, seconds=2 * SECONDS, seed=1
        )
    # Below for what the machine is busy with, above for what the filter lets pass at once.
    assert 0.4 * limit_mb < figure.speed < 2 * limit_mb


@pytest.mark.parametrize("key", ["rand_read", "rand_write"])
def test_latency_and_operations_are_those_of_the_server(tmp_path, key):
    delayed = ("--filter=delay", "memory", str(SIZE), "rdelay=20ms", "wdelay=20ms")
    with nbdkit(tmp_path, *delayed) as server:
        figure = load.measure(server, BY_KEY[key], size_bytes=SIZE, seconds=SECONDS, seed=1)
    assert 20_000 <= figure.mean_us < 60_000
    assert figure.p99_us >= 20_000
    assert figure.speed <= BY_KEY[key].depth / 0.020


def test_in_the_last_column_each_write_waits_for_a_flush(tmp_path):
    """A server whose flush takes 10 ms does not make 100 of these a second."""
    script = 'case "$1" in get_size) echo 32M;; can_write|can_flush) exit 0;; flush) sleep 0.01;; '
    script += "pwrite) cat >/dev/null;; pread) exit 1;; *) exit 2;; esac"
    program = tmp_path / "flushes"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    with nbdkit(tmp_path, "sh", str(program)) as server:
        figure = load.measure(
            server, BY_KEY["flush_write"], size_bytes=SIZE, seconds=SECONDS, seed=1
        )
    assert 0 < figure.speed < 100
    assert figure.mean_us >= 10_000


def test_the_whole_of_it_quickly(tmp_path):
    """All five servers, aged and beyond its index cache."""
    cli = Cli(tmp_path)
    words = ("bench", "ssd", "--quick", "--folder", str(tmp_path))
    said = json.loads(cli(*words, "--aged", "--beyond", "--format", "json").stdout)
    names = {column.key for column in COLUMNS}
    assert set(said["ratio"]) == set(said["ratio_fastest"]) == names
    assert all(value > 0 for value in [*said["ratio"].values(), *said["ratio_fastest"].values()])
    assert set(said["servers"]) == set(servers.LABELS)
    for server in said["servers"].values():
        for column in names:
            assert server[column]["p99_us"] >= 0 < server[column]["median"]
            assert server[column]["cpu_seconds_per_gib"] >= 0
    assert set(said["aged"]["ratio"]) == names
    assert said["beyond"]["beyond"]["ratio"]["rand_read"] > 0
    assert {path.name for path in tmp_path.iterdir()} <= {"state", "cache", "run", "workstations"}


def test_a_folder_that_is_not_there_is_one_line(tmp_path):
    cli = Cli(tmp_path)
    done = cli("bench", "ssd", "--quick", "--folder", str(tmp_path / "no"), check=False)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert "give another --folder" in done.stderr
