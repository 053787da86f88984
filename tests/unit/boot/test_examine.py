"""Promise: what the machine's firmware would start is found and named, whatever the guest made of
its boot partition; no such partition makes whoever looks at it wait, or fail."""

import random
import struct
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from spacegray import authenticode
from spacegray.boot import examine
from spacegray.system import layout
from tests.support.authority import the_authority
from tests.support.chip import unsigned_image

SIZE_BYTES = 512 * layout.MIB
START = layout.MIB
KERNEL = unsigned_image(random.Random(1).randbytes(5 * layout.MIB))
SECONDS = 10
"""More than the worst file system costs on a slow host."""


class Disk:
    """A sparse disk in memory with a boot partition at START; bounds are checked."""

    def __init__(self, content: bytes | bytearray) -> None:
        self.content = bytearray(content)
        self.read_bytes = 0

    def read(self, offset: int, length: int) -> bytes:
        assert offset % 512 == length % 512 == 0
        assert offset >= START
        assert offset + length <= START + SIZE_BYTES
        self.read_bytes += length
        part = bytes(self.content[offset - START : offset - START + length])
        return part.ljust(length, b"\0")


@pytest.fixture(scope="module")
def volume() -> bytes:
    return layout.boot_file_system(KERNEL, SIZE_BYTES)


def test_the_kernel_image_is_found_byte_for_byte(volume: bytes):
    disk = Disk(volume)
    assert examine.kernel(disk.read, START, SIZE_BYTES) == KERNEL
    assert disk.read_bytes < len(KERNEL) + 4 * layout.MIB


def test_its_digest_is_that_of_the_unsigned_one_signed_or_not():
    image = authenticode.parse(KERNEL)
    signed = image.signed(the_authority().sign_image(image.digest()))
    for content in (KERNEL, signed):
        disk = Disk(layout.boot_file_system(content, SIZE_BYTES))
        assert examine.kernel_digest(disk.read, START, SIZE_BYTES) == image.digest()


def test_what_is_no_kernel_image_is_said():
    disk = Disk(layout.boot_file_system(b"#!/bin/sh\n" * 100, SIZE_BYTES))
    with pytest.raises(examine.NotFoundError, match="no kernel image: not a PE image"):
        examine.kernel_digest(disk.read, START, SIZE_BYTES)


def test_files_in_pieces_are_put_together(volume: bytes):
    """The chain of clusters is followed, not only what lies in a row."""
    changed = bytearray(volume)
    reserved, fat_sectors = struct.unpack_from("<H20xI", volume, 14)
    fat_at = reserved * 512
    clusters_at = (reserved + 2 * fat_sectors) * 512
    fat = list(struct.unpack_from("<4096I", volume, fat_at))
    first = next(
        n for n in range(2, 4096)
        if changed[clusters_at + (n - 2) * 4096 :][:2] == b"MZ"
    )  # fmt: skip
    moved, spare = first + 3, max(n for n, entry in enumerate(fat) if entry) + 10
    struct.pack_into("<I", changed, fat_at + 4 * (moved - 1), spare)
    struct.pack_into("<I", changed, fat_at + 4 * spare, fat[moved])
    struct.pack_into("<I", changed, fat_at + 4 * moved, 0)
    changed += bytes(clusters_at + (spare - 1) * 4096 - len(changed))
    source = clusters_at + (moved - 2) * 4096
    changed[clusters_at + (spare - 2) * 4096 : clusters_at + (spare - 1) * 4096] = changed[
        source : source + 4096
    ]
    changed[source : source + 4096] = bytes(4096)
    assert examine.kernel(Disk(changed).read, START, SIZE_BYTES) == KERNEL


def _loop(volume: bytearray) -> None:
    """Every chain leads back to where it began."""
    reserved, fat_sectors = struct.unpack_from("<H20xI", volume, 14)
    for number in range(2, 128 * fat_sectors):
        struct.pack_into("<I", volume, reserved * 512 + 4 * number, number)


def _without_fat(volume: bytearray) -> None:
    reserved, fat_sectors = struct.unpack_from("<H20xI", volume, 14)
    volume[reserved * 512 : (reserved + fat_sectors) * 512] = bytes(fat_sectors * 512)


def _root_outside(volume: bytearray) -> None:
    struct.pack_into("<I", volume, 44, 0x0FFFFFF0)


def _huge_fat(volume: bytearray) -> None:
    struct.pack_into("<I", volume, 36, 0xFFFFFFFF)


def _other_sectors(volume: bytearray) -> None:
    struct.pack_into("<H", volume, 11, 4096)


def _no_clusters(volume: bytearray) -> None:
    volume[13] = 0


def _renamed(volume: bytearray) -> None:
    at = volume.index(b"BOOTX64 EFI")
    volume[at] = 0xE5


def _endless(volume: bytearray) -> None:
    at = volume.index(b"BOOTX64 EFI")
    struct.pack_into("<I", volume, at + 28, 0xFFFFFFFF)


def _empty(volume: bytearray) -> None:
    volume[:] = bytes(len(volume))


@pytest.mark.parametrize(
    "damage",
    [
        _loop, _without_fat, _root_outside, _huge_fat, _other_sectors, _no_clusters, _renamed,
        _endless, _empty,
    ],
    ids=lambda damage: damage.__name__.lstrip("_"),
)  # fmt: skip
def test_a_damaged_file_system_is_named_soon(volume: bytes, damage: Callable[[bytearray], None]):
    changed = bytearray(volume)
    damage(changed)
    begun = time.monotonic()
    try:
        found = examine.kernel(Disk(changed).read, START, SIZE_BYTES)
    except examine.NotFoundError:
        pass
    else:
        assert found != KERNEL
    assert time.monotonic() - begun < SECONDS


def test_rubbish_in_the_parts_that_lead_there_is_never_more_than_not_found(volume: bytes):
    """Seed 6: what is read is anything; what comes of it is the file, other bytes, or one error."""
    dice = random.Random(6)
    reserved, fat_sectors = struct.unpack_from("<H20xI", volume, 14)
    clusters_at = (reserved + 2 * fat_sectors) * 512
    places = [(11, 48), (reserved * 512, 64), (clusters_at, 3 * 4096)]
    found = 0
    for _ in range(60):
        changed = bytearray(volume)
        at, length = dice.choice(places)
        for _ in range(dice.randint(1, 4)):
            changed[at + dice.randrange(length)] = dice.randrange(256)
        try:
            examine.kernel(Disk(changed).read, START, SIZE_BYTES)
            found += 1
        except examine.NotFoundError:
            pass
    assert 0 < found < 60


def test_whose_a_disk_is(tmp_path: Path):
    head, _ = layout.partition_table(64 * 1024 * layout.MIB)
    other = bytearray(head)
    other[512 + 56] ^= 1
    dos = bytearray(1024)
    dos[450], dos[510:512] = 0x83, b"\x55\xaa"
    found = {
        "ours": head, "gpt": bytes(other), "dos": bytes(dos), "nothing": bytes(1024),
        "damaged": head[:512] + bytes(512),
    }  # fmt: skip

    def read(name: str) -> examine.Read:
        return lambda offset, length: found[name][offset : offset + length]

    identities = {name: examine.disk_identity(read(name)) for name in found}
    assert identities["ours"] == layout.DISK_ID
    assert [name for name, each in identities.items() if each is None] == [
        "dos", "nothing", "damaged",
    ]  # fmt: skip
    anothers = {name: examine.is_anothers(read(name), layout.DISK_ID) for name in found}
    assert [name for name, each in anothers.items() if each] == ["gpt", "dos"]
