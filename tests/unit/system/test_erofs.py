"""Promise: a build fails when one file of the image is not what was put in."""

import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from spacegray.system.inside import erofs

UUID = "00000000-0000-4000-8000-000000000001"

pytestmark = pytest.mark.skipif(
    shutil.which("mkfs.erofs") is None, reason="erofs-utils is not installed"
)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    tree = tmp_path / "tree"
    (tree / "usr/bin").mkdir(parents=True)
    (tree / "usr/bin/program").write_bytes(os.urandom(50_000) + bytes(50_000))
    (tree / "usr/bin/program").chmod(0o755)
    (tree / "usr/bin/sudo").write_bytes(b"s" * 9000)
    (tree / "usr/bin/sudo").chmod(0o4755)
    (tree / "usr/link").symlink_to("bin/program")
    (tree / "empty").touch()
    return tree


def pack(tree: Path, image: Path) -> None:
    erofs.pack(tree, image, epoch_seconds=1_700_000_000, uuid=UUID)


def test_a_packed_tree_is_equal_to_its_source(tree: Path, tmp_path: Path) -> None:
    pack(tree, tmp_path / "image")
    assert (tmp_path / "image").stat().st_size % erofs.BLOCK_BYTES == 0
    assert erofs.verify(tmp_path / "image", tree, tmp_path / "scratch") == 6
    assert not (tmp_path / "scratch").exists()


def test_the_set_user_id_bit_is_read_from_the_image_itself(tree: Path, tmp_path: Path) -> None:
    pack(tree, tmp_path / "image")
    mode = erofs.mode_in_image(tmp_path / "image", "/usr/bin/sudo")
    assert stat.S_IMODE(mode) == 0o4755
    (tree / "usr/bin/sudo").chmod(0o6755)
    with pytest.raises(ValueError, match=r"mode 106755 became 104755"):
        erofs.verify(tmp_path / "image", tree, tmp_path / "scratch")


def test_the_same_tree_gives_the_same_image(tree: Path, tmp_path: Path) -> None:
    pack(tree, tmp_path / "one")
    os.utime(tree / "empty", (5, 5))
    pack(tree, tmp_path / "two")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def zero_a_file(tree: Path) -> None:
    path = tree / "usr/bin/program"
    path.write_bytes(bytes(path.stat().st_size))


def retarget(tree: Path) -> None:
    (tree / "usr/link").unlink()
    (tree / "usr/link").symlink_to("bin/sudo")


def replace_by_folder(tree: Path) -> None:
    (tree / "empty").unlink()
    (tree / "empty").mkdir()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (zero_a_file, "another content"),
        (retarget, "another target"),
        (replace_by_folder, "another type"),
        (lambda tree: (tree / "usr/bin/program").write_bytes(b"x"), "size"),
        (lambda tree: (tree / "usr/bin/program").chmod(0o700), "mode"),
        (lambda tree: (tree / "usr/new").touch(), "is missing"),
        (lambda tree: (tree / "empty").unlink(), "is new"),
    ],
)
def test_each_kind_of_difference_fails_the_build(
    tree: Path, tmp_path: Path, change: Callable[[Path], object], reason: str
) -> None:
    pack(tree, tmp_path / "image")
    change(tree)
    with pytest.raises(ValueError, match=reason):
        erofs.verify(tmp_path / "image", tree, tmp_path / "scratch")
