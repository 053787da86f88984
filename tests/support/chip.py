"""What tests of the chip share: workstations and births, an image to sign, a still loop."""

import struct
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TypedDict

from spacegray import host
from spacegray.chip.client import ChipClient
from spacegray.chip.images import copy_firmware
from spacegray.chip.launch import ChipProcess, launch
from spacegray.chip.messages import Seal
from spacegray.nbd import NbdClient
from spacegray.paths import Paths, Slot, WorkstationPaths
from tests.support.authority import EPOCH, PRODUCT, TestAuthority, the_authority
from tests.support.vaultd import secret

PE_AT = 64
OPTIONAL_AT = PE_AT + 24
CHECKSUM_AT = OPTIONAL_AT + 64
CERTIFICATE_ENTRY_AT = OPTIONAL_AT + 112 + 4 * 8
HEADERS_BYTES = 512
SECTOR_BYTES = 512


def unsigned_image(*sections: bytes, trailing: bytes = b"") -> bytes:
    """A PE32+ EFI application for x86-64 whose sections hold `sections`; runs nowhere."""
    dos = b"MZ".ljust(60, b"\0") + struct.pack("<I", PE_AT)
    coff = struct.pack("<4sHHIIIHH", b"PE\0\0", 0x8664, len(sections), 0, 0, 0, 240, 0x0202)
    optional = bytearray(240)
    struct.pack_into("<H", optional, 0, 0x20B)
    struct.pack_into("<I", optional, 60, HEADERS_BYTES)
    struct.pack_into("<I", optional, 108, 16)
    table, at = b"", HEADERS_BYTES
    for content in sections:
        table += struct.pack("<8sIIIIIIHHI", b".data", len(content), 0, len(content), at, *[0] * 5)
        at += len(content)
    headers = dos + coff + bytes(optional) + table
    return headers.ljust(HEADERS_BYTES, b"\0") + b"".join(sections) + trailing


KERNEL = unsigned_image(b"kernel" * 256, trailing=b"symbols")
RECOVERY_KERNEL = unsigned_image(b"recovery" * 256)
RECOVERY = b"a medium with the recovery system".ljust(1024**2, b"\0")
SYSTEM = bytes(range(32))
SOURCE = "ovmf of this host"
ESP: dict[str, int | bytes] = {
    "number": 1,
    "start_sector": 2048,
    "sectors": 1048576,
    "guid": bytes(range(16)),
}
"""A system that no machine starts, but every chip lets in with a ticket."""


class StillLoop:
    """A loop that never turns: remembers what is watched."""

    def __init__(self) -> None:
        self.watched: dict[int, Callable[[], None]] = {}

    def watch(self, descriptor: int, callback: Callable[[], None]) -> None:
        self.watched[descriptor] = callback

    def unwatch(self, descriptor: int) -> None:
        self.watched.pop(descriptor, None)


def workstation(home: Path, name: str = "pro") -> WorkstationPaths:
    """A workstation's folder under `home`, with the host's firmware in slot a and no chip yet."""
    paths = Paths.current({"SPACEGRAY_HOME": str(home)}).workstation(name)
    paths.folder.mkdir(parents=True)
    fill(paths, "a")
    return paths


class Believed(TypedDict):
    """The signing authority, as `birth`, `adopt_bundle` and `restore` take it."""

    authority: bytes
    vendor: bytes


def believed(authority: TestAuthority | None = None) -> Believed:
    """This authority, or the usual one of the tests."""
    authority = authority or the_authority()
    return {"authority": authority.ticket_key, "vendor": authority.vendor}


def fill(at: WorkstationPaths, slot: Slot) -> None:
    """Put the host's firmware and RECOVERY into a slot's folder."""
    files = at.slot(slot)
    files.folder.mkdir(exist_ok=True)
    copy_firmware(host.ovmf(), files.folder)
    files.recovery.write_bytes(RECOVERY)


@contextmanager
def born(
    at: WorkstationPaths,
    *,
    seal: Seal = "keyfile",
    passphrase: bytes | None = None,
    tpm: Path | None = None,
    system: bool = True,
) -> Iterator[ChipProcess]:
    """The running chip of a workstation that had none, just born; slot a has a ticket if `system`.

    It believes `the_authority`.
    """
    with launch(at, new=True, seal=seal, tpm=tpm) as chip, chip.client() as client:
        with ExitStack() as given:
            descriptor = given.enter_context(secret(passphrase)) if passphrase else None
            client.birth(**believed(), seal=seal, passphrase=descriptor)
        if system:
            let_in(client)
        yield chip


def let_in(
    client: ChipClient,
    slot: Slot = "a",
    *,
    kernel: bytes | None = None,
    recovery: bytes | None = None,
    system: bytes = SYSTEM,
    epoch: int = EPOCH,
    source: str = SOURCE,
    tries: int = 0,
    authority: TestAuthority | None = None,
) -> None:
    """Have what lies in `slot` get a ticket: kernel images as given, signed or not."""
    with image_file(kernel or KERNEL) as one, image_file(recovery or RECOVERY_KERNEL) as two:
        request = client.request_ticket(
            one, two, slot=slot, product=PRODUCT, epoch=epoch, system=system
        )
    ticket = (authority or the_authority()).sign_ticket(request)
    client.accept_ticket(slot, ticket, source=source, esp=ESP, tries=tries)


@contextmanager
def image_file(content: bytes) -> Iterator[int]:
    """A descriptor of a file with this content."""
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.flush()
        yield file.fileno()


def copy(home: Path, to: Path, name: str = "pro") -> WorkstationPaths:
    """All of `home` copied to the new folder `to`, holes kept; the workstation in it."""
    subprocess.run(["cp", "-a", "--sparse=always", str(home), str(to)], check=True, timeout=300)
    return Paths.current({"SPACEGRAY_HOME": str(to)}).workstation(name)


class PlainDisk(NbdClient):
    """A client that reads and writes any bytes, not only whole sectors."""

    def read(self, offset: int, length: int) -> bytes:
        """Read `length` bytes at `offset`."""
        before, after = offset % SECTOR_BYTES, -(offset + length) % SECTOR_BYTES
        content = super().read(offset - before, before + length + after)
        return content[before : before + length]

    def write(self, offset: int, data: bytes | memoryview) -> None:
        """Write all of `data` at `offset`, the rest of its sectors as it was."""
        before, after = offset % SECTOR_BYTES, -(offset + len(data)) % SECTOR_BYTES
        head = self.read(offset - before, before) if before else b""
        tail = self.read(offset + len(data), after) if after else b""
        super().write(offset - before, head + bytes(data) + tail)


@contextmanager
def plain_disk(at: WorkstationPaths) -> Iterator[PlainDisk]:
    """The plain disk of a workstation that is off, through its own chip, to read and write."""
    with launch(at) as chip, chip.client() as mailbox:
        with PlainDisk(mailbox.open_disk("nbd")) as client:
            yield client
            client.flush()
        mailbox.close_disk()
