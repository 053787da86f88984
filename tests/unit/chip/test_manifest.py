"""The manifest: what the chip remembers, and what it says when that does not fit."""

from pathlib import Path

import pytest

from spacegray.chip import images, manifest
from spacegray.chip.refusal import ChipRefusalError
from spacegray.errors import SpacegrayError


def made(firmware: bytes = b"firmware") -> manifest.Manifest:
    image, template = (images.freeze_bytes(each, "image") for each in (firmware, b"template"))
    try:
        return manifest.make(
            ecid=0xABC, seal="keyfile", source="ovmf 1", firmware=image, template=template
        )
    finally:
        image.close()
        template.close()


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    kept = manifest.with_signed(made(), "ab" * 32)
    manifest.write(tmp_path, kept)
    assert manifest.read(tmp_path) == kept
    assert (kept.ecid, kept.seal, kept.source) == ("0x0000000000000abc", "keyfile", "ovmf 1")


def test_the_newest_signed_images_are_known_and_the_older_counted() -> None:
    """Promise: what the chip authorised is listed, or at least counted."""
    kept = made()
    digests = [f"{number:064x}" for number in range(manifest.SIGNED_LIMIT + 3)]
    for sha256 in digests:
        kept = manifest.with_signed(kept, sha256)
        assert manifest.with_signed(kept, sha256) == kept
    assert [each.sha256 for each in kept.signed] == digests[3:]
    assert kept.signed_earlier == 3
    forgotten = manifest.without_signed(kept)
    assert (forgotten.signed, forgotten.signed_earlier) == ((), 0)
    assert forgotten.ecid == kept.ecid


def test_a_destroyed_chip_is_forgotten(tmp_path: Path) -> None:
    manifest.write(tmp_path, made())
    manifest.remove(tmp_path)
    manifest.remove(tmp_path)
    assert not manifest.exists(tmp_path)


@pytest.mark.parametrize("content", [None, b"", b"{}", b"\xff" * 100, b'{"format": 1}'])
def test_a_missing_or_damaged_manifest_is_one_clear_error(
    tmp_path: Path, content: bytes | None
) -> None:
    if content is not None:
        (tmp_path / manifest.NAME).write_bytes(content)
    with pytest.raises(ChipRefusalError) as caught:
        manifest.read(tmp_path)
    assert caught.value.link == "chip"
    assert caught.value.code == ("unborn" if content is None else "corrupt")


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
