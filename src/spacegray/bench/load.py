"""One load on one server: fio's NBD engine, one connection, and what it says of it.

Sequential work is in requests of 1 MiB, 16 at a time; random work in 4 KiB, 16 at a time. In the
last column each 4 KiB write is followed by a flush, one at a time. fio reports the latency of a
request from its submission to its completion; in the last column that of the flush.
"""

import json
import os
import subprocess
from dataclasses import dataclass
from typing import Any, Final

from spacegray.bench.home import cpu_seconds
from spacegray.bench.servers import LABELS, Server
from spacegray.errors import SpacegrayError

KIB: Final = 1024
MIB: Final = 1024**2
GIB: Final = 1024**3
LIMIT_SECONDS: Final = 3600.0
"""A load that takes longer hangs."""
P99: Final = "99.000000"


@dataclass(frozen=True)
class Column:
    """A column of the table: what fio is told."""

    key: str
    title: str
    mode: str
    block_bytes: int
    depth: int
    flush: bool = False

    @property
    def unit(self) -> str:
        return "MB/s" if self.block_bytes >= MIB else "IOPS"


COLUMNS: Final = (
    Column("seq_read", "seq read", "read", MIB, 16),
    Column("seq_write", "seq write", "write", MIB, 16),
    Column("rand_read", "4K rand read", "randread", 4 * KIB, 16),
    Column("rand_write", "4K rand write", "randwrite", 4 * KIB, 16),
    Column("flush_write", "4K write + flush", "randwrite", 4 * KIB, 1, flush=True),
)


@dataclass(frozen=True)
class Figure:
    """One measurement. `speed` in the column's unit, latencies in microseconds."""

    speed: float
    mean_us: float
    p99_us: float
    cpu_seconds_per_gib: float


def measure(
    server: Server,
    column: Column,
    *,
    size_bytes: int,
    seconds: float,
    seed: int,
    align_bytes: int | None = None,
) -> Figure:
    """Load the first `size_bytes` of the server's disk for `seconds`.

    The same `seed` gives the same addresses; `align_bytes` spaces random ones out.
    """
    words = [
        *(f"--rw={column.mode}", f"--bs={column.block_bytes}", f"--iodepth={column.depth}"),
        *(f"--size={size_bytes}", "--time_based=1", f"--runtime={round(seconds * 1000)}ms"),
        *("--norandommap=1", f"--randseed={seed}"),
    ]
    if column.flush:
        words.append("--fsync=1")
    if align_bytes is not None:
        words.append(f"--blockalign={align_bytes}")
    # What others left in the host's page cache would be written back in our time.
    os.sync()
    before = cpu_seconds(server.pid)
    job = _fio(server, words)
    spent = cpu_seconds(server.pid) - before
    return figure(job, column, spent)


def fill(server: Server, size_bytes: int) -> None:
    """Write the first `size_bytes` once, in order, and flush."""
    _fio(
        server,
        ["--rw=write", f"--bs={MIB}", "--iodepth=16", f"--size={size_bytes}", "--end_fsync=1"],
    )


def fill_sparsely(server: Server, size_bytes: int, stride_bytes: int) -> None:
    """Write one 4 KiB block at the beginning of each `stride_bytes`, and flush."""
    gap = stride_bytes - 4 * KIB
    _fio(
        server,
        [
            *(f"--rw=write:{gap // KIB}k", f"--bs={4 * KIB}", "--iodepth=16"),
            *(f"--size={size_bytes}", f"--io_size={size_bytes // stride_bytes * 4 * KIB}"),
            "--end_fsync=1",
        ],
    )


def overwrite(server: Server, size_bytes: int, *, times: int, seed: int) -> None:
    """Overwrite the first `size_bytes` at random in 4 KiB, `times` over on the average."""
    _fio(
        server,
        [
            *("--rw=randwrite", f"--bs={4 * KIB}", "--iodepth=16", f"--size={size_bytes}"),
            *(f"--io_size={times * size_bytes}", "--norandommap=1", f"--randseed={seed}"),
            "--end_fsync=1",
        ],
    )


def figure(job: dict[str, Any], column: Column, cpu: float) -> Figure:
    """The figure in fio's JSON of one job; `cpu` is what the server spent, in seconds.

    Raises SpacegrayError when nothing was done.
    """
    side = job["read" if column.mode.endswith("read") else "write"]
    latency = job["sync"]["lat_ns"] if column.flush else side["clat_ns"]
    if not side["io_bytes"] or "percentile" not in latency:
        raise SpacegrayError("measuring the SSD", "fio did no work", "measure for longer")
    speed = side["bw_bytes"] / 1e6 if column.unit == "MB/s" else side["iops"]
    return Figure(
        speed=round(speed, 1),
        mean_us=round(latency["mean"] / 1000, 1),
        p99_us=round(latency["percentile"][P99] / 1000, 1),
        cpu_seconds_per_gib=round(cpu / (side["io_bytes"] / GIB), 4),
    )


def _fio(server: Server, words: list[str]) -> dict[str, Any]:
    """Run one job; raises SpacegrayError with what fio says went wrong."""
    doing = f"measuring {LABELS[server.key]}"
    command = ["fio", "--name=load", "--ioengine=nbd", f"--uri={server.uri}"]
    command += ["--output-format=json", *words]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SpacegrayError(doing, error, "see that fio works") from None
    # fio writes its complaints to either stream, before and after the JSON.
    start = done.stdout.find("{")
    try:
        job: dict[str, Any] = json.loads(done.stdout[start : done.stdout.rindex("}") + 1])["jobs"][
            0
        ]
        failed = job["error"]
    except (ValueError, LookupError):
        job, failed = {}, done.returncode or 1
    if done.returncode or failed:
        said = (done.stderr + done.stdout[: max(start, 0)]).strip().splitlines()
        raise SpacegrayError(doing, said[0] if said else f"fio: error {failed}", "see that it runs")
    return job
