"""The SSD's modules, read by a plain reader that knows docs/flash-format.md and nothing else."""

import os
import subprocess
from collections import Counter
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import GCM

from tests.support.flash_reader import (
    SLOT,
    SUPERBLOCK_SLOTS,
    TAG,
    FlashError,
    FlashReader,
    superblock_anchors,
)

ROOT = Path(__file__).resolve().parents[3]
MAKING_TIMEOUT_SECONDS = 120


class Image:
    """Two modules, their key and anchor, and what was written to them."""

    def __init__(self, folder: Path, seed: int, slots: int, end: str) -> None:
        self.modules = (folder / "flash-0.module", folder / "flash-1.module")
        plain = folder / "contents"
        made = subprocess.run(
            [program(), *self.modules, plain, str(seed), str(slots), end],
            capture_output=True,
            text=True,
            timeout=MAKING_TIMEOUT_SECONDS,
            check=False,
        )
        assert made.returncode == 0, made.stderr
        values = dict(line.split() for line in made.stdout.splitlines())
        self.key, self.anchor = bytes.fromhex(values["key"]), bytes.fromhex(values["anchor"])
        self.earlier = bytes.fromhex(values["earlier"])
        """The anchor before the last session."""
        self.contents = plain.read_bytes()

    def read(self) -> FlashReader:
        """Opens it with the plain reader."""
        return FlashReader(self.modules, self.key, self.anchor)


def program() -> Path:
    """The program that makes images; a plain error if nobody has built it."""
    built = ROOT / ".build" / "silicon" / "release" / "examples" / "image"
    path = Path(os.environ.get("SPACEGRAY_FLASH_IMAGE") or built)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: build it with cargo build --release --example image")
    return path


@pytest.mark.parametrize("end", ["stop", "cut"])
@pytest.mark.parametrize("slots", [8, 16, 1024])
@pytest.mark.parametrize("seed", [1, 2])
def test_every_block_reads_as_it_was_written(tmp_path, seed, slots, end):
    """Promise: the document is enough to get the data back, after a stop and a power cut."""
    image = Image(tmp_path, seed, slots, end)
    reader = image.read()
    assert reader.blocks * SLOT == len(image.contents)
    for block in range(reader.blocks):
        wanted = image.contents[block * SLOT :][:SLOT]
        assert reader.read_block(block) == wanted, f"block {block}"
    zeros = sum(
        not any(image.contents[at : at + SLOT]) for at in range(0, reader.blocks * SLOT, SLOT)
    )
    assert 0 < zeros < reader.blocks, "the image has both blocks and holes"
    # A stop leaves a checkpoint; after a power cut there are records that it does not know.
    assert (reader.records > 1) == (end == "cut")


@pytest.mark.parametrize("end", ["stop", "cut", "adopt"])
def test_the_superblocks_lead_to_every_block(tmp_path, end):
    """Promise: modules and volume key are enough, the chip's anchor aside.

    After an adoption the newest superblock is that of the chip that adopted.
    """
    image = Image(tmp_path, 6, 16, end)
    anchors = superblock_anchors(image.modules, image.key)
    assert 1 <= len(anchors) <= len(SUPERBLOCK_SLOTS)
    if end != "cut":
        assert anchors[0] == image.anchor
    reader = FlashReader(image.modules, image.key, anchors[0])
    for block in range(reader.blocks):
        assert reader.read_block(block) == image.contents[block * SLOT :][:SLOT], f"block {block}"
    assert not superblock_anchors(image.modules, bytes(32))


def test_an_anchor_from_before_an_adoption_reads_nothing(tmp_path):
    """Promise: pairing and adoptions are where the document says."""
    image = Image(tmp_path, 7, 16, "adopt")
    assert image.read().blocks
    with pytest.raises(FlashError, match="adopted since"):
        FlashReader(image.modules, image.key, image.earlier)


def test_changed_bytes_are_found_by_the_reader_too(tmp_path):
    """Promise: what the reader reads is authenticated; a control for the test above."""
    image = Image(tmp_path, 3, 16, "stop")
    for module in image.modules:
        data = module.read_bytes()
        failed = 0
        for at in range(5, len(data), 17 * SLOT):
            if not any(data[at - 5 : at - 5 + SLOT]):
                continue
            module.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
            try:
                reader = image.read()
            except FlashError:
                failed += 1
                continue
            for block in range(reader.blocks):
                try:
                    assert reader.read_block(block) == image.contents[block * SLOT :][:SLOT]
                except FlashError:
                    failed += 1
        module.write_bytes(data)
        assert failed > 0


def test_another_key_and_an_exchange_read_nothing(tmp_path):
    image = Image(tmp_path, 4, 16, "stop")
    with pytest.raises(FlashError, match="header"):
        FlashReader(image.modules, bytes(32), image.anchor)
    with pytest.raises(FlashError, match="exchanged"):
        FlashReader(image.modules[::-1], image.key, image.anchor)


def test_modules_hold_a_header_and_noise(tmp_path):
    """Promise: nothing but the public header and cipher text is in the modules."""
    image = Image(tmp_path, 5, 16, "stop")
    held = b"".join(module.read_bytes() for module in image.modules)
    written = 0
    for at in range(0, len(image.contents), 5 * 512):
        sector = image.contents[at : at + 512]
        if any(sector):
            written += 1
            assert sector[100:132] not in held
    assert written > 100
    assert image.key not in held
    for at in range(0, len(held), SLOT):
        slot = held[at : at + SLOT]
        if any(slot) and not slot.startswith(b"SGFLASH\0"):
            # Noise has about 16 of each byte; structure would stand out.
            assert max(Counter(slot).values()) < 64, f"slot at {at}"


def vectors() -> list[dict[str, bytes]]:
    """NIST's vectors for nonces and tags of 96 bits; one that is to be refused has no PT."""
    text = (ROOT / "silicon/flash/tests/vectors/gcm-256-96-96.rsp").read_text()
    found: list[dict[str, bytes]] = [{}]
    for line in text.splitlines():
        if not line:
            found.append({})
        elif not line.startswith("#"):
            label, _, value = line.partition(" =")
            found[-1][label] = bytes.fromhex(value)
    return [vector for vector in found if vector]


def test_nist_vectors_hold_for_tags_of_96_bits():
    """Promise: the reader's cipher is AES-256-GCM as NIST's own vectors for short tags have it."""
    passed = refused = 0
    for vector in vectors():
        opening = Cipher(
            AES(vector["Key"]), GCM(vector["IV"], vector["Tag"], min_tag_length=TAG)
        ).decryptor()
        opening.authenticate_additional_data(vector["AAD"])
        plain = opening.update(vector["CT"])
        if "PT" in vector:
            assert plain + opening.finalize() == vector["PT"]
            passed += 1
        else:
            with pytest.raises(InvalidTag):
                opening.finalize()
            refused += 1
    assert (passed, refused) == (50, 50)
