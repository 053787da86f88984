"""Guards: a result is written whole, and nothing that is no file is ever replaced by it."""

from pathlib import Path

import pytest

from spacegray.cli import writing
from spacegray.errors import UsageError
from spacegray.paths import Paths

DOING = "writing the result"


def test_it_is_written_whole_and_may_be_read_by_all(tmp_path: Path):
    file = tmp_path / "result"
    writing.write("ä", str(file), DOING)
    writing.write(b"other", str(file), DOING)
    assert file.read_bytes() == b"other"
    assert file.stat().st_mode & 0o777 == 0o644
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("to", [None, "-"])
def test_standard_output_is_nowhere_else(to: str | None, capfdbinary):
    writing.write("ä\n", to, DOING)
    assert capfdbinary.readouterr().out == "ä\n".encode()


@pytest.mark.parametrize("what", ["folder", "link", "nowhere"])
def test_what_is_no_file_is_left_alone(tmp_path: Path, what: str):
    there = tmp_path / "there"
    if what == "folder":
        there.mkdir()
    elif what == "link":
        there.symlink_to(tmp_path / "elsewhere")
    else:
        there = tmp_path / "nowhere" / "file"
    with pytest.raises(UsageError, match=DOING):
        writing.write(b"content", str(there), DOING)
    assert not (tmp_path / "elsewhere").exists()
    assert there.is_symlink() == (what == "link")


def test_a_file_is_kept_where_it_is_to_be(tmp_path: Path):
    file = tmp_path / "result"
    file.write_bytes(b"old")
    with pytest.raises(UsageError, match="that file exists"):
        writing.write(b"new", str(file), DOING, replace=False)
    assert file.read_bytes() == b"old"


@pytest.mark.parametrize("name", ["flash-0.module", "a/firmware.fd"])
def test_nothing_is_written_among_a_workstations_own(tmp_path: Path, name: str):
    at = Paths.current({"SPACEGRAY_HOME": str(tmp_path / "home")}).workstation("pro")
    for folder in (at.folder, at.state_folder, at.run):
        folder.mkdir(parents=True)
        (tmp_path / "link").symlink_to(folder)
        for way in (folder, tmp_path / "link", folder / ".." / "pro"):
            with pytest.raises(UsageError, match="own files alone"):
                writing.must_be_elsewhere(at, way / name, DOING)
        (tmp_path / "link").unlink()
    writing.must_be_elsewhere(at, tmp_path / "home" / "file", DOING)
    writing.must_be_elsewhere(at, at.folder.with_name("pro2") / "file", DOING)
