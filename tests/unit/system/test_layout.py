"""Promise: a restore writes a whole, correct disk layout, and nothing that holds no information."""

import itertools
import os
import re
import struct
import subprocess
import time
from pathlib import Path

import pytest

from spacegray.errors import SpacegrayError
from spacegray.system import edition, layout
from spacegray.system.image import Manifest, SystemImage

TERABYTE = 1000**4
DOCUMENT = Path(__file__).parents[3] / "docs" / "system-image.md"


def make_image(folder: Path) -> SystemImage:
    (folder / "system.erofs").write_bytes(os.urandom(8192))
    (folder / "system.verity").write_bytes(os.urandom(4096))
    manifest = Manifest(
        edition="tiny", key="k", root_hash="r", kernel_release="6", command_line="",
        epoch_seconds=0, kernel_bytes=0, recovery_bytes=0, system_bytes=8192, verity_bytes=4096,
        packages={},
    )  # fmt: skip
    return SystemImage(folder, manifest)


def write(disk: Path, extents: list[layout.Extent], size_bytes: int) -> None:
    with disk.open("wb") as file:
        file.truncate(size_bytes)
        for part in layout.partitions(size_bytes):
            file.seek(part.start)
            file.write(os.urandom(4 * layout.MIB))  # what was not written reads as noise
        for extent in extents:
            file.seek(extent.offset)
            source = extent.source
            file.write(source if isinstance(source, bytes) else source.read_bytes())


def test_the_document_says_the_same() -> None:
    rows = re.findall(r"^\| (\d) \| `([\w-]+)` \| (\d+) \|", DOCUMENT.read_text(), re.M)
    assert [(int(number), name, int(size)) for number, name, size in rows] == [
        (number, name, size) for number, (name, size, _) in enumerate(layout.PARTITIONS, start=1)
    ]


@pytest.mark.parametrize("terabytes", [1, 2, 4])
def test_partitions_fill_the_disk_aligned_and_the_data_comes_last(terabytes: int) -> None:
    parts = layout.partitions(terabytes * TERABYTE)
    names = ["esp", "system", "verity", "data", "esp-b", "system-b", "verity-b"]
    assert [(part.number, part.name) for part in parts] == list(enumerate(names, start=1))
    assert all(part.start % layout.MIB == 0 for part in parts)
    placed = sorted(parts, key=lambda part: part.start)
    assert placed[0].start == layout.MIB
    assert placed[-1].name == "data"
    assert all(a.start + a.size == b.start for a, b in itertools.pairwise(placed))
    end = placed[-1].start + placed[-1].size
    assert terabytes * TERABYTE - 2 * layout.MIB < end <= terabytes * TERABYTE - 33 * 512


def test_both_slots_have_the_same_parts_and_share_none() -> None:
    one = layout.slot_partitions("a", TERABYTE)
    two = layout.slot_partitions("b", TERABYTE)
    assert [part.name for part in two] == [f"{part.name}-b" for part in one]
    assert [(part.size, part.kind) for part in one] == [(part.size, part.kind) for part in two]
    assert not {part.number for part in one} & {part.number for part in two}
    assert len({part.identity for part in (*one, *two)}) == 6


@pytest.mark.parametrize("slot", ["a", "b"])
def test_a_slots_place_is_what_stands_in_the_partition_table(slot: layout.Slot) -> None:
    head, _ = layout.partition_table(TERABYTE)
    place = layout.esp_place(slot, TERABYTE)
    entry = head[1024 + (place.number - 1) * 128 :][:128]
    assert entry[16:32] == place.guid
    first, last = struct.unpack_from("<QQ", entry, 32)
    assert (first, last) == (place.start_sector, place.start_sector + place.sectors - 1)


@pytest.mark.parametrize("size", [0, 4096, 16 * 1024**3, TERABYTE + 1])
def test_an_impossible_disk_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="cannot be partitioned"):
        layout.partitions(size)


def test_little_is_written_and_nothing_twice(tmp_path: Path) -> None:
    extents = layout.extents(make_image(tmp_path), os.urandom(3_000_000), TERABYTE)
    for one, two in itertools.pairwise(extents):
        assert one.offset + one.size <= two.offset
    assert extents[-1].offset + extents[-1].size == TERABYTE
    assert sum(extent.size for extent in extents) < 3_000_000 + 2 * layout.MIB


@pytest.mark.parametrize("slot", ["a", "b"])
def test_a_system_beside_a_running_one_touches_only_its_slot(
    slot: layout.Slot, tmp_path: Path
) -> None:
    extents = layout.extents(make_image(tmp_path), b"kernel", TERABYTE, slot, whole=False)
    parts = layout.slot_partitions(slot, TERABYTE)
    assert len(extents) == len(parts)
    for part, extent in zip(parts, extents, strict=True):
        assert part.start == extent.offset
        assert extent.size <= part.size


def test_a_new_disk_may_begin_with_either_slot(tmp_path: Path) -> None:
    extents = layout.extents(make_image(tmp_path), b"kernel", TERABYTE, "b")
    for one, two in itertools.pairwise(extents):
        assert one.offset + one.size <= two.offset
    assert layout.slot_partitions("b", TERABYTE)[0].start in {each.offset for each in extents}


@pytest.mark.parametrize("kernel_bytes", [1, 3_000_000, 41_234_567])
def test_other_tools_read_the_recovery_medium(kernel_bytes: int, tmp_path: Path) -> None:
    kernel = os.urandom(kernel_bytes)
    medium = tmp_path / "medium"
    medium.write_bytes(layout.recovery_medium(kernel))
    assert len(medium.read_bytes()) % 4096 == 0
    check = subprocess.run(
        ["/usr/sbin/fsck.vfat", "-n", "-v", medium], capture_output=True, text=True, check=True
    )
    assert "16 bit" in check.stdout
    copy = tmp_path / "copy"
    subprocess.run(["mcopy", "-i", medium, f"::/{layout.BOOT_FILE}", copy], check=True)
    assert copy.read_bytes() == kernel


def test_the_same_kernel_makes_the_same_medium(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    one = layout.recovery_medium(b"kernel")
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.sleep(2.1)  # FAT counts time in steps of two seconds
    assert layout.recovery_medium(b"kernel") == one


def test_other_tools_read_the_disk_back_though_the_rest_is_noise(tmp_path: Path) -> None:
    kernel = os.urandom(1_234_567)
    disk = tmp_path / "disk"
    write(disk, layout.extents(make_image(tmp_path), kernel, TERABYTE), TERABYTE)
    check = subprocess.run(
        ["/usr/sbin/sfdisk", "--verify", disk], capture_output=True, text=True, check=True
    )
    assert "No errors detected" in check.stdout
    listing = subprocess.run(
        ["/usr/sbin/sfdisk", "-d", disk], capture_output=True, text=True, check=True
    ).stdout
    for part in layout.partitions(TERABYTE):
        assert re.search(rf"start= *{part.start // 512}, size= *{part.size // 512},", listing)
    copy = tmp_path / "copy"
    esp = f"{disk}@@{layout.partitions(TERABYTE)[0].start}"
    subprocess.run(["mcopy", "-i", esp, f"::/{layout.BOOT_FILE}", copy], check=True)
    assert copy.read_bytes() == kernel


def test_a_system_that_does_not_fit_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds = tuple((name, min(size, 1), kind) for name, size, kind in layout.PARTITIONS)
    monkeypatch.setattr(layout, "PARTITIONS", kinds)
    image = make_image(tmp_path)
    with image.system.open("wb") as file:
        file.truncate(layout.MIB + 4096)
    with pytest.raises(SpacegrayError, match="does not fit"):
        layout.extents(image, b"kernel", TERABYTE)


def test_the_guest_looks_for_the_marker_that_is_written() -> None:
    script = (edition.GUEST / "initramfs" / "root" / "init").read_text()
    marker = re.search(r"^MARKER='([^']*)'", script, re.M)
    assert marker is not None
    assert marker[1].encode() + b"\n" + bytes(4095 - len(marker[1])) == layout.DATA_MARKER
