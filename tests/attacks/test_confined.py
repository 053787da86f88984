"""Attack: QEMU or the console, taken over, turns on the chip and on the rest of its owner's things.

Both run as the same user as the chip, so that modes and owners of files are no help. A program
(`tests/support/intruder.py`) is started exactly as QEMU is, and as the console confines itself,
and tries all that a process can; the same program unconfined is the control, which succeeds.
"""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from spacegray import process
from spacegray.chip.messages import Seal
from spacegray.console import launch as consoles
from spacegray.machine import arguments
from spacegray.paths import Paths
from tests.conftest import Running
from tests.functional.test_lifecycle import supervisor
from tests.support import scan
from tests.support.chip import born, workstation
from tests.support.owned import SEALS
from tests.support.tpm import emulated_tpm

INTRUDER = (Path(__file__).parents[1] / "support" / "intruder.py").read_text()
SYSTEM_PYTHON = "/usr/bin/python3"
"""QEMU's reach has the system's programs in it, and no checkout's."""
AS_THE_CONSOLE = """
from spacegray.confinement import confine
from spacegray.console.__main__ import reach
from spacegray.paths import Paths
confine(reach(Paths.current()))
"""
VICTIM = """
import ctypes, sys
ctypes.CDLL(None).prctl(0x59616D61, ctypes.c_long(-1), 0, 0, 0)  # Yama: anybody may trace this
secret = ctypes.create_string_buffer(b"a secret of another process's " * 4)
print(ctypes.addressof(secret), flush=True)
sys.stdin.read()
"""
SECONDS = 120

Attempts = dict[str, tuple[str, Any]]
Outcomes = dict[str, str]

MEANT = {
    "qemu": {"connect to a port of this host"},
    "console": {"list another workstation", "read another workstation"},
}
"""What is theirs to do: QEMU carries the guest's network, the console shows all workstations."""


@pytest.fixture(scope="module", params=SEALS)
def seal(request: pytest.FixtureRequest) -> Seal:
    """What the chip's store is sealed with."""
    found: Seal = request.param
    return found


@pytest.fixture(scope="module")
def home(seal: Seal) -> Iterator[Path]:
    """A home with two workstations; decoys lie where an attempt would destroy."""
    home = Path(tempfile.mkdtemp(prefix="spacegray-confined-"))
    try:
        yield home
    finally:
        shutil.rmtree(home)


@pytest.fixture(scope="module")
def attempts(home: Path, seal: Seal) -> Iterator[Attempts]:
    """What an intruder would want, while a chip and its owner's other programs run."""
    at, other = workstation(home), workstation(home, "other")
    (other.folder / "module").write_bytes(b"cipher text")
    with contextlib.ExitStack() as running:
        tpm = running.enter_context(emulated_tpm())
        passphrase = b"a passphrase" if seal == "passphrase" else None
        place = tpm.socket if seal == "tpm2" else None
        chip = running.enter_context(born(at, seal=seal, passphrase=passphrase, tpm=place))
        state, run = at.state_folder, at.run
        at.host_state.mkdir(exist_ok=True)
        decoys = {}
        for name in ("truncated", "removed", "renamed", "linked", "opened", "written"):
            decoys[name] = state / f"decoy-{name}"
            decoys[name].write_bytes(b"decoy")
        victim = running.enter_context(
            subprocess.Popen(
                [sys.executable, "-c", VICTIM], stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
        )
        running.callback(victim.kill)
        assert victim.stdout is not None
        address = int(victim.stdout.readline())
        service, events = run / "service", run / "events"
        running.enter_context(serving(socket.AF_UNIX, str(service)))
        name = f"spacegray-test-{os.getpid()}"
        running.enter_context(serving(socket.AF_UNIX, f"\0{name}"))
        port = running.enter_context(serving(socket.AF_INET, ("127.0.0.1", 0)))
        running.enter_context(bound(str(events)))
        pid = victim.pid
        yield {
            "list the state folder": ("list", str(state)),
            "list the host's folder of its TPM": ("list", str(at.host_state)),
            "ask the TPM": ("ask the TPM", str(tpm.socket)),
            "read the sealed store": ("read", str(state / "vault.sealed")),
            "write in the state folder": ("write", str(decoys["written"])),
            "truncate in the state folder": ("truncate", str(decoys["truncated"])),
            "make a file in the state folder": ("make", str(state / "made")),
            "make a folder in the state folder": ("make a folder", str(state / "folder")),
            "remove from the state folder": ("remove", str(decoys["removed"])),
            "rename in the state folder": (
                "rename",
                [str(decoys["renamed"]), str(state / "decoy-renamed-away")],
            ),
            "link out of the state folder": ("link", [str(decoys["linked"]), str(home / "link")]),
            "open the state folder to others": ("open to others", str(state)),
            "open a state file to others": ("open to others", str(decoys["opened"])),
            "label a state file": ("label", str(decoys["opened"])),
            "turn a state file's clock": ("turn its clock", str(decoys["opened"])),
            "watch the state folder": ("watch", str(state)),
            "list another workstation": ("list", str(other.folder)),
            "read another workstation": ("read", str(other.folder / "module")),
            "write to another workstation": ("write", str(other.folder / "module")),
            "read the owner's home": ("list", str(Path.home())),
            "make a temporary file": ("make", str(home / "temporary")),
            "ask the chip at its mailbox": ("ask the chip", str(at.mailbox)),
            "ask another service at its socket": ("ask a service", str(service)),
            "ask a service without a path": ("ask in the abstract", name),
            "send a datagram to a service": ("send a datagram", str(events)),
            "ask by io_uring": ("ask by io_uring", None),
            "make a disguised socket": ("make a disguised socket", None),
            "read the firmware's memory": ("read memory", chip.process.pid),
            "read another's memory": ("read memory", pid),
            "read another's memory by a call": ("read memory by a call", [pid, address]),
            "trace another": ("trace", pid),
            "steal a descriptor": ("steal a descriptor", pid),
            "signal the firmware": ("signal", chip.process.pid),
            "signal the vault": ("signal", part(chip.process.pid, "vaultd")),
            "signal another": ("signal", pid),
            "signal by a descriptor": ("signal by a descriptor", pid),
            "signal by a descriptor's owner": ("signal by a descriptor's owner", pid),
            "limit another": ("limit", pid),
            "start a program": ("start a program", "/usr/bin/true"),
            "connect to a port of this host": ("connect", port),
        }


@pytest.fixture(scope="module")
def outcomes(home: Path, attempts: Attempts) -> dict[str, Outcomes]:
    """What came of each: in QEMU's place, in the console's, and with no confinement.

    The control comes last, since it succeeds.
    """
    environment = {**process.minimal_environment(), "SPACEGRAY_HOME": str(home)}
    ordinary = [sys.executable, "-c"]
    return {
        "qemu": intrude(
            attempts,
            lambda **streams: process.spawn(
                [SYSTEM_PYTHON, "-I", "-S", "-c", INTRUDER],
                reach=arguments.reach(kvm=True),
                **streams,
            ),
        ),
        "console": intrude(
            attempts,
            lambda **streams: subprocess.Popen(
                [*ordinary, AS_THE_CONSOLE + INTRUDER], env=environment, **streams
            ),
        ),
        "control": intrude(
            attempts, lambda **streams: subprocess.Popen([*ordinary, INTRUDER], **streams)
        ),
    }


def intrude(attempts: Attempts, start: Callable[..., "subprocess.Popen[bytes]"]) -> Outcomes:
    """Have an intruder try all of it."""
    with start(stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as intruder:
        said, errors = intruder.communicate(json.dumps(attempts).encode(), SECONDS)
    assert intruder.returncode == 0, errors.decode()
    outcomes: Outcomes = json.loads(said)
    return outcomes


def part(pid: int, name: str) -> int:
    """The process number of one of a chip's parts."""
    return next(each.pid for each in psutil.Process(pid).children() if each.name() == name)


@contextlib.contextmanager
def serving(family: socket.AddressFamily, address: Any) -> Iterator[int]:
    """A service that answers anything; yields its port, where it has one."""
    with socket.socket(family) as listener:
        listener.bind(address)
        listener.listen()

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    with listener.accept()[0] as peer:
                        peer.recv(64)
                        peer.sendall(b"welcome")

        threading.Thread(target=serve, daemon=True).start()
        name = listener.getsockname()
        yield name[1] if family == socket.AF_INET else 0
        listener.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def bound(path: str) -> Iterator[None]:
    """A socket that takes datagrams."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as taker:
        taker.bind(path)
        yield


@pytest.mark.parametrize("place", ["qemu", "console"])
def test_nothing_is_in_reach_but_what_is_meant(outcomes: dict[str, Outcomes], place: str) -> None:
    done = {name for name, outcome in outcomes[place].items() if outcome == "done"}
    assert done == MEANT[place], outcomes[place]


def test_control_without_confinement_all_of_it_is_in_reach(
    outcomes: dict[str, Outcomes],
) -> None:
    failed = {name: how for name, how in outcomes["control"].items() if how != "done"}
    if failed:
        pytest.skip(f"this host refuses these to anybody, so that they prove nothing: {failed}")


def test_the_running_machine_and_its_chip_are_confined(workstation: Running) -> None:
    """The real ones: QEMU by two filters, its own and ours, the chip's processes by one or more."""
    filters = {
        each.name().partition("-")[0]: status(each.pid, "Seccomp_filters")
        for each in scan.family(supervisor(workstation.cli))
        if status(each.pid, "NoNewPrivs") == "1" and status(each.pid, "Seccomp") == "2"
    }
    assert filters.keys() == {"qemu", "python", "vaultd", "ssdd"}, filters
    assert int(filters["qemu"]) >= 2


def test_the_running_console_is_confined(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("SPACEGRAY_HOME", str(tmp_path))
    paths = Paths.current()
    consoles.ensure(paths)
    try:
        filters = {
            words[words.index("-m") + 1]: status(each.pid, "Seccomp_filters")
            for each in psutil.process_iter()
            if str(tmp_path) in environment_of(each) and "-m" in (words := each.cmdline())
        }
    finally:
        consoles.stop(paths)
    assert filters == {"spacegray.console": "1", "spacegray.console.porter": "0"}


def status(pid: int, field: str) -> str:
    """A field of /proc/PID/status."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return value.strip()
    raise KeyError(field)


def environment_of(each: psutil.Process) -> str:
    """What a process was told of its home; nothing where that is no business of ours."""
    with contextlib.suppress(psutil.Error):
        return each.environ().get("SPACEGRAY_HOME", "")
    return ""
