"""Guards: one console per user, started on demand, apart from its caller, telling no secrets."""

import concurrent.futures
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import psutil
import pytest

from spacegray.console import launch
from spacegray.console.idle import Idleness
from spacegray.console.knock import knock, socket_path
from spacegray.console.limits import FIRST_PORT
from spacegray.paths import Paths

WAIT_SECONDS = 20.0


@pytest.fixture
def paths(tmp_path: Path, monkeypatch) -> Iterator[Paths]:
    monkeypatch.setenv("SPACEGRAY_HOME", str(tmp_path))
    paths = Paths.current()
    yield paths
    launch.stop(paths)
    for process in consoles(tmp_path):
        process.wait(WAIT_SECONDS)


def consoles(home: Path) -> list[psutil.Process]:
    """The console processes of that home."""
    found = []
    for process in psutil.process_iter():
        try:
            if "spacegray.console" in process.cmdline() and (
                process.environ().get("SPACEGRAY_HOME") == str(home)
            ):
                found.append(process)
        except psutil.Error:
            continue
    return found


def test_an_address_opens_and_a_second_one_is_of_the_same_console(paths, tmp_path):
    first, second = launch.ensure(paths), launch.ensure(paths, "pro")
    assert urlsplit(first).netloc == urlsplit(second).netloc
    assert len(consoles(tmp_path)) == 1
    with httpx.Client() as client:
        assert client.get(first).status_code == 200
        assert "/#/pro" in client.get(second).text


def test_the_confined_console_reads_what_it_needs_of_the_product(paths):
    """Its data and its graph library lie where it may read, though it asks for them late."""
    with httpx.Client() as client:
        url = launch.ensure(paths)
        assert client.get(url).status_code == 200
        origin = "http://" + urlsplit(url).netloc
        for path in (
            "/api/catalog/offers?date=2019-03-19",
            "/api/catalog/quote?date=2019-03-19&memory_gb=256",
            "/api/catalog/spec.toml?date=2019-03-19&memory_gb=256",
            "/api/catalog/timeline",
            "/api/service/parts",
            "/api/service/plans/memory",
        ):
            answer = client.get(origin + path)
            assert answer.status_code == 200, (path, answer.text)


def test_many_at_once_get_one_console(paths, tmp_path):
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        addresses = list(pool.map(lambda _: launch.ensure(paths), range(4)))
    assert len({urlsplit(address).netloc for address in addresses}) == 1
    assert len(set(addresses)) == 4
    assert len(consoles(tmp_path)) == 1


def test_it_holds_nothing_of_its_callers(paths, tmp_path):
    """A caller whose output is read to its end must not seem to hang."""
    script = (
        "from spacegray.console import launch; from spacegray.paths import Paths;"
        "print(launch.ensure(Paths.current()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.startswith("http://127.0.0.1:")
    (console,) = consoles(tmp_path)
    assert os.getsid(console.pid) != os.getsid(0)
    assert console.terminal() is None
    assert console.cwd() == "/"
    for stream in (0, 1, 2):
        assert Path(f"/proc/{console.pid}/fd/{stream}").readlink() == Path("/dev/null")


def test_no_token_is_in_a_log_an_argument_or_the_environment(paths, tmp_path):
    address = launch.ensure(paths)
    token = parse_qs(urlsplit(address).query)["token"][0]
    with httpx.Client() as client:
        client.get(address)
        key = next(iter(client.cookies.values()))
        client.get(address)
    log = paths.console_log.read_text()
    assert "listening" in log, "the control: this is the log"
    (console,) = consoles(tmp_path)
    for secret in (token, key):
        assert secret not in log
        assert secret not in " ".join(console.cmdline())
        assert secret not in str(console.environ())
        for path in tmp_path.rglob("*"):
            assert not path.is_file() or secret.encode() not in path.read_bytes(), path


def test_only_its_owner_can_knock(paths):
    launch.ensure(paths)
    assert socket_path(paths).stat().st_mode & 0o777 == 0o600
    assert paths.console_log.stat().st_mode & 0o077 == 0


def test_a_broken_knock_harms_nobody(paths):
    launch.ensure(paths)
    for rubbish in (b"", b"\xff\xff\xff\xff", b"\x00\x00\x00\x02[]", b"\x00\x00\x00\x01{"):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(socket_path(paths)))
            connection.sendall(rubbish)
    assert knock(paths, {"op": "nonsense"}) == {"error": "unknown"}
    assert launch.ensure(paths)


def test_a_killed_console_is_replaced(paths, tmp_path):
    launch.ensure(paths)
    (console,) = consoles(tmp_path)
    console.send_signal(signal.SIGKILL)
    console.wait(WAIT_SECONDS)
    address = launch.ensure(paths)
    assert httpx.get(address).status_code == 200


def test_stopping_ends_it_and_the_next_address_is_a_new_consoles(paths, tmp_path):
    assert not launch.stop(paths)
    launch.ensure(paths)
    (console,) = consoles(tmp_path)
    assert launch.stop(paths)
    address = launch.ensure(paths)
    console.wait(WAIT_SECONDS)
    assert httpx.get(address).status_code == 200


def test_a_port_in_use_is_said(paths):
    notes: list[str] = []

    class Listener:
        def step(self, label: str, done: int, total: int) -> None:
            pass

        def note(self, text: str) -> None:
            notes.append(text)

    # Where something else has the first port already, that will do as well.
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind(("127.0.0.1", FIRST_PORT))
            taken.listen()
        except OSError:
            pass
        address = launch.ensure(paths, progress=Listener())
    assert urlsplit(address).port != FIRST_PORT
    assert notes == [f"port 5170 is in use; the console listens on port {urlsplit(address).port}"]


def test_nobody_left_and_it_ends(paths, monkeypatch):
    """In this process, with a limit that a test can wait for."""
    from spacegray.console import server
    from tests.support.console import FakeMachines

    monkeypatch.setattr(server, "IDLE_POLL_SECONDS", 0.01)
    monkeypatch.setattr(
        server, "Idleness", lambda machines, watched: Idleness(machines, watched, limit_seconds=0.2)
    )
    paths.run.mkdir(parents=True)
    began = time.monotonic()
    empty = FakeMachines(paths.run)
    server.Server(empty, paths, server.listen()).run(idle_exit=True, on_ready=lambda: None)
    assert 0.2 <= time.monotonic() - began < WAIT_SECONDS
