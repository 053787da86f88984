"""The unified kernel image: systemd's stub with kernel, initramfs and command line as sections.

Formats: the UAPI group's "Unified Kernel Image" specification, Microsoft's "PE Format". The
whole file is covered by one Authenticode signature, which the chip adds; the stub ignores any
other command line while Secure Boot is on.

Invariants: the stub's own sections are untouched, the new ones follow in file and in memory,
aligned as the stub's header asks.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

MZ: Final = b"MZ"
PE_MAGIC: Final = b"PE\0\0"
PE32_PLUS: Final = 0x20B
PE_OFFSET_AT: Final = 0x3C
COFF_BYTES: Final = 20
SECTION: Final = struct.Struct("<8sIIIIIIHHI")
INITIALISED_READABLE: Final = 0x40000040
NAME_LIMIT_BYTES: Final = 8

# Offsets from the start of the optional header (PE32+).
SECTION_ALIGNMENT_AT: Final = 32
FILE_ALIGNMENT_AT: Final = 36
IMAGE_SIZE_AT: Final = 56
HEADERS_SIZE_AT: Final = 60
CHECKSUM_AT: Final = 64
INITIALISED_SIZE_AT: Final = 8
CERTIFICATE_TABLE_AT: Final = 112 + 4 * 8


@dataclass(frozen=True)
class _Headers:
    coff: int
    optional: int
    table: int
    sections: int
    section_alignment: int
    file_alignment: int
    headers_bytes: int


def assemble(stub: bytes, sections: Mapping[str, bytes]) -> bytes:
    """`stub` with `sections` (names such as `.linux`) appended in their order, unsigned.

    Raises ValueError for a stub that is no PE32+ image, is signed, or has no room for the
    headers of the new sections.
    """
    image = bytearray(stub)
    headers = _parse(image)
    end = headers.table + (headers.sections + len(sections)) * SECTION.size
    if end > headers.headers_bytes or any(image[headers.table + headers.sections * 40 : end]):
        raise ValueError("the stub has no room for more section headers")
    address = 0
    for number in range(headers.sections):
        fields = SECTION.unpack_from(image, headers.table + number * SECTION.size)
        address = max(address, fields[2] + fields[1])
    added = 0
    for number, (name, content) in enumerate(sections.items(), start=headers.sections):
        if len(name.encode()) > NAME_LIMIT_BYTES:
            raise ValueError(f"the section name {name} is too long")
        address = _aligned(address, headers.section_alignment)
        image += bytes(-len(image) % headers.file_alignment)
        file_size = _aligned(len(content), headers.file_alignment)
        fields = (name.encode(), len(content), address, file_size, len(image), 0, 0, 0, 0)
        at = headers.table + number * SECTION.size
        SECTION.pack_into(image, at, *fields, INITIALISED_READABLE)
        image += content + bytes(file_size - len(content))
        address += len(content)
        added += file_size
    struct.pack_into("<H", image, headers.coff + 2, headers.sections + len(sections))
    optional = headers.optional
    (initialised,) = struct.unpack_from("<I", image, optional + INITIALISED_SIZE_AT)
    struct.pack_into("<I", image, optional + INITIALISED_SIZE_AT, initialised + added)
    size = _aligned(address, headers.section_alignment)
    struct.pack_into("<I", image, optional + IMAGE_SIZE_AT, size)
    struct.pack_into("<I", image, optional + CHECKSUM_AT, 0)
    return bytes(image)


def _parse(image: bytearray) -> _Headers:
    try:
        (pe,) = struct.unpack_from("<I", image, PE_OFFSET_AT)
        coff = pe + len(PE_MAGIC)
        optional = coff + COFF_BYTES
        sections, optional_bytes = (
            struct.unpack_from("<H", image, coff + 2)[0],
            struct.unpack_from("<H", image, coff + 16)[0],
        )
        (kind,) = struct.unpack_from("<H", image, optional)
        section_alignment, file_alignment = struct.unpack_from(
            "<II", image, optional + SECTION_ALIGNMENT_AT
        )
        (headers_bytes,) = struct.unpack_from("<I", image, optional + HEADERS_SIZE_AT)
        signed = struct.unpack_from("<II", image, optional + CERTIFICATE_TABLE_AT)
    except struct.error:
        raise ValueError("the stub is cut short") from None
    if image[:2] != MZ or image[pe:coff] != PE_MAGIC or kind != PE32_PLUS:
        raise ValueError("the stub is no PE32+ image")
    if signed != (0, 0):
        raise ValueError("the stub is signed already")
    return _Headers(
        coff, optional, optional + optional_bytes, sections,
        section_alignment, file_alignment, headers_bytes,
    )  # fmt: skip


def _aligned(value: int, alignment: int) -> int:
    return -(-value // alignment) * alignment
