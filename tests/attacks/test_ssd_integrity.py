"""Promise: a read returns what was last written, or is an I/O error; never wrong plain text.

The attacker has the modules of a machine that is off, and writes to them what they like. All
chance comes from the seed in a test's name.
"""

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from spacegray.chip.modules import NAMES
from spacegray.errors import SpacegrayError
from spacegray.paths import WorkstationPaths
from tests.support import ssd
from tests.support.chip import copy

FILLED_BLOCKS = 4096
"""16 MiB: four segments, so that both modules have data."""
FLIPS_AT_ONCE = 64


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A disk filled by two sessions, closed in order; `old` holds the modules after the first."""
    home = tmp_path_factory.mktemp("ssd") / "home"
    ssd.make_of_two_sessions(home, FILLED_BLOCKS)
    return home


@pytest.fixture
def at(home: Path, tmp_path: Path) -> WorkstationPaths:
    """A copy of it to attack."""
    return copy(home, tmp_path / "home")


def judge(at: WorkstationPaths) -> int:
    """Read everything; returns the number of I/O errors, and fails on one wrong byte.

    -1 where the disk did not open at all, which has to be said of a module by name.
    """
    try:
        with ssd.served(at) as served:
            errors = 0
            for block in range(FILLED_BLOCKS + 64):
                found = ssd.read(served.disk, block)
                good = ssd.content(2, block) if block < FILLED_BLOCKS else bytes(ssd.BLOCK_BYTES)
                assert found in (None, good), f"block {block} is silently wrong"
                errors += found is None
            return errors
    except SpacegrayError as error:
        refusal = error
    assert refusal.link == "disk", refusal
    assert ".module" in str(refusal), refusal
    return -1


def test_untouched_everything_is_there(at: WorkstationPaths) -> None:
    """The control: without an attack there is no error."""
    assert judge(at) == 0


@pytest.mark.parametrize("seed", range(6))
def test_a_flipped_byte_is_an_error_or_nothing(at: WorkstationPaths, seed: int) -> None:
    """One byte anywhere on a module changes nothing, is an I/O error, or keeps it from opening."""
    dice = ssd.dice(seed)
    path = at.folder / NAMES[seed % 2]
    ssd.flip(path, dice.choice(ssd.slots(path)) + dice.randrange(ssd.BLOCK_BYTES), 1 << seed)
    assert judge(at) <= 256, "one byte cost more than one leaf of the index"


def test_a_byte_flipped_in_many_slots_is_noticed(at: WorkstationPaths) -> None:
    """Data, index and log alike; here the attack cannot go unnoticed."""
    dice = ssd.dice(1)
    for name in NAMES:
        path = at.folder / name
        for slot in dice.sample(ssd.slots(path)[1:], FLIPS_AT_ONCE):
            ssd.flip(path, slot + dice.randrange(ssd.BLOCK_BYTES))
    assert judge(at) != 0


def swap(at: WorkstationPaths, dice: random.Random) -> None:
    """Slots exchanged within a module and between the two."""
    modules = [bytearray((at.folder / name).read_bytes()) for name in NAMES]
    places = [
        (number, slot)
        for number, name in enumerate(NAMES)
        for slot in ssd.slots(at.folder / name)[1:]
    ]
    for _ in range(FLIPS_AT_ONCE):
        (one, left), (other, right) = dice.sample(places, 2)
        kept = bytes(modules[one][left : left + ssd.BLOCK_BYTES])
        theirs = bytes(modules[other][right : right + ssd.BLOCK_BYTES])
        modules[one][left : left + ssd.BLOCK_BYTES] = theirs
        modules[other][right : right + ssd.BLOCK_BYTES] = kept
    for name, content in zip(NAMES, modules, strict=True):
        (at.folder / name).write_bytes(content)


def replay(at: WorkstationPaths, dice: random.Random) -> None:
    """Slots put back as they were an hour ago, each at its own address."""
    old = at.folder.parents[1] / "old"
    for name in NAMES:
        before = (old / name).read_bytes()
        now = bytearray((at.folder / name).read_bytes())
        changed = [
            slot
            for slot in range(ssd.BLOCK_BYTES, min(len(before), len(now)), ssd.BLOCK_BYTES)
            if before[slot : slot + ssd.BLOCK_BYTES] != now[slot : slot + ssd.BLOCK_BYTES]
        ]
        for slot in dice.sample(changed, min(FLIPS_AT_ONCE, len(changed))):
            now[slot : slot + ssd.BLOCK_BYTES] = before[slot : slot + ssd.BLOCK_BYTES]
        (at.folder / name).write_bytes(now)


def wipe(at: WorkstationPaths, dice: random.Random) -> None:
    """Slots overwritten by zeros, as if they had been given back."""
    for name in NAMES:
        path = at.folder / name
        with path.open("r+b") as file:
            for slot in dice.sample(ssd.slots(path)[1:], FLIPS_AT_ONCE):
                file.seek(slot)
                file.write(bytes(ssd.BLOCK_BYTES))


@pytest.mark.parametrize("attack", [swap, replay, wipe])
def test_slots_moved_replayed_or_wiped_are_noticed(
    at: WorkstationPaths, attack: Callable[[WorkstationPaths, random.Random], None]
) -> None:
    """A sealed slot is good at its own place and time only, and its absence is no zeros."""
    attack(at, ssd.dice(2))
    assert judge(at) != 0


def test_verify_names_what_is_bad(at: WorkstationPaths) -> None:
    """What cannot be read is found by verifying, and nothing else is."""
    path = at.folder / NAMES[1]
    dice = ssd.dice(3)
    for slot in dice.sample(ssd.slots(path)[1:], FLIPS_AT_ONCE):
        ssd.flip(path, slot + 100)
    with ssd.checked(at) as mailbox:
        found: set[int] = set()
        block = 0
        while block < ssd.BLOCKS:
            part = mailbox.verify_disk(block, min(1000, ssd.BLOCKS - block))
            found |= set(part.bad)
            block = part.next
    with ssd.served(at) as served:
        unreadable = {
            block for block in range(FILLED_BLOCKS) if ssd.read(served.disk, block) is None
        }
    assert found
    assert found == unreadable
