"""Promise: a system holds the files that were named with all they need, and only our modes."""

from pathlib import Path

import pytest

from spacegray.system.inside import tree

LISTING = """\
\tlinux-vdso.so.1 (0x00007ffd)
\tlibdevmapper.so.1.02.1 => /lib/x86_64-linux-gnu/libdevmapper.so.1.02.1 (0x00007f28)
\t/lib64/ld-linux-x86-64.so.2 (0x00007f29)
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    library = tmp_path / "usr/lib/x86_64-linux-gnu"
    library.mkdir(parents=True)
    (library / "libz.so.1.3").write_bytes(b"z")
    (library / "libz.so.1").symlink_to("libz.so.1.3")
    (tmp_path / "usr/lib64").mkdir()
    (tmp_path / "usr/lib64/ld.so").symlink_to("/lib/x86_64-linux-gnu/libz.so.1")
    (tmp_path / "usr/bin").mkdir()
    (tmp_path / "usr/bin/tool").write_bytes(b"t")
    return tmp_path


def test_a_link_brings_its_whole_chain_along(root: Path) -> None:
    assert tree.resolve(root, ["lib64/ld.so"]) == [
        "usr/lib/x86_64-linux-gnu/libz.so.1",
        "usr/lib/x86_64-linux-gnu/libz.so.1.3",
        "usr/lib64/ld.so",
    ]


def test_a_folder_means_its_content(root: Path) -> None:
    assert tree.resolve(root, ["/usr/lib/"]) == [
        "usr/lib/x86_64-linux-gnu/libz.so.1",
        "usr/lib/x86_64-linux-gnu/libz.so.1.3",
    ]


def test_a_file_that_is_not_there_fails_the_build(root: Path) -> None:
    with pytest.raises(FileNotFoundError):
        tree.resolve(root, ["usr/bin/gone"])


def test_the_loaders_answer_is_understood() -> None:
    assert tree.libraries(LISTING) == ["/lib/x86_64-linux-gnu/libdevmapper.so.1.02.1"]
    with pytest.raises(FileNotFoundError, match=r"libgone"):
        tree.libraries("\tlibgone.so.1 => not found\n")


def test_prune_takes_hidden_files_and_whole_folders_but_follows_no_link(root: Path) -> None:
    (root / "var/cache/apt").mkdir(parents=True)
    (root / "var/cache/.hidden").touch()
    (root / "var/keep").touch()
    (root / "var/cache/out").symlink_to("../keep")
    tree.prune(root, ["var/cache/*", "usr/lib64"])
    assert not list((root / "var/cache").iterdir())
    assert (root / "var/keep").exists()
    assert not (root / "usr/lib64").exists()
    assert (root / "usr/lib/x86_64-linux-gnu/libz.so.1.3").exists()
