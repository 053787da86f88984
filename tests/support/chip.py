"""What tests of the chip share: workstations and births, an image to sign, a still loop."""

import struct
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from spacegray import host
from spacegray.chip.images import copy_firmware
from spacegray.chip.launch import ChipProcess, launch
from spacegray.chip.messages import Seal
from spacegray.nbd import NbdClient
from spacegray.paths import Paths, WorkstationPaths
from tests.support.vaultd import secret

PE_AT = 64
OPTIONAL_AT = PE_AT + 24
CHECKSUM_AT = OPTIONAL_AT + 64
CERTIFICATE_ENTRY_AT = OPTIONAL_AT + 112 + 4 * 8
HEADERS_BYTES = 512
SECTOR_BYTES = 512


class StillLoop:
    """A loop that never turns: remembers what is watched."""

    def __init__(self) -> None:
        self.watched: dict[int, Callable[[], None]] = {}

    def watch(self, descriptor: int, callback: Callable[[], None]) -> None:
        self.watched[descriptor] = callback

    def unwatch(self, descriptor: int) -> None:
        self.watched.pop(descriptor, None)


def workstation(home: Path, name: str = "pro") -> WorkstationPaths:
    """A workstation's folder under `home`, with the host's firmware in it and no chip yet."""
    paths = Paths.current({"SPACEGRAY_HOME": str(home)}).workstation(name)
    paths.folder.mkdir(parents=True)
    copy_firmware(host.ovmf(), paths.folder)
    return paths


@contextmanager
def born(
    at: WorkstationPaths,
    *,
    source: str = "host",
    seal: Seal = "keyfile",
    passphrase: bytes | None = None,
    tpm: Path | None = None,
) -> Iterator[ChipProcess]:
    """The running chip of a workstation that had none, just born."""
    with launch(at, new=True, seal=seal, tpm=tpm) as chip, chip.client() as client:
        with ExitStack() as given:
            descriptor = given.enter_context(secret(passphrase)) if passphrase else None
            client.birth(source, seal, descriptor)
        yield chip


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
