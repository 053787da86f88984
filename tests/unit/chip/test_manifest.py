"""The manifest: what the chip remembers beside its keys."""

from pathlib import Path

import pytest

from spacegray.chip import manifest
from spacegray.chip.messages import Esp
from spacegray.chip.refusal import ChipRefusalError

ESP = Esp(number=5, start_sector=2048, sectors=1048576, guid=bytes(range(16)))


def made() -> manifest.Manifest:
    return manifest.make(ecid=0xABC, seal="keyfile")


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    kept = manifest.with_system(made(), "b", source="ovmf 1", esp=ESP)
    manifest.write(tmp_path, kept)
    assert manifest.read(tmp_path) == kept
    assert (kept.ecid, kept.seal) == ("0x0000000000000abc", "keyfile")
    assert (kept.slots["b"].source, kept.slots["b"].esp) == ("ovmf 1", ESP)


def test_each_slot_has_its_own_system() -> None:
    kept = manifest.with_system(made(), "a", source="ovmf 1", esp=ESP)
    both = manifest.with_system(kept, "b", source="ovmf 2", esp=ESP)
    again = manifest.with_system(both, "a", source="ovmf 3", esp=ESP)
    assert {slot: each.source for slot, each in again.slots.items()} == {
        "a": "ovmf 3", "b": "ovmf 2",
    }  # fmt: skip
    assert kept.slots.keys() == {"a"}
    assert manifest.without_systems(again) == made_like(again)


def made_like(other: manifest.Manifest) -> manifest.Manifest:
    return manifest.Manifest(ecid=other.ecid, born=other.born, seal=other.seal)


def test_a_destroyed_chip_is_forgotten(tmp_path: Path) -> None:
    manifest.write(tmp_path, made())
    manifest.remove(tmp_path)
    manifest.remove(tmp_path)
    assert not manifest.exists(tmp_path)


@pytest.mark.parametrize(
    "content", [None, b"", b"{}", b"\xff" * 100, b'{"format": 1}', b'{"format": 2}']
)
def test_a_missing_or_damaged_manifest_is_one_clear_error(
    tmp_path: Path, content: bytes | None
) -> None:
    if content is not None:
        (tmp_path / manifest.NAME).write_bytes(content)
    with pytest.raises(ChipRefusalError) as caught:
        manifest.read(tmp_path)
    assert caught.value.link == "chip"
    assert caught.value.code == ("unborn" if content is None else "corrupt")
