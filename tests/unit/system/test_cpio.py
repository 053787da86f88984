"""Promise: the initramfs holds the tree, owned by root, and is the same for the same tree."""

import gzip
import os
from pathlib import Path

from spacegray.system.inside import cpio


def entries(packed: bytes) -> dict[str, tuple[int, int, bytes]]:
    """name -> mode, uid, content; read by the format's description, not by our code."""
    data = gzip.decompress(packed)
    found: dict[str, tuple[int, int, bytes]] = {}
    at = 0
    while True:
        assert data[at : at + 6] == b"070701"
        fields = [int(data[at + 6 + 8 * n : at + 14 + 8 * n], 16) for n in range(13)]
        name = data[at + 110 : at + 110 + fields[11] - 1].decode()
        start = (at + 110 + fields[11] + 3) // 4 * 4
        if name == "TRAILER!!!":
            return found
        found[name] = (fields[1], fields[2], data[start : start + fields[6]])
        at = (start + fields[6] + 3) // 4 * 4


def make(tree: Path) -> Path:
    (tree / "bin").mkdir(parents=True)
    (tree / "bin/sh").write_bytes(b"#!\n123")
    (tree / "bin/sh").chmod(0o755)
    (tree / "init").symlink_to("bin/sh")
    return tree


def test_files_links_and_folders_come_back(tmp_path: Path) -> None:
    found = entries(cpio.pack(make(tmp_path / "tree")))
    assert found["bin/sh"] == (0o100755, 0, b"#!\n123")
    assert found["init"] == (0o120777, 0, b"bin/sh")
    assert found["bin"][0] & 0o170000 == 0o040000
    assert len(found) == 3


def test_times_and_order_of_creation_do_not_matter(tmp_path: Path) -> None:
    one = make(tmp_path / "one")
    two = tmp_path / "two"
    two.mkdir()
    (two / "init").symlink_to("bin/sh")
    (two / "bin").mkdir()
    (two / "bin/sh").write_bytes(b"#!\n123")
    (two / "bin/sh").chmod(0o755)
    os.utime(two / "bin/sh", (1, 1))
    assert cpio.pack(one) == cpio.pack(two)
