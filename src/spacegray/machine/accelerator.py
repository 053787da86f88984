"""The accelerator: KVM where it really runs a guest, software emulation (TCG) everywhere else.

/dev/kvm may open, create a machine and a processor, and yet run nothing. So nothing is
believed but a boot: the real firmware, with SMM and in long mode, has to speak on the serial
console before a deadline. The finding is kept for this boot of the host, this kernel, this
QEMU and this user. Trusts: the cache folder, which is the user's own.
"""

import os
import selectors
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import msgspec

from spacegray import host, process
from spacegray.errors import SpacegrayError
from spacegray.files import locked, make_private, write_atomically
from spacegray.machine import arguments
from spacegray.paths import Paths

Name = Literal["kvm", "tcg"]

MARKER: Final = b"BdsDxe: "
"""What OVMF (2022.11 and 2025.02) prints in its last phase, in long mode, whatever it boots."""
PROBE_SECONDS: Final = 15.0
"""KVM takes one to two seconds; a busy host may take a few times that."""
PROBE_MEMORY_MB: Final = 256
PROBE_OUTPUT_LIMIT_BYTES: Final = 64 * 1024
REASON_LIMIT_CHARACTERS: Final = 160

KVM_TIMEOUT_FACTOR: Final = 1.0
TCG_TIMEOUT_FACTOR: Final = 10.0
"""Under emulation a start takes 5 to 10 times as long (docs/accelerator.md)."""

_CPU: Final[dict[Name, str]] = {"kvm": "host,migratable=off", "tcg": "max"}


@dataclass(frozen=True)
class Accelerator:
    """What runs the guest's instructions, why that, and how much longer time-outs are for it."""

    name: Name
    reason: str
    timeout_factor: float


class Finding(msgspec.Struct, frozen=True):
    """What a probe found; it counts only as long as `key` is the same."""

    key: list[str]
    works: bool
    detail: str


def cpu(name: Name) -> str:
    """QEMU's model for the processor: all that the host, or the emulation, can do."""
    return _CPU[name]


def choose(paths: Paths, forced: str | None = None) -> Accelerator:
    """The accelerator for this user on this host; `forced` is "kvm", "tcg" or None.

    May take `PROBE_SECONDS`, once for each boot of the host. Raises SpacegrayError when KVM is
    forced and there is none to open, or QEMU or its firmware is missing.
    """
    if forced == "tcg":
        return _tcg("forced")
    kvm = host.kvm()
    if not kvm.usable:
        if forced == "kvm":
            raise SpacegrayError("using KVM", kvm.problem, kvm.remedy)
        return _tcg(kvm.problem)
    found = _finding(paths)
    if found.works:
        return Accelerator("kvm", f"KVM: {found.detail}", KVM_TIMEOUT_FACTOR)
    if forced == "kvm":
        return Accelerator("kvm", f"KVM: forced, although {found.detail}", KVM_TIMEOUT_FACTOR)
    return _tcg(found.detail)


def _tcg(reason: str) -> Accelerator:
    return Accelerator("tcg", f"software emulation: {reason}", TCG_TIMEOUT_FACTOR)


def _finding(paths: Paths) -> Finding:
    """The kept finding if it is about this very situation, else a new one."""
    folder = make_private(paths.cache)
    kept, key = folder / "accelerator.json", _key()
    # Whoever comes second waits here and then reads what the first found.
    with locked(folder / "accelerator.lock", timeout_seconds=None):
        finding = _read(kept)
        if finding is None or finding.key != key:
            works, detail = probe()
            finding = Finding(key, works, detail)
            write_atomically(kept, msgspec.json.encode(finding))
    return finding


def _key() -> list[str]:
    node = host.KVM_DEVICE.stat()
    access = f"{node.st_mode:o}:{node.st_uid}:{node.st_gid}"
    return [process.boot_id(), os.uname().release, host.qemu_version(), str(os.geteuid()), access]


def _read(path: Path) -> Finding | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Finding)
    except (OSError, msgspec.MsgspecError):
        return None


def probe(*, accelerator: Name = "kvm", timeout_seconds: float = PROBE_SECONDS) -> tuple[bool, str]:
    """Boot the real firmware, with no disk, until it speaks: whether it did, and one clause on it.

    Raises SpacegrayError when QEMU or its firmware is missing.
    """
    files = host.ovmf()
    started = time.monotonic()
    ours, theirs = socket.socketpair()
    with (
        ours,
        files.code.open("rb") as image,
        tempfile.TemporaryFile() as variables,
        tempfile.TemporaryFile() as errors,
    ):
        with files.variables.open("rb") as template:
            shutil.copyfileobj(template, variables)
            variables.flush()
        with theirs:
            parts = arguments.Firmware(image.fileno(), variables.fileno())
            descriptors = (parts.image, parts.variables, theirs.fileno())
            qemu = process.spawn(
                _probe_command(accelerator, parts, theirs.fileno()),
                descriptors=descriptors,
                reach=arguments.reach(kvm=accelerator == "kvm"),
                stdout=subprocess.DEVNULL,
                stderr=errors.fileno(),
            )
        try:
            spoke = _await_marker(ours, started + timeout_seconds)
        finally:
            qemu.kill()
            qemu.wait()
        if spoke:
            return True, f"the firmware booted in {time.monotonic() - started:.1f} s"
        errors.seek(0)
        said = errors.read(PROBE_OUTPUT_LIMIT_BYTES).decode(errors="replace")
    if time.monotonic() < started + timeout_seconds:
        return False, f"/dev/kvm opens, but QEMU failed ({_said(said)})"
    return False, f"/dev/kvm opens, but the firmware did not come up in {timeout_seconds:g} s"


def _probe_command(accelerator: Name, parts: arguments.Firmware, serial: int) -> Sequence[str]:
    return [
        host.QEMU,
        *arguments.isolation(),
        "-machine",
        "q35,smm=on",
        "-accel",
        accelerator,
        "-cpu",
        cpu(accelerator),
        "-m",
        f"{PROBE_MEMORY_MB}M",
        *arguments.firmware(parts, secure=True),
        *arguments.channel("serial", serial),
        "-device",
        "isa-serial,chardev=serial",
    ]


def _await_marker(connection: socket.socket, deadline: float) -> bool:
    """Whether the marker comes before `deadline` (monotonic) and before QEMU ends."""
    heard = b""
    connection.setblocking(False)
    with selectors.DefaultSelector() as selector:
        selector.register(connection, selectors.EVENT_READ)
        while (left := deadline - time.monotonic()) > 0:
            if not selector.select(left):
                continue
            try:
                data = connection.recv(4096)
            except ConnectionError:
                return False
            if not data:
                return False
            heard = (heard + data)[-PROBE_OUTPUT_LIMIT_BYTES:]
            if MARKER in heard:
                return True
    return False


def _said(text: str) -> str:
    """QEMU's first complaint (what follows an assertion is noise), without what is no text."""
    lines = [line.strip() for line in text.splitlines() if "warning:" not in line]
    first = next((line for line in lines if line), "it said nothing")
    first = first.removeprefix(f"{host.QEMU}: ").removeprefix("error: ").rstrip(".")
    return "".join(filter(str.isprintable, first))[:REASON_LIMIT_CHARACTERS]
