"""Promise: whoever copies the modules has noise, a small public header apart."""

import zlib
from pathlib import Path

import pytest

from spacegray.chip.modules import NAMES
from spacegray.paths import WorkstationPaths
from tests.support import scan, ssd
from tests.support.flash_reader import SUPERBLOCK_SLOTS
from tests.support.vault_store import read_secrets

SECRET = b"the plain text that nobody else may read"
EQUAL_BLOCKS = 512
EQUAL = b"A" * ssd.BLOCK_BYTES
PIECE_BYTES = 16
"""The block size of AES: what repeats in its output at this distance was the same before."""
PUBLIC_BYTES = 3 * PIECE_BYTES
"""At least what a superblock begins with: the salt of its session, and a count."""
RATIO_LEAST = 0.99
"""Noise does not become smaller; text shrinks to a tenth."""


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory) -> WorkstationPaths:
    """A disk with a secret text all over it, and many equal blocks."""
    made = ssd.make(tmp_path_factory.mktemp("home"))
    with ssd.served(made) as served:
        served.disk.write(0, (SECRET * 100).ljust(ssd.BLOCK_BYTES, b"."))
        for block in range(1, 1 + EQUAL_BLOCKS):
            served.disk.write(block * ssd.BLOCK_BYTES, EQUAL)
        served.disk.flush()
    return made


def written(path: Path) -> bytes:
    """Everything in a module but what is public, its header and its superblocks' salts."""
    raw, content = path.read_bytes(), b""
    for at in ssd.slots(path):
        if at:
            public = PUBLIC_BYTES if at // ssd.BLOCK_BYTES in SUPERBLOCK_SLOTS else 0
            content += raw[at + public : at + ssd.BLOCK_BYTES]
    return content


def test_the_modules_hold_no_plain_text_and_no_key(at: WorkstationPaths) -> None:
    """Neither what was written nor the key is in a module, while the plain disk has it."""
    needles = {"text": SECRET, "equal": EQUAL[:64]}
    needles["key"] = read_secrets(at.state_folder)["volume_key"]
    assert scan.found_in_files([at.folder], needles) == set()
    with ssd.served(at) as served:
        assert SECRET in served.disk.read(0, ssd.BLOCK_BYTES)
        assert scan.found_in_files([at.folder], needles) == set()


def test_equal_blocks_are_not_equal_on_the_modules(at: WorkstationPaths) -> None:
    """Not even that two blocks hold the same can be seen, or that one repeats itself."""
    content = b"".join(written(at.folder / name) for name in NAMES)
    assert len(content) >= EQUAL_BLOCKS * ssd.BLOCK_BYTES, "the blocks are not there at all"
    pieces = [content[at : at + PIECE_BYTES] for at in range(0, len(content), PIECE_BYTES)]
    assert len(set(pieces)) == len(pieces)
    assert len(zlib.compress(content)) / len(content) > RATIO_LEAST


def test_the_header_says_nothing_but_what_is_public(at: WorkstationPaths) -> None:
    """Format, module and pairing: the rest of the header's block is empty."""
    for name in NAMES:
        header = (at.folder / name).read_bytes()[: ssd.BLOCK_BYTES]
        assert header.startswith(b"SGFLASH\0")
        assert not any(header[96:]), "more than the header is in the header's block"
