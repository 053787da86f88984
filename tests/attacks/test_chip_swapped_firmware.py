"""Attack: exchange the firmware image between the chip's check and the machine's use of it.

Guards promise 4 of the design (swap the firmware: it does not start) against a race, which
no check of a path can win: the chip copies, seals, then hashes.
"""

import fcntl
import mmap
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from spacegray.chip import images
from spacegray.chip.client import Start
from spacegray.paths import WorkstationPaths
from tests.support.chip import born, workstation

SIZE_BYTES = 16 * 1024**2
EVIL = b"\xeb\xfe" * 512


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> WorkstationPaths:
    return workstation(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def start(home: WorkstationPaths) -> Iterator[Start]:
    """A start that the chip has consented to."""
    with born(home) as chip, chip.client() as client:
        client.create_disk(SIZE_BYTES)
        with client.prepare_start() as consented:
            yield consented


def test_a_path_written_after_the_check_changes_nothing(
    start: Start, home: WorkstationPaths
) -> None:
    original = home.firmware.read_bytes()
    with home.firmware.open("r+b") as file:
        file.write(EVIL)
    assert os.pread(start.firmware, len(original), 0) == original
    home.firmware.unlink()
    assert os.pread(start.firmware, len(original), 0) == original
    home.firmware.write_bytes(original)


def test_a_path_written_between_copy_and_hash_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The digest is that of the sealed copy, so a swap in between is noticed or without effect."""
    source = tmp_path / "image"
    source.write_bytes(b"good" * 1000)
    take = images.freeze_bytes

    def swap_then_freeze(content: bytes, name: str) -> images.Frozen:
        source.write_bytes(EVIL)
        return take(content, name)

    monkeypatch.setattr(images, "freeze_bytes", swap_then_freeze)
    frozen = images.freeze(source)
    try:
        assert frozen.read() == b"good" * 1000
        assert frozen.sha256 == _digest(frozen.read())
    finally:
        frozen.close()


def _digest(content: bytes) -> str:
    frozen = images.freeze_bytes(content, "again")
    frozen.close()
    return frozen.sha256


def test_the_image_itself_refuses_to_be_written(start: Start) -> None:
    """Not by its descriptor, not reopened, not resized, not mapped, not unsealed."""
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.pwrite(start.firmware, EVIL, 0)
    writable = os.open(f"/proc/self/fd/{start.firmware}", os.O_RDWR)
    try:
        with pytest.raises(PermissionError):
            os.pwrite(writable, EVIL, 0)
        with pytest.raises(PermissionError):
            os.ftruncate(writable, 0)
        with pytest.raises(PermissionError):
            mmap.mmap(writable, 4096, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        seals = fcntl.fcntl(writable, fcntl.F_GET_SEALS)
        assert seals & fcntl.F_SEAL_WRITE
        assert seals & fcntl.F_SEAL_SEAL
    finally:
        os.close(writable)


def test_control_an_unsealed_image_could_be_written() -> None:
    """The attack itself works where there is no seal: the tests above can fail."""
    descriptor = images.writable_copy(b"variables", "control")
    try:
        assert os.pwrite(descriptor, b"V", 0) == 1
    finally:
        os.close(descriptor)
