"""The disk: two slots for systems and the data, and exactly which bytes an installation writes.

A slot is a boot file system, a system and its hash tree: while one of them runs, the next system
goes into the other. Invariants: nothing is written that holds no information, so that a disk of
terabytes stays thin; nothing is expected of areas that were not written; a slot's extents never
touch the other slot or the data. The table of partitions is in docs/system-image.md, which a test
compares with PARTITIONS.
"""

import contextlib
import os
import struct
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from spacegray.errors import SpacegrayError
from spacegray.system.image import SystemImage

MIB: Final = 1024**2
SECTOR_BYTES: Final = 512
ALIGNMENT_BYTES: Final = MIB
TABLE_BYTES: Final = 34 * SECTOR_BYTES
"""Protective MBR, GPT header and 128 entries at the head; at the tail the MBR is missing."""

DATA_MARKER: Final = b"SPACEGRAY FORMAT ME 1\n".ljust(4096, b"\0")
"""The first block of a data partition that the guest shall format, once."""

BOOT_FILE: Final = "EFI/BOOT/BOOTX64.EFI"
FAT_CLUSTER_BYTES: Final = 4096
FAT_EPOCH_SECONDS: Final = "315532800"
"""The first of 1980, where FAT's calendar begins: all that lies in one is dated so."""
FAT_LABEL: Final = "SPACEGRAY"
FAT_ID: Final = "53504752"
MEDIUM_LEAST_BYTES: Final = 20 * MIB
"""Fewer clusters than this has would make it a FAT12."""
MEDIUM_SPARE_BYTES: Final = MIB
"""For the boot sector, the FATs and the folders."""
DISK_ID: Final = "7F3C1E52-6D0A-4A53-9C0E-1B7A53504752"


@dataclass(frozen=True)
class Partition:
    """One partition; `start` and `size` in bytes."""

    name: str
    number: int
    start: int
    size: int
    kind: str
    identity: str


@dataclass(frozen=True)
class EspPlace:
    """Where a boot file system lies, as a boot entry names it: in sectors, its GUID as on disk."""

    number: int
    start_sector: int
    sectors: int
    guid: bytes


@dataclass(frozen=True)
class Extent:
    """Bytes to write at `offset` of the disk: `content`, or the whole file `source`."""

    offset: int
    source: bytes | Path

    @property
    def size(self) -> int:
        return len(self.source) if isinstance(self.source, bytes) else self.source.stat().st_size


# name, size in MiB (0: the rest), type (UAPI group's Discoverable Partitions Specification)
_ESP: Final = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
_ROOT: Final = "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709"
_ROOT_VERITY: Final = "2C7357ED-EBD2-46D9-AEC1-23D437EC2BF5"
_LINUX: Final = "0FC63DAF-8483-4772-8E79-3D69D8477DE4"
PARTITIONS: Final = (
    ("esp", 512, _ESP),
    ("system", 8192, _ROOT),
    ("verity", 512, _ROOT_VERITY),
    ("data", 0, _LINUX),
    ("esp-b", 512, _ESP),
    ("system-b", 8192, _ROOT),
    ("verity-b", 512, _ROOT_VERITY),
)
"""By number, from 1. On the disk the data comes last, as the one that fills it."""

Slot = Literal["a", "b"]
SLOTS: Final[dict[Slot, tuple[int, int, int]]] = {"a": (1, 2, 3), "b": (5, 6, 7)}
"""The numbers of each slot's partitions."""

SMALLEST_DISK_BYTES: Final = 20 * 1024 * MIB


def partitions(disk_bytes: int) -> list[Partition]:
    """The partitions of a disk of this size, by number.

    Raises ValueError for too small a disk.
    """
    if disk_bytes < SMALLEST_DISK_BYTES or disk_bytes % SECTOR_BYTES:
        raise ValueError(f"a disk of {disk_bytes} bytes cannot be partitioned")
    end = (disk_bytes - TABLE_BYTES) // ALIGNMENT_BYTES * ALIGNMENT_BYTES
    start = ALIGNMENT_BYTES
    found = []
    numbered = list(enumerate(PARTITIONS, start=1))
    for number, (name, size_mib, kind) in sorted(numbered, key=lambda each: each[1][1] == 0):
        size = size_mib * MIB or end - start
        identity = f"{DISK_ID[:-1]}{number}"
        found.append(Partition(name, number, start, size, kind, identity))
        start += size
    return sorted(found, key=lambda partition: partition.number)


def slot_partitions(slot: Slot, disk_bytes: int) -> tuple[Partition, Partition, Partition]:
    """A slot's boot file system, system and hash tree; raises ValueError for too small a disk."""
    parts = partitions(disk_bytes)
    esp, system, verity = (parts[number - 1] for number in SLOTS[slot])
    return esp, system, verity


def esp_place(slot: Slot, disk_bytes: int) -> EspPlace:
    """Where a slot's boot file system lies; raises ValueError for too small a disk."""
    esp = slot_partitions(slot, disk_bytes)[0]
    guid = uuid.UUID(esp.identity).bytes_le
    return EspPlace(esp.number, esp.start // SECTOR_BYTES, esp.size // SECTOR_BYTES, guid)


def extents(
    image: SystemImage,
    signed_kernel: bytes,
    disk_bytes: int,
    slot: Slot = "a",
    whole: bool = True,
) -> list[Extent]:
    """What to write, and where, to install `image` with its signed kernel into `slot`.

    `whole`: the disk is new; its table is written, and the mark by which the guest formats the
    data. Otherwise nothing but the slot is. In order, without overlaps. Raises SpacegrayError
    when the image does not fit or a tool fails.
    """
    doing = f"laying out the system {image.edition}"
    try:
        esp, system, verity = slot_partitions(slot, disk_bytes)
        for partition, file in ((system, image.system), (verity, image.verity)):
            if file.stat().st_size > partition.size:
                raise ValueError(f"{file.name} does not fit into its partition")
        found = [
            Extent(esp.start, boot_file_system(signed_kernel, esp.size)),
            Extent(system.start, image.system),
            Extent(verity.start, image.verity),
        ]
        if not whole:
            return found
        head, tail = partition_table(disk_bytes)
        (data,) = (each for each in partitions(disk_bytes) if each.name == "data")
        marker = Extent(data.start, DATA_MARKER)
        return [Extent(0, head), *found, marker, Extent(disk_bytes - len(tail), tail)]
    except subprocess.CalledProcessError as error:
        raise SpacegrayError(doing, error.stderr.decode(), "see what `doctor` says") from None
    except (OSError, ValueError) as error:
        raise SpacegrayError(doing, error, "see what `doctor` says") from None


def partition_table(disk_bytes: int) -> tuple[bytes, bytes]:
    """The GPT's first and last copy, made by sfdisk on a sparse file of the disk's size."""
    script = "\n".join(
        [
            f"label: gpt\nlabel-id: {DISK_ID}\nunit: sectors\nsector-size: {SECTOR_BYTES}",
            *(
                f"start={part.start // SECTOR_BYTES}, size={part.size // SECTOR_BYTES}, "
                f"type={part.kind}, uuid={part.identity}, name={part.name}"
                for part in partitions(disk_bytes)
            ),
        ]
    )
    with tempfile.TemporaryDirectory() as folder:
        disk = Path(folder, "disk")
        _sparse(disk, disk_bytes)
        command = ["sfdisk", "--quiet", "--no-tell-kernel", "--no-reread", str(disk)]
        _run(*command, given=script.encode())
        with disk.open("rb") as file:
            head = file.read(TABLE_BYTES)
            file.seek(disk_bytes - (TABLE_BYTES - SECTOR_BYTES))
            return head, file.read()


def boot_file_system(signed_kernel: bytes, size_bytes: int) -> bytes:
    """A FAT32 file system of `size_bytes` with the kernel image; cut off after its last cluster."""
    with _fat(signed_kernel, size_bytes, "-F32") as path, path.open("rb") as file:
        end = fat_end(file.read(FAT_HEAD_BYTES))
        file.seek(0)
        return file.read(end)


def recovery_medium(signed_kernel: bytes) -> bytes:
    """The disk that recovery starts from: a FAT16 file system with its kernel image, whole.

    The same for the same kernel. Raises SpacegrayError when a tool fails.
    """
    room = len(signed_kernel) + MEDIUM_SPARE_BYTES
    size_bytes = max(MEDIUM_LEAST_BYTES, -(-room // MIB) * MIB)
    try:
        with _fat(signed_kernel, size_bytes, "-F16") as path:
            return path.read_bytes()
    except subprocess.CalledProcessError as error:
        stopped = error.stderr.decode()
    except OSError as failed:
        stopped = str(failed)
    raise SpacegrayError("making the recovery medium", stopped, "see what `doctor` says")


@contextlib.contextmanager
def _fat(kernel_image: bytes, size_bytes: int, kind: str) -> Iterator[Path]:
    """A file of `size_bytes` with a FAT of this kind that holds the boot file, for a while."""
    with tempfile.TemporaryDirectory() as folder:
        fat, kernel = Path(folder, "fat"), Path(folder, "kernel")
        kernel.write_bytes(kernel_image)
        _sparse(fat, size_bytes)
        cluster_sectors = FAT_CLUSTER_BYTES // SECTOR_BYTES
        _run(
            "mkfs.vfat", "--invariant", kind, f"-S{SECTOR_BYTES}", f"-s{cluster_sectors}",
            f"-n{FAT_LABEL}", f"-i{FAT_ID}", str(fat),
        )  # fmt: skip
        parents = ["::" + part for part in ("/EFI", "/EFI/BOOT")]
        _run("mmd", "-i", str(fat), *parents)
        _run("mcopy", "-i", str(fat), str(kernel), f"::/{BOOT_FILE}")
        yield fat


FAT_HEAD_BYTES: Final = 4 * MIB
"""Enough of a file system of 512 MiB for its boot sector and first FAT."""


def fat_end(head: bytes) -> int:
    """Where the last used cluster of a FAT32 ends, in bytes.

    `head` holds at least the boot sector and the first FAT (Microsoft's FAT specification, 3 and
    4): reserved sectors, FATs, then clusters numbered from 2; an entry of 0 is a free cluster.
    """
    sector, cluster_sectors, reserved, fats = struct.unpack_from("<HBHB", head, 11)
    (fat_sectors,) = struct.unpack_from("<I", head, 36)
    fat = head[reserved * sector : (reserved + fat_sectors) * sector]
    entries = struct.unpack(f"<{len(fat) // 4}I", fat)
    last = max(number for number, entry in enumerate(entries) if entry & 0x0FFFFFFF)
    data = (reserved + fats * fat_sectors) * sector
    return int(data + (last - 1) * cluster_sectors * sector)


def _sparse(path: Path, size_bytes: int) -> None:
    with path.open("wb") as file:
        file.truncate(size_bytes)


def _run(*command: str, given: bytes = b"") -> None:
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    environment = {
        "PATH": path,
        "LC_ALL": "C.UTF-8",
        "MTOOLS_SKIP_CHECK": "1",
        "SOURCE_DATE_EPOCH": FAT_EPOCH_SECONDS,
    }
    subprocess.run(command, input=given, capture_output=True, check=True, env=environment)
