"""A small real disk behind a real chip, without a machine: what the attacks on the SSD work on."""

import random
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from spacegray.chip.client import ChipClient
from spacegray.chip.launch import ChipProcess, launch
from spacegray.chip.modules import NAMES
from spacegray.nbd import NbdClient, NbdError
from spacegray.paths import WorkstationPaths
from tests.support.chip import born, workstation

CAPACITY_BYTES = 64 * 1024**2
BLOCK_BYTES = 4096
BLOCKS = CAPACITY_BYTES // BLOCK_BYTES
ANCHORED_SECONDS = 1.6
"""After this long without a write the chip remembers the newest state (idle: 0.5 s, lease: 1 s)."""


@dataclass(frozen=True)
class Served:
    """A running chip, its mailbox and its plain disk."""

    chip: ChipProcess
    mailbox: ChipClient
    disk: NbdClient


@contextmanager
def served(at: WorkstationPaths, *, strict: bool = False) -> Iterator[Served]:
    """The disk served over NBD; closed in order at the end, unless the chip was killed."""
    with (
        launch(at) as chip,
        chip.client() as mailbox,
        NbdClient(mailbox.open_disk("nbd", strict=strict)) as disk,
    ):
        yield Served(chip, mailbox, disk)


@contextmanager
def checked(at: WorkstationPaths) -> Iterator[ChipClient]:
    """The mailbox of a chip whose disk is open and not served."""
    with launch(at) as chip, chip.client() as mailbox:
        mailbox.check_disk()
        yield mailbox


def make(home: Path) -> WorkstationPaths:
    """A workstation in `home` with a chip and an empty disk."""
    at = workstation(home)
    with born(at) as chip, chip.client() as mailbox:
        mailbox.create_disk(CAPACITY_BYTES)
    return at


def content(generation: int, block: int) -> bytes:
    """What the tests write into a block in a generation: like nothing else, and not random."""
    return f"generation {generation} block {block:7d} ".encode().ljust(64, b".") * 64


def make_of_two_sessions(home: Path, blocks: int) -> None:
    """A disk whose first blocks are of generation 2, closed in order.

    `old` in `home` holds its modules as they were after generation 1.
    """
    home.mkdir()
    at = make(home)
    with served(at) as session:
        fill(session.disk, 1, 0, blocks)
    keep(at, home / "old")
    with served(at) as session:
        fill(session.disk, 2, 0, blocks)


def fill(disk: NbdClient, generation: int, first: int, count: int) -> None:
    """Write `count` blocks from `first` on, and make them durable."""
    for block in range(first, first + count):
        disk.write(block * BLOCK_BYTES, content(generation, block))
    disk.flush()


def read(disk: NbdClient, block: int) -> bytes | None:
    """One block, None where reading it is an I/O error."""
    try:
        return disk.read(block * BLOCK_BYTES, BLOCK_BYTES)
    except NbdError:
        return None


def keep(at: WorkstationPaths, folder: Path) -> Path:
    """Copies of both modules as they are now, in the new `folder`."""
    folder.mkdir()
    for name in NAMES:
        shutil.copyfile(at.folder / name, folder / name)
    return folder


def put_back(at: WorkstationPaths, kept: Path, *numbers: int) -> None:
    """Replace these modules by the copies in `kept`."""
    for number in numbers:
        shutil.copyfile(kept / NAMES[number], at.folder / NAMES[number])


def slots(path: Path) -> list[int]:
    """Where a module holds slots that are not all zero, in bytes."""
    raw = path.read_bytes()
    return [at for at in range(0, len(raw), BLOCK_BYTES) if any(raw[at : at + BLOCK_BYTES])]


def flip(path: Path, offset: int, mask: int = 1) -> None:
    """Change one byte of a file."""
    with path.open("r+b") as file:
        file.seek(offset)
        (byte,) = file.read(1)
        file.seek(offset)
        file.write(bytes([byte ^ mask]))


def await_anchor() -> None:
    """Wait until an idle disk's newest state is remembered by the chip."""
    time.sleep(ANCHORED_SECONDS)


def dice(seed: int) -> random.Random:
    """Chance that can be had again: the seed is in the test's name."""
    return random.Random(seed)
