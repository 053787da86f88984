"""Authenticode: what of a PE image is signed, and where its signature is or goes.

Sources: Microsoft, "Windows Authenticode Portable Executable Signature Format" (2008), and
"PE Format". The digest must be the one the firmware computes (EDK II's
DxeImageVerificationLib), so nothing is guessed: an image that is not plainly well-formed is
refused. The image comes from a stranger; every offset is checked before it is used.
"""

import dataclasses
import hashlib
import struct
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

IMAGE_LIMIT_BYTES: Final = 256 * 1024**2
SECTION_LIMIT: Final = 96
"""As many as Windows' loader takes."""

_PE_OFFSET = 0x3C
_COFF = struct.Struct("<4sHHIIIHH")
_MACHINE_X64 = 0x8664
_MAGIC_PE32_PLUS = 0x20B
_HEADERS_SIZE_AT, _CHECKSUM_AT, _DIRECTORIES_COUNT_AT = 60, 64, 108
_CERTIFICATE_ENTRY_AT = 112 + 4 * 8
_CERTIFICATE_ENTRY = 4
_SECTION_HEADER_BYTES = 40
_WIN_CERTIFICATE = struct.Struct("<IHH")
_REVISION_2, _TYPE_PKCS_SIGNED_DATA = 0x0200, 0x0002
_ALIGNMENT = 8


class NotSignableError(ValueError):
    """The image is none of which the digest is known for sure; the text says why."""


@dataclass(frozen=True)
class Image:
    """A well-formed image, its content up to where its signatures begin or will begin."""

    content: bytes
    checksum_at: int
    certificate_entry_at: int
    headers_size_bytes: int
    sections: tuple[tuple[int, int], ...]
    certificates: tuple[int, int]
    """Offset and size of its signatures; two zeros while it has none."""

    @property
    def end(self) -> int:
        """Where the last section ends."""
        return self.headers_size_bytes + sum(size for _, size in self.sections)

    def digest(self) -> bytes:
        """The SHA-256 that a signature covers: all but checksum, directory entry, signatures."""
        view = memoryview(self.content)
        digest = hashlib.sha256(view[: self.checksum_at])
        digest.update(view[self.checksum_at + 4 : self.certificate_entry_at])
        digest.update(view[self.certificate_entry_at + 8 : self.headers_size_bytes])
        hashed_bytes = self.headers_size_bytes
        for start, size in self.sections:
            digest.update(view[start : start + size])
            hashed_bytes += size
        digest.update(view[hashed_bytes:])
        return digest.digest()

    def signed(self, signature: bytes) -> bytes:
        """The image with `signature` (PKCS#7 SignedData, DER) as its certificate table."""
        length = _WIN_CERTIFICATE.size + len(signature)
        entry = _WIN_CERTIFICATE.pack(length, _REVISION_2, _TYPE_PKCS_SIGNED_DATA) + signature
        result = bytearray(self.content)
        table = _padded(entry)
        struct.pack_into("<II", result, self.certificate_entry_at, len(result), len(table))
        return bytes(result + table)


def parse(content: bytes) -> Image:
    """The unsigned x86-64 image in `content`; raises NotSignableError for anything else."""
    image = _bounded(_padded(content))
    if image.certificates != (0, 0):
        raise NotSignableError("the image is signed already")
    return image


def digest(content: bytes) -> bytes:
    """The SHA-256 by which firmware knows this x86-64 image, signed or not.

    The same before and after signing. Raises NotSignableError for what is not well-formed, also
    where anything follows the signatures or they are not where the sections end.
    """
    image = _bounded(content)
    start, size = image.certificates
    if (start, size) == (0, 0):
        return parse(content).digest()
    if start % _ALIGNMENT or start < image.end or start + size != len(content):
        raise NotSignableError("the image's signatures are not at its end")
    return dataclasses.replace(image, content=content[:start]).digest()


def _bounded(content: bytes) -> Image:
    if len(content) > IMAGE_LIMIT_BYTES:
        raise NotSignableError(f"the image is longer than {IMAGE_LIMIT_BYTES} bytes")
    try:
        return _parse(content)
    except struct.error:
        raise NotSignableError("the image ends within its headers") from None


def _parse(content: bytes) -> Image:
    if content[:2] != b"MZ":
        raise NotSignableError("not a PE image")
    (coff_at,) = struct.unpack_from("<I", content, _PE_OFFSET)
    magic, machine, count, _, _, _, optional_bytes, _ = _COFF.unpack_from(content, coff_at)
    if magic != b"PE\0\0" or machine != _MACHINE_X64:
        raise NotSignableError("not a PE image for x86-64")
    optional_at = coff_at + _COFF.size
    (optional_magic,) = struct.unpack_from("<H", content, optional_at)
    (directories,) = struct.unpack_from("<I", content, optional_at + _DIRECTORIES_COUNT_AT)
    certificate_at = optional_at + _CERTIFICATE_ENTRY_AT
    if (
        optional_magic != _MAGIC_PE32_PLUS
        or directories <= _CERTIFICATE_ENTRY
        or optional_bytes < _CERTIFICATE_ENTRY_AT + 8
    ):
        raise NotSignableError("the image's optional header is not PE32+ with a certificate entry")
    certificates = struct.unpack_from("<II", content, certificate_at)
    (headers_bytes,) = struct.unpack_from("<I", content, optional_at + _HEADERS_SIZE_AT)
    table_at = optional_at + optional_bytes
    if (
        count > SECTION_LIMIT
        or table_at + count * _SECTION_HEADER_BYTES > headers_bytes
        or headers_bytes > len(content)
    ):
        raise NotSignableError("the image's headers do not fit its section table")
    sections = []
    for index in range(count):
        at = table_at + index * _SECTION_HEADER_BYTES
        size, start = struct.unpack_from("<II", content, at + 16)
        if size:
            sections.append((start, size))
    sections.sort()
    _check_layout(sections, headers_bytes, len(content))
    return Image(
        content,
        optional_at + _CHECKSUM_AT,
        certificate_at,
        headers_bytes,
        tuple(sections),
        (certificates[0], certificates[1]),
    )


def _check_layout(sections: list[tuple[int, int]], headers_bytes: int, total: int) -> None:
    """Sections must follow one another without a gap.

    The format hashes what follows the sections by the sum of their sizes, not by position: a
    gap would shift that and leave as many bytes at the end of a section doubly counted.
    """
    borders = [(0, headers_bytes), *sections]
    for (start, size), (next_start, _) in pairwise(borders):
        if start + size != next_start:
            raise NotSignableError("the image's sections overlap or leave gaps")
    last_start, last_size = borders[-1]
    if last_start + last_size > total:
        raise NotSignableError("the image ends within its sections")


def _padded(content: bytes) -> bytes:
    return content + bytes(-len(content) % _ALIGNMENT)
