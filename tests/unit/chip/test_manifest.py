"""The manifest: what the chip remembers, and what it says when that does not fit."""

from pathlib import Path

import pytest

from spacegray.chip import images, manifest
from spacegray.errors import SpacegrayError


def made(firmware: bytes = b"firmware") -> manifest.Manifest:
    image, template = (images.freeze_bytes(each, "image") for each in (firmware, b"template"))
    try:
        return manifest.make(ecid=0xABC, source="ovmf 1", firmware=image, template=template)
    finally:
        image.close()
        template.close()


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    manifest.write(tmp_path, made())
    assert manifest.read(tmp_path) == made().__class__(
        ecid="0x0000000000000abc",
        born=manifest.read(tmp_path).born,
        source="ovmf 1",
        firmware=made().firmware,
        template=made().template,
    )


@pytest.mark.parametrize("content", [None, b"", b"{}", b"\xff" * 100, b'{"format": 2}'])
def test_a_missing_or_damaged_manifest_is_one_clear_error(
    tmp_path: Path, content: bytes | None
) -> None:
    if content is not None:
        (tmp_path / manifest.NAME).write_bytes(content)
    with pytest.raises(SpacegrayError) as caught:
        manifest.read(tmp_path)
    assert caught.value.link == "chip"


def test_another_image_is_refused_naming_both_digests_and_the_original() -> None:
    """Promise: a changed firmware file breaks the link `firmware`, and says what to do."""
    other = images.freeze_bytes(b"Firmware", "image")
    try:
        with pytest.raises(SpacegrayError) as caught:
            manifest.check(made().firmware, other, Path("/w/firmware.fd"), "ovmf 1")
    finally:
        other.close()
    text = str(caught.value)
    assert caught.value.link == "firmware"
    for part in (made().firmware.sha256[:16], other.sha256[:16], "ovmf 1", "/w/firmware.fd"):
        assert part in text
