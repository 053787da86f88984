"""What lies where the machine looks for its system: the kernel image, and whose disk it is.

Only for saying what was found; the judgement is the machine firmware's alone. The disk was the
guest's: whatever is read is checked before it is used, and every loop has an end.

Sources: Microsoft, "FAT32 File System Specification" (2000), 3 to 6; UEFI 2.10, 5.3.2 (GPT).
"""

import struct
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from spacegray import authenticode

Read = Callable[[int, int], bytes]
"""Reads (offset, length) of the disk in bytes, both whole sectors of 512."""

SECTOR_BYTES: Final = 512
BOOT_FILE: Final = (b"EFI        ", b"BOOT       ", b"BOOTX64 EFI")
"""\\EFI\\BOOT\\BOOTX64.EFI as FAT writes names: eight and three characters."""
DIRECTORY_LIMIT_BYTES: Final = 1 << 20
FAT_LIMIT_BYTES: Final = 16 << 20
"""The table of a partition of 16 GiB with the smallest clusters we make."""

_FIRST_KIND_AT: Final = 446 + 4
_PROTECTIVE: Final = 0xEE
"""What a master boot record says of its first partition where the true table is a GPT."""
_ENTRY_BYTES: Final = 32
_ENTRY = struct.Struct("<11sB8xH4xHI")
_FOLDER, _LABEL, _LONG_NAME = 0x10, 0x08, 0x0F
_DELETED, _LAST = 0xE5, 0x00
_CLUSTER_MASK: Final = 0x0FFFFFFF
_CHAIN_END: Final = 0x0FFFFFF8
_BAD: Final = 0x0FFFFFF7


class NotFoundError(ValueError):
    """There is no kernel image to be found; the text says why, to go after "found"."""


def disk_identity(read: Read) -> str | None:
    """The disk's GUID by its partition table, in capitals; None where there is no GPT."""
    header = read(SECTOR_BYTES, SECTOR_BYTES)
    if header[:8] != b"EFI PART":
        return None
    return str(uuid.UUID(bytes_le=header[56:72])).upper()


def is_anothers(read: Read, ours: str) -> bool:
    """Whether the disk has a partition table, and not the one with the GUID `ours`."""
    identity = disk_identity(read)
    if identity is not None:
        return identity != ours
    sector = read(0, SECTOR_BYTES)
    return sector[510:] == b"\x55\xaa" and sector[_FIRST_KIND_AT] not in (0, _PROTECTIVE)


def kernel_digest(read: Read, start_bytes: int, size_bytes: int) -> bytes:
    """The Authenticode digest of the kernel image on the FAT32 that begins at `start_bytes`.

    Raises NotFoundError, and whatever `read` raises.
    """
    content = kernel(read, start_bytes, size_bytes)
    try:
        return authenticode.digest(content)
    except authenticode.NotSignableError as error:
        raise NotFoundError(f"no kernel image: {error}") from None


def kernel(read: Read, start_bytes: int, size_bytes: int) -> bytes:
    """The file that the machine's firmware starts from the FAT32 of this place and size.

    Raises NotFoundError, and whatever `read` raises.
    """
    volume = _Volume(read, start_bytes, size_bytes)
    cluster = volume.root
    *folders, name = BOOT_FILE
    for folder in folders:
        cluster, _ = volume.find(cluster, folder, folder=True)
    cluster, size = volume.find(cluster, name, folder=False)
    if not 0 < size <= authenticode.IMAGE_LIMIT_BYTES:
        raise NotFoundError(f"a file of {size} bytes where the kernel image should be")
    return volume.content(cluster, size)


@dataclass(frozen=True)
class _Geometry:
    """Where a volume's parts begin, in bytes from its start."""

    cluster_bytes: int
    fat_at: int
    fat_bytes: int
    clusters_at: int
    root: int


class _Volume:
    """One FAT32, read only."""

    def __init__(self, read: Read, start_bytes: int, size_bytes: int) -> None:
        self._read, self._start, self._size = read, start_bytes, size_bytes
        self._geometry = _geometry(self._bytes(0, SECTOR_BYTES), size_bytes)
        fat = self._bytes(self._geometry.fat_at, self._geometry.fat_bytes)
        self._fat = struct.unpack(f"<{len(fat) // 4}I", fat)

    @property
    def root(self) -> int:
        """The first cluster of the root folder."""
        return self._geometry.root

    def find(self, first: int, name: bytes, *, folder: bool) -> tuple[int, int]:
        """The first cluster and the size in bytes of what is called so in a folder."""
        entries = self._chain(first, DIRECTORY_LIMIT_BYTES, whole=False)
        for at in range(0, len(entries), _ENTRY_BYTES):
            found, kind, high, low, size = _ENTRY.unpack_from(entries, at)
            if found[0] == _LAST:
                break
            if found[0] == _DELETED or kind & _LABEL or kind & _LONG_NAME == _LONG_NAME:
                continue
            if found == name and bool(kind & _FOLDER) == folder:
                return high << 16 | low, size
        raise NotFoundError(f"no {_shown(name)} on the boot partition")

    def content(self, first: int, size_bytes: int) -> bytes:
        """The file of this size that begins in this cluster."""
        return self._chain(first, size_bytes, whole=True)

    def _chain(self, first: int, limit_bytes: int, *, whole: bool) -> bytes:
        """What follows from a cluster on, up to a limit; with `whole` it has to reach that."""
        geometry, content, cluster = self._geometry, bytearray(), first
        while len(content) < limit_bytes:
            if not 2 <= cluster < len(self._fat) or cluster == _BAD:
                if cluster >= _CHAIN_END and not whole:
                    break
                raise NotFoundError("a damaged file system on the boot partition")
            # Clusters in a row are read at once: one by one it takes seconds.
            begin, count = cluster, 1
            following = self._fat[cluster] & _CLUSTER_MASK
            wanted = -(-(limit_bytes - len(content)) // geometry.cluster_bytes)
            while following == begin + count and count < wanted and following < len(self._fat):
                following = self._fat[following] & _CLUSTER_MASK
                count += 1
            at = geometry.clusters_at + (begin - 2) * geometry.cluster_bytes
            content += self._bytes(at, count * geometry.cluster_bytes)
            cluster = following
        return bytes(content[:limit_bytes])

    def _bytes(self, at: int, length: int) -> bytes:
        if at + length > self._size:
            raise NotFoundError("a damaged file system on the boot partition")
        return self._read(self._start + at, length)


def _geometry(sector: bytes, size_bytes: int) -> _Geometry:
    """From the first sector of a volume of this size; raises NotFoundError."""
    bytes_, per_cluster, reserved, fats = struct.unpack_from("<HBHB", sector, 11)
    (small_fat,) = struct.unpack_from("<H", sector, 22)
    (fat_sectors,) = struct.unpack_from("<I", sector, 36)
    (root,) = struct.unpack_from("<I", sector, 44)
    cluster_bytes = bytes_ * per_cluster
    if (
        sector[510:512] != b"\x55\xaa"
        or bytes_ != SECTOR_BYTES
        or per_cluster not in (1, 2, 4, 8, 16, 32, 64, 128)
        or not reserved
        or fats not in (1, 2)
        or small_fat
        or not fat_sectors
    ):
        raise NotFoundError("no FAT32 on the boot partition")
    clusters_at = (reserved + fats * fat_sectors) * bytes_
    # No more of the table than there are clusters, whatever the volume says of itself.
    clusters = max(0, size_bytes - clusters_at) // cluster_bytes
    fat_bytes = min(fat_sectors * bytes_, -(-(clusters + 2) * 4 // SECTOR_BYTES) * SECTOR_BYTES)
    if not clusters or fat_bytes > FAT_LIMIT_BYTES:
        raise NotFoundError("a damaged file system on the boot partition")
    return _Geometry(cluster_bytes, reserved * bytes_, fat_bytes, clusters_at, root & _CLUSTER_MASK)


def _shown(name: bytes) -> str:
    stem, kind = name[:8].decode().rstrip(), name[8:].decode().rstrip()
    return f"{stem}.{kind}" if kind else stem
