"""An external disk: a file or block device that may be written, and in one machine at a time."""

import os
from pathlib import Path

import pytest

from spacegray.errors import SpacegrayError, UsageError
from spacegray.machine import external

DOING = "starting pro with an external disk"


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    with path.open("wb") as file:
        file.truncate(external.SIZE_LEAST_BYTES)
    return path


def test_it_is_open_for_both_and_closed_at_the_end(image: Path):
    with external.opened(image, DOING) as descriptor:
        os.pwrite(descriptor, b"written", 512)
        assert os.pread(descriptor, 7, 512) == b"written"
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_two_do_not_have_it_at_once(image: Path):
    with (
        external.opened(image, DOING),
        pytest.raises(SpacegrayError, match="is in use"),
        external.opened(image, DOING),
    ):
        pass
    with external.opened(image, DOING):
        pass


def test_what_is_no_disk_is_refused_at_once(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "short").write_bytes(bytes(512))
    (tmp_path / "odd").write_bytes(bytes(external.SIZE_LEAST_BYTES + 1))
    (tmp_path / "read-only").write_bytes(bytes(external.SIZE_LEAST_BYTES))
    (tmp_path / "read-only").chmod(0o400)
    open_before = len(os.listdir("/proc/self/fd"))
    for name in ("missing", ".", "pipe", "short", "odd", "read-only"):
        if name == "read-only" and os.geteuid() == 0:
            continue
        with pytest.raises(UsageError, match=DOING), external.opened(tmp_path / name, DOING):
            pass
    for device in ("/dev/null", "/dev/zero"):
        with pytest.raises(UsageError), external.opened(Path(device), DOING):
            pass
    assert len(os.listdir("/proc/self/fd")) == open_before
