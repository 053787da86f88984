"""Promise: a system starts from either slot, and from the whole one where both hold it."""

import os
from collections.abc import Iterable
from pathlib import Path

import pytest

from spacegray.system import layout
from spacegray.system.image import SystemImage
from tests.support.recovery_machine import plain

DISK_BYTES = layout.SMALLEST_DISK_BYTES
SUPERBLOCK_BYTES = 4096


def write(disk: Path, extents: Iterable[layout.Extent]) -> None:
    with disk.open("r+b") as file:
        for extent in extents:
            file.seek(extent.offset)
            source = extent.source
            file.write(source if isinstance(source, bytes) else source.read_bytes())


@pytest.fixture
def disk(tiny: SystemImage, tmp_path: Path) -> Path:
    """A disk with the same system in both slots."""
    disk = tmp_path / "disk"
    disk.touch()
    os.truncate(disk, DISK_BYTES)
    kernel = tiny.kernel.read_bytes()
    write(disk, layout.extents(tiny, kernel, DISK_BYTES, "a"))
    write(disk, layout.extents(tiny, kernel, DISK_BYTES, "b", whole=False))
    return disk


def wipe(disk: Path, at: int, size_bytes: int) -> None:
    with disk.open("r+b") as file:
        file.seek(at)
        file.write(os.urandom(size_bytes))


def starts(disk: Path, tiny: SystemImage) -> None:
    with plain(disk) as machine:
        machine.until(f"link system ok {tiny.root_hash}")
        machine.until("link data ok formatted")


def test_the_slot_that_the_firmware_started_is_taken(tiny: SystemImage, disk: Path) -> None:
    esp, system, _ = layout.slot_partitions("a", DISK_BYTES)
    wipe(disk, esp.start, layout.MIB)
    # All but its superblock, so that it would be mounted and then be good for nothing.
    wipe(disk, system.start + SUPERBLOCK_BYTES, tiny.manifest.system_bytes - SUPERBLOCK_BYTES)
    starts(disk, tiny)


def test_the_other_slot_helps_where_that_one_cannot_be_mounted(
    tiny: SystemImage, disk: Path
) -> None:
    wipe(disk, layout.slot_partitions("a", DISK_BYTES)[1].start, SUPERBLOCK_BYTES)
    starts(disk, tiny)
