"""What tests of the chip share: a workstation to have a chip, an image to sign, a still loop."""

import os
import struct
from collections.abc import Callable
from pathlib import Path

from spacegray import host
from spacegray.chip.images import copy_firmware
from spacegray.paths import Paths, WorkstationPaths

PE_AT = 64
OPTIONAL_AT = PE_AT + 24
CHECKSUM_AT = OPTIONAL_AT + 64
CERTIFICATE_ENTRY_AT = OPTIONAL_AT + 112 + 4 * 8
HEADERS_BYTES = 512
KEY_TEXT = b"MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
"""Stands for the disk's key where no vault is needed; as long as a real one."""


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


def release_key(pipe: int, text: bytes = KEY_TEXT) -> None:
    """What the vault does when asked for the disk's key."""
    os.write(pipe, text)


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
