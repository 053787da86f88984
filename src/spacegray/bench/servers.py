"""The servers that `bench ssd` compares, each with one image of the same size over NBD.

ours is the whole chip: vault, firmware and controller of a workstation that has nothing else.
The others serve a file as they come: QEMU's storage daemon and nbdkit, each plain and with LUKS.
The plain two share one raw file, the two with LUKS share one LUKS file; all of them run all the
time, and the bench loads one after the other.
"""

import contextlib
import os
import secrets
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from spacegray import host, process
from spacegray.bench.home import NAME
from spacegray.boot.authority import embedded
from spacegray.chip import launch as chips
from spacegray.chip.client import ChipClient
from spacegray.chip.controller import Status
from spacegray.errors import SpacegrayError
from spacegray.files import make_private
from spacegray.paths import Paths
from spacegray.sockets import bind_unix

OURS: Final = "ours"
RAW: Final = "qsd_raw"
QEMU_LUKS: Final = "qsd_luks"
NBDKIT: Final = "nbdkit_file"
NBDKIT_LUKS: Final = "nbdkit_luks"
LABELS: Final = {
    OURS: "ours",
    RAW: "qemu-storage-daemon raw",
    QEMU_LUKS: "qemu-storage-daemon LUKS",
    NBDKIT: "nbdkit file",
    NBDKIT_LUKS: "nbdkit file, LUKS filter",
}
UNPROTECTED: Final = (RAW, NBDKIT)

READY_SECONDS: Final = 30.0
POLL_SECONDS: Final = 0.02
TOOL_SECONDS: Final = 120.0
LUKS_ATTEMPTS: Final = 20
LUKS_STRETCHING_MS: Final = 10
"""The passphrase is random, and unlocking is not what is measured."""
_CLOCK_FAULT: Final = "accurate CPU usage"
"""QEMU before 9.1 sometimes cannot time its key stretching; the next attempt mostly can."""

_TOOLS: Final = {
    "fio": "fio",
    "nbdkit": "nbdkit",
    "qemu-img": "qemu-utils",
    "qemu-storage-daemon": "qemu-utils (on Debian 12 qemu-system-common)",
}


@dataclass(frozen=True)
class Server:
    """A running server: where it listens, and the process under which all of it runs.

    `mailbox` is there where it is ours.
    """

    key: str
    socket: Path
    pid: int
    mailbox: ChipClient | None = None

    @property
    def uri(self) -> str:
        """For fio and libnbd."""
        return f"nbd+unix:///?socket={self.socket}"

    def status(self) -> Status:
        """The disk's own numbers, of ours; raises SpacegrayError when it does not say."""
        health = self.mailbox.disk_health() if self.mailbox is not None else None
        if health is None or health.status is None:
            raise SpacegrayError(
                f"asking {LABELS[self.key]}",
                "it does not say how it is" if health is None else health.detail,
                "measure again",
            )
        return health.status


def check_tools() -> None:
    """Raise SpacegrayError, naming the packages, when something is missing that measures."""
    missing = {package for name, package in _TOOLS.items() if host.find_program(name) is None}
    if missing:
        raise SpacegrayError(
            "measuring the SSD",
            f"{', '.join(sorted(missing))}: not installed",
            "install it (apt-get install --no-install-recommends) and try again",
        )
    if " nbd\n" not in _run(["fio", "--enghelp"]).replace("\t", " "):
        raise SpacegrayError(
            "measuring the SSD", "this fio has no NBD engine", "install the distribution's fio"
        )


@contextlib.contextmanager
def all_servers(folder: Path, size_bytes: int) -> Iterator[list[Server]]:
    """Everything that is compared, ours first, in `folder`; ended and removed by the caller."""
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(ours(folder, size_bytes)),
            *stack.enter_context(others(folder, size_bytes)),
        ]


@contextlib.contextmanager
def others(folder: Path, size_bytes: int) -> Iterator[list[Server]]:
    """Everything but ours."""
    plain, luks, key = folder / "plain.raw", folder / "luks.img", folder / "passphrase"
    with plain.open("wb") as file:
        file.truncate(size_bytes)
    key.touch(mode=0o600)
    key.write_text(secrets.token_hex(32))
    _make_luks(luks, key, size_bytes)
    secret = ("--object", f"secret,id=key,file={key}")
    with contextlib.ExitStack() as stack:
        sockets = stack.enter_context(_socket_folder())

        def start(key: str, command: Sequence[str | Path]) -> Server:
            return stack.enter_context(running(key, sockets / key, command))

        yield [
            start(RAW, raw_command(sockets / RAW, plain)),
            start(
                QEMU_LUKS,
                [
                    *("qemu-storage-daemon", *secret),
                    *("--blockdev", f"driver=file,node-name=file,filename={luks},discard=unmap"),
                    "--blockdev",
                    "driver=luks,node-name=disk,file=file,key-secret=key,discard=unmap",
                    *_qemu_export(sockets / QEMU_LUKS),
                ],
            ),
            start(NBDKIT, ["nbdkit", "-f", "-U", sockets / NBDKIT, "file", plain]),
            start(
                NBDKIT_LUKS,
                [
                    *("nbdkit", "-f", "-U", sockets / NBDKIT_LUKS, "--filter=luks"),
                    *("file", luks, f"passphrase=+{key}"),
                ],
            ),
        ]


@contextlib.contextmanager
def raw(folder: Path, size_bytes: int) -> Iterator[Server]:
    """QEMU's storage daemon with a raw file, alone."""
    image = folder / "plain.raw"
    with image.open("wb") as file:
        file.truncate(size_bytes)
    with _socket_folder() as sockets:
        socket = sockets / RAW
        with running(RAW, socket, raw_command(socket, image)) as server:
            yield server


@contextlib.contextmanager
def ours(folder: Path, size_bytes: int) -> Iterator[Server]:
    """A chip born for this, with a new disk of `size_bytes`, served until the end."""
    with chip(folder, size_bytes) as (process_, mailbox), _socket_folder() as sockets:
        path = sockets / OURS
        # The controller alone keeps it: nobody must wait at the socket of one that has died.
        with bind_unix(path) as listener:
            mailbox.serve_disk(listener)
        yield Server(OURS, path, process_, mailbox)
        mailbox.close_disk()


@contextlib.contextmanager
def chip(folder: Path, size_bytes: int) -> Iterator[tuple[int, ChipClient]]:
    """A chip born in `folder` with a new disk: the number of its process, and its mailbox."""
    paths = Paths.current({"SPACEGRAY_HOME": str(folder)})
    at = paths.workstation(NAME)
    for each in (at.folder, at.state_folder, at.run, at.logs):
        make_private(each)
    with embedded(paths.authority) as authority:
        identity = authority.identity()
    with (
        chips.launch(at, new=True, log=at.logs / "chip.log") as launched,
        launched.client() as mailbox,
    ):
        mailbox.birth(authority=identity.ticket_key, vendor=identity.vendor)
        mailbox.create_disk(size_bytes)
        yield launched.process.pid, mailbox


def raw_command(socket: Path, image: Path) -> list[str | Path]:
    """QEMU's storage daemon, serving the file `image` as it is."""
    return [
        "qemu-storage-daemon",
        *("--blockdev", f"driver=file,node-name=file,filename={image},discard=unmap"),
        *("--blockdev", "driver=raw,node-name=disk,file=file,discard=unmap"),
        *_qemu_export(socket),
    ]


def _qemu_export(socket: Path) -> list[str]:
    return [
        *("--nbd-server", f"addr.type=unix,addr.path={socket},max-connections=0"),
        *("--export", "type=nbd,id=front,node-name=disk,name=,writable=on"),
    ]


@contextlib.contextmanager
def _socket_folder() -> Iterator[Path]:
    """A folder with a short name: a socket's address has 107 bytes, and folders can be long."""
    with tempfile.TemporaryDirectory(prefix="spacegray-") as folder:
        yield Path(folder)


@contextlib.contextmanager
def running(key: str, socket: Path, command: Sequence[str | Path]) -> Iterator[Server]:
    """Start a server; listening when this is entered."""
    log = socket.with_suffix(".log")
    with log.open("wb") as words:
        child = process.spawn(command, stdout=words.fileno(), stderr=words.fileno())
    try:
        deadline = time.monotonic() + READY_SECONDS
        while not socket.exists():
            if child.poll() is not None or time.monotonic() > deadline:
                said = log.read_text(errors="replace").strip().splitlines()
                raise SpacegrayError(
                    f"starting {LABELS[key]}",
                    said[-1] if said else "it does not listen",
                    "see that its package is whole",
                )
            time.sleep(POLL_SECONDS)
        yield Server(key, socket, child.pid)
    finally:
        process.stop(child)


def _make_luks(path: Path, key: Path, size_bytes: int) -> None:
    command = ["qemu-img", "create", "-q", "-f", "luks", "--object", f"secret,id=key,file={key}"]
    command += ["-o", f"key-secret=key,iter-time={LUKS_STRETCHING_MS}", str(path), str(size_bytes)]
    for left in reversed(range(LUKS_ATTEMPTS)):
        try:
            _run(command)
            return
        except SpacegrayError as error:
            if not left or _CLOCK_FAULT not in error.stopped_by:
                raise


def _run(command: Sequence[str]) -> str:
    """What a tool prints; raises SpacegrayError with its last line when it fails."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "LC_ALL": "C"},
            timeout=TOOL_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SpacegrayError(f"running {command[0]}", error, "see that it works") from None
    if done.returncode:
        lines = done.stdout.strip().splitlines() or [f"status {done.returncode}"]
        raise SpacegrayError(f"running {command[0]}", lines[-1], "see that it works")
    return done.stdout
