"""Images: their format is told, their size is known beforehand, and what is there is kept."""

import subprocess
from pathlib import Path

import pytest

from spacegray.errors import SpacegrayError, UsageError
from spacegray.workstation import image

SIZE_BYTES = 3 << 20


@pytest.mark.parametrize(
    ("name", "format_"),
    [
        ("a.raw", "raw"), ("a.img", "raw"), ("a", "raw"), ("a.iso", "raw"), ("a.QCOW2", "qcow2"),
        ("a.vhd", "vpc"), ("a.vhdx", "vhdx"), ("a.vmdk", "vmdk"), ("a.qcow2.bak", "raw"),
    ],
)  # fmt: skip
def test_a_name_speaks_of_a_format_or_of_none(name: str, format_: str):
    assert image.format_of(Path(name)) == format_


@pytest.mark.parametrize("format_", image.FORMATS)
def test_the_size_of_the_disk_in_an_image_is_known(tmp_path: Path, format_: str):
    path = tmp_path / "image"
    words = [*image._CREATION.get(format_, ()), str(path), str(SIZE_BYTES)]
    subprocess.run(["qemu-img", "create", "-q", "-f", format_, *words], check=True)
    assert image._size(path, format_, "importing") == SIZE_BYTES


def test_an_image_is_never_taken_for_what_its_content_says(tmp_path: Path):
    """A guest that writes a header of its choice to its disk does not choose how it is read."""
    path = tmp_path / "image.raw"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(path), "1T"], check=True)
    assert image._size(path, "raw", "importing") == path.stat().st_size


def test_a_difference_and_another_file_are_not_followed(tmp_path: Path):
    """Whoever made the image does not choose which of the owner's files are imported."""
    secret = tmp_path / "secret"
    secret.write_bytes(b"private" * 1000)
    path = tmp_path / "image.qcow2"
    command = ["qemu-img", "create", "-q", "-f", "qcow2"]
    subprocess.run([*command, "-F", "raw", "-b", str(secret), str(path)], check=True)
    with pytest.raises(SpacegrayError, match="whole only with"):
        image._size(path, "qcow2", "importing")
    path.unlink()
    options = f"data_file={secret},data_file_raw=on"
    subprocess.run([*command, "-o", options, str(path), "1M"], check=True)
    with pytest.raises(SpacegrayError, match="whole only with"):
        image._size(path, "qcow2", "importing")


def test_what_is_there_is_kept_unless_it_may_be_replaced(tmp_path: Path):
    path = tmp_path / "image"
    image.may_write(path, "exporting", replace=False)
    path.touch()
    image.may_write(path, "exporting", replace=True)
    with pytest.raises(UsageError, match="give --yes"):
        image.may_write(path, "exporting", replace=False)
    path.unlink()
    path.mkdir()
    with pytest.raises(UsageError, match="no file"):
        image.may_write(path, "exporting", replace=True)


def test_an_unfinished_image_is_private_and_goes(tmp_path: Path):
    path = tmp_path / "image"
    with image.unfinished_file(path, "exporting") as unfinished:
        assert unfinished.parent == tmp_path
        assert unfinished.stat().st_mode & 0o777 == 0o600
    assert not list(tmp_path.iterdir())
    with image.unfinished_file(path, "exporting") as unfinished:
        unfinished.write_bytes(b"whole")
        image._finish(unfinished, path, "exporting", replace=False)
    assert [each.name for each in tmp_path.iterdir()] == ["image"]
    with (
        image.unfinished_file(path, "exporting") as unfinished,
        pytest.raises(UsageError, match="that file exists"),
    ):
        image._finish(unfinished, path, "exporting", replace=False)
    assert path.read_bytes() == b"whole"
