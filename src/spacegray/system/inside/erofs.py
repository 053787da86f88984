"""Packing a tree as erofs, and proving that what was packed is what was there.

The proof is independent of the packer: erofs-utils' own checker extracts the image, and every
file is compared with its source. It exists because an option of mkfs.erofs was once seen to turn
a file into zeros without a word.
"""

import filecmp
import os
import re
import shutil
import stat
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

BLOCK_BYTES = 4096
SUPERBLOCK_AT = 1024
METADATA_BLOCK_AT = SUPERBLOCK_AT + 40
INODE_SLOT_BYTES = 32
INODE_MODE_AT = 4
"""The few places of the erofs on-disk format that are read here (kernel: fs/erofs/erofs_fs.h)."""

SPECIAL_BITS = stat.S_ISUID | stat.S_ISGID
DIFFERENCES_SHOWN = 10


def pack(tree: Path, image: Path, *, epoch_seconds: int, uuid: str) -> None:
    """Write `tree` as an erofs image of whole blocks, the same for the same tree."""
    subprocess.run(
        ["mkfs.erofs", "--quiet", "-zlz4", f"-T{epoch_seconds}", f"-U{uuid}", image, tree],
        check=True,
    )
    with image.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        file.truncate(-(-size // BLOCK_BYTES) * BLOCK_BYTES)


def verify(image: Path, tree: Path, scratch: Path) -> int:
    """Extract `image` into `scratch` and compare it with `tree`; the number of files compared.

    Raises ValueError that lists the first differences.
    """
    subprocess.run(["fsck.erofs", f"--extract={scratch}", "--preserve", image], check=True)
    _restore_special_bits(image, tree, scratch)
    found = list(differences(tree, scratch))
    if found:
        shown = "; ".join(found[:DIFFERENCES_SHOWN])
        raise ValueError(f"{len(found)} files differ after packing: {shown}")
    count = sum(len(folders) + len(files) for _, folders, files in os.walk(scratch))
    shutil.rmtree(scratch)
    return count


def _restore_special_bits(image: Path, tree: Path, scratch: Path) -> None:
    """Set on extracted files the mode that the image says, where the source has special bits.

    fsck.erofs gives files to their owners after setting modes, and the kernel then takes the
    set-user-id and set-group-id bits away.
    """
    for folder, folders, files in os.walk(tree):
        for name in (*folders, *files):
            path = Path(folder, name)
            copy = scratch / path.relative_to(tree)
            if path.lstat().st_mode & SPECIAL_BITS and not path.is_symlink() and copy.exists():
                copy.chmod(stat.S_IMODE(mode_in_image(image, f"/{path.relative_to(tree)}")))


def mode_in_image(image: Path, path: str) -> int:
    """The type and mode bits that the image's inode of `path` holds.

    Raises ValueError when dump.erofs does not name the inode.
    """
    command = ["dump.erofs", f"--path={path}", str(image)]
    report = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"^NID: ([0-9]+)", report, re.M)
    if found is None:
        raise ValueError(f"{path} has no inode in the image")
    with image.open("rb") as file:
        file.seek(METADATA_BLOCK_AT)
        (block,) = struct.unpack("<I", file.read(4))
        file.seek(block * BLOCK_BYTES + int(found[1]) * INODE_SLOT_BYTES + INODE_MODE_AT)
        (mode,) = struct.unpack("<H", file.read(2))
    return int(mode)


def differences(source: Path, copy: Path) -> Iterator[str]:
    """What differs between two trees: names, types, modes, owners, sizes, contents, targets."""
    for folder, folders, files in os.walk(source):
        here = Path(folder)
        there = copy / here.relative_to(source)
        names = {*folders, *files}
        if not there.is_dir() or there.is_symlink():
            continue  # said already by the folder above
        present = {path.name for path in there.iterdir()}
        yield from (f"{here / name} is missing" for name in sorted(names - present))
        yield from (f"{there / name} is new" for name in sorted(present - names))
        for name in sorted(names & present):
            if reason := _difference(here / name, there / name):
                yield f"/{(here / name).relative_to(source)}: {reason}"


def _difference(one: Path, two: Path) -> str | None:
    a, b = one.lstat(), two.lstat()
    if stat.S_IFMT(a.st_mode) != stat.S_IFMT(b.st_mode):
        return "another type"
    if stat.S_ISLNK(a.st_mode):
        return None if one.readlink() == two.readlink() else "another target"
    if a.st_mode != b.st_mode:
        return f"mode {a.st_mode:o} became {b.st_mode:o}"
    if (a.st_uid, a.st_gid) != (b.st_uid, b.st_gid):
        return "another owner"
    if stat.S_ISREG(a.st_mode):
        if a.st_size != b.st_size:
            return f"size {a.st_size} became {b.st_size}"
        if not filecmp.cmp(one, two, shallow=False):
            return "another content"
    elif stat.S_ISCHR(a.st_mode) or stat.S_ISBLK(a.st_mode):
        return None if a.st_rdev == b.st_rdev else "another device number"
    return None
