"""The initramfs: a tree of files as a compressed cpio archive, the same for the same tree.

Format: the "newc" ASCII header of cpio(5), as the kernel's
Documentation/driver-api/early-userspace/buffer-format.rst describes it.
"""

import gzip
import os
import stat
from pathlib import Path
from typing import Final

MAGIC: Final = "070701"
TRAILER: Final = "TRAILER!!!"
ALIGNMENT: Final = 4
COMPRESSION_LEVEL: Final = 9


def pack(tree: Path) -> bytes:
    """The files, links and folders below `tree`, owned by root, dated zero, sorted by name."""
    archive = bytearray()
    for number, path in enumerate(sorted(tree.rglob("*")), start=1):
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            content = os.fsencode(path.readlink())
        else:
            content = path.read_bytes() if stat.S_ISREG(mode) else b""
        archive += _entry(path.relative_to(tree).as_posix(), number, mode, content)
    archive += _entry(TRAILER, 0, 0, b"")
    return gzip.compress(bytes(archive), COMPRESSION_LEVEL, mtime=0)


def _entry(name: str, number: int, mode: int, content: bytes) -> bytes:
    encoded = name.encode() + b"\0"
    # inode, mode, uid, gid, links, mtime, size, device x4 (major and minor, own and special),
    # length of the name, checksum (not used by newc)
    fields = (number, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(encoded), 0)
    header = MAGIC.encode() + b"".join(b"%08X" % field for field in fields) + encoded
    return _padded(header) + _padded(content)


def _padded(content: bytes) -> bytes:
    return content + bytes(-len(content) % ALIGNMENT)
