"""Firmware images: what was hashed is what the machine gets."""

import hashlib
import os
from pathlib import Path

import pytest

from spacegray import host
from spacegray.chip import images
from spacegray.errors import SpacegrayError


def test_digest_is_that_of_the_content(tmp_path: Path) -> None:
    source = tmp_path / "image"
    source.write_bytes(b"firmware" * 1000)
    frozen = images.freeze(source)
    try:
        assert frozen.sha256 == hashlib.sha256(source.read_bytes()).hexdigest()
        assert frozen.size_bytes == source.stat().st_size
        assert frozen.read() == source.read_bytes()
    finally:
        frozen.close()


def test_descriptor_starts_at_its_beginning() -> None:
    """Promise: whoever simply reads a frozen image gets all of it."""
    frozen = images.freeze_bytes(b"content", "image")
    with open(frozen.detach(), "rb") as file:
        assert file.read() == b"content"


def test_the_variable_store_is_writable_and_of_fixed_size() -> None:
    with open(images.writable_copy(b"variables", "store"), "r+b", buffering=0) as file:
        file.write(b"V")
        assert os.pread(file.fileno(), 100, 0) == b"Variables"
        with pytest.raises(PermissionError):
            file.truncate(100)


@pytest.mark.parametrize("kind", ["missing", "pipe", "folder", "long"])
def test_what_is_no_image_is_one_clear_error(tmp_path: Path, kind: str) -> None:
    """Promise: nothing odd at the firmware's path blocks the chip or fills its memory."""
    source = tmp_path / "image"
    if kind == "pipe":
        os.mkfifo(source)
    elif kind == "folder":
        source.mkdir()
    elif kind == "long":
        source.write_bytes(b"123456789")
    with pytest.raises(SpacegrayError) as caught:
        images.freeze(source, limit_bytes=8)
    assert caught.value.link == "firmware"


def test_copies_are_those_of_the_host(tmp_path: Path) -> None:
    ovmf = host.ovmf()
    firmware, template = images.copy_firmware(ovmf, tmp_path)
    assert firmware.read_bytes() == ovmf.code.read_bytes()
    assert template.read_bytes() == ovmf.variables.read_bytes()
