"""Promise: the kernel image is a PE file that firmware accepts, the stub untouched inside it."""

import struct

import pefile
import pytest

from spacegray.system.kernel_image import assemble

FILE_ALIGNMENT = 0x200
SECTION_ALIGNMENT = 0x1000
TEXT = b"\xc3" * 700


def stub(*, signed: bool = False, header_bytes: int = 0x400) -> bytes:
    """A PE32+ image with one section, as small as the format allows."""
    dos = b"MZ" + bytes(58) + struct.pack("<I", 64)
    coff = struct.pack("<HHIIIHH", 0x8664, 1, 0, 0, 0, 240, 0x22)
    optional = struct.pack(
        "<HBBIIIIIQIIHHHHHHIIIIHHQQQQII",
        0x20B, 0, 0, 0x400, 0, 0, 0x1000, 0x1000, 0, SECTION_ALIGNMENT, FILE_ALIGNMENT,
        0, 0, 0, 0, 0, 0, 0, 0x2000, header_bytes, 0xABCD, 10, 0, 0, 0, 0, 0, 0, 16,
    )  # fmt: skip
    directories = [(0, 0)] * 16
    if signed:
        directories[4] = (0x800, 8)
    optional += b"".join(struct.pack("<II", *entry) for entry in directories)
    section = struct.pack(
        "<8sIIIIIIHHI", b".text", len(TEXT), 0x1000, 0x400, header_bytes, 0, 0, 0, 0, 0x60000020
    )
    head = dos + b"PE\0\0" + coff + optional + section
    return head.ljust(header_bytes, b"\0") + TEXT.ljust(0x400, b"\0")


SECTIONS = {".cmdline": b"a b\0", ".initrd": b"i" * 5000, ".linux": b"MZ" * 4096}


def test_every_section_is_found_where_the_headers_say() -> None:
    image = pefile.PE(data=assemble(stub(), SECTIONS))
    found = {s.Name.rstrip(b"\0").decode(): s for s in image.sections}
    assert list(found) == [".text", *SECTIONS]
    assert found[".text"].get_data()[: len(TEXT)] == TEXT
    for name, content in SECTIONS.items():
        assert found[name].Misc_VirtualSize == len(content)
        assert found[name].get_data()[: len(content)] == content


def test_alignment_and_sizes_are_what_firmware_checks() -> None:
    data = assemble(stub(), SECTIONS)
    image = pefile.PE(data=data)
    end = 0
    for section in image.sections:
        assert section.PointerToRawData % FILE_ALIGNMENT == 0
        assert section.SizeOfRawData % FILE_ALIGNMENT == 0
        assert section.VirtualAddress % SECTION_ALIGNMENT == 0
        assert section.VirtualAddress >= end
        end = section.VirtualAddress + section.Misc_VirtualSize
    header = image.OPTIONAL_HEADER
    assert header.SizeOfImage == -(-end // SECTION_ALIGNMENT) * SECTION_ALIGNMENT
    last = image.sections[-1]
    assert last.PointerToRawData + last.SizeOfRawData == len(data)
    assert header.CheckSum == 0


def test_the_same_parts_make_the_same_image() -> None:
    assert assemble(stub(), SECTIONS) == assemble(stub(), SECTIONS)


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (b"", "cut short"),
        (stub()[:100], "cut short"),
        (b"ZM" + stub()[2:], "no PE32"),
        (stub(signed=True), "signed already"),
    ],
)
def test_a_stub_that_is_none_is_refused(broken: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        assemble(broken, SECTIONS)


def test_no_room_for_headers_is_noticed() -> None:
    many = {f".s{number}": b"x" for number in range(20)}
    with pytest.raises(ValueError, match="no room"):
        assemble(stub(), many)


def test_a_long_section_name_is_refused() -> None:
    with pytest.raises(ValueError, match="too long"):
        assemble(stub(), {".muchtoolong": b""})
