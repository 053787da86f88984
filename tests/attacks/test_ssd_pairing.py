"""Promise: two modules and one chip make one SSD; what is missing, foreign or exchanged is named.

And a disk opens once: a second opener gets a clear error.
"""

import fcntl
from pathlib import Path

import pytest

from spacegray.chip.launch import launch
from spacegray.chip.modules import NAMES
from spacegray.errors import SpacegrayError
from spacegray.paths import WorkstationPaths
from tests.support import ssd
from tests.support.chip import copy

FILLED_BLOCKS = 2048


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A disk with something on it, and beside it another workstation with a disk of its own."""
    home = tmp_path_factory.mktemp("ssd") / "home"
    home.mkdir()
    for part in (home, home / "other"):
        with ssd.served(ssd.make(part)) as served:
            ssd.fill(served.disk, 1, 0, FILLED_BLOCKS)
    return home


@pytest.fixture
def at(home: Path, tmp_path: Path) -> WorkstationPaths:
    """A copy of it to attack."""
    return copy(home, tmp_path / "home")


@pytest.fixture
def other(at: WorkstationPaths) -> Path:
    """The other workstation's folder."""
    return at.folder.parents[1] / "other" / "workstations" / "pro"


def refusal(at: WorkstationPaths) -> str:
    """How opening is refused; it must be."""
    with pytest.raises(SpacegrayError) as caught, ssd.served(at):
        pass
    assert caught.value.link == "disk"
    return str(caught.value)


def assert_whole(at: WorkstationPaths) -> None:
    """The disk opens and holds what was written."""
    with ssd.served(at) as served:
        assert ssd.read(served.disk, 7) == ssd.content(1, 7)


@pytest.mark.parametrize("numbers", [(0,), (1,), (0, 1)])
def test_a_missing_module_is_named(at: WorkstationPaths, numbers: tuple[int, ...]) -> None:
    """Put back, the disk is whole again: nothing was made in its place."""
    for number in numbers:
        (at.folder / NAMES[number]).rename(at.folder / f"hidden-{number}")
    assert f"{NAMES[numbers[0]]} is missing" in refusal(at)
    for number in numbers:
        assert not (at.folder / NAMES[number]).exists()
        (at.folder / f"hidden-{number}").rename(at.folder / NAMES[number])
    assert_whole(at)


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("left", [0, 4096, 100_000])
def test_a_truncated_module_is_named(at: WorkstationPaths, number: int, left: int) -> None:
    """To nothing, to its header, in the middle."""
    with (at.folder / NAMES[number]).open("r+b") as file:
        file.truncate(left)
    assert NAMES[number] in refusal(at)


def test_exchanged_modules_are_named(at: WorkstationPaths) -> None:
    """Exchanged back, the disk is whole again."""
    zero, one = (at.folder / name for name in NAMES)

    def exchange() -> None:
        zero.rename(at.folder / "third")
        one.rename(zero)
        (at.folder / "third").rename(one)

    exchange()
    assert "flash-0.module and flash-1.module are exchanged" in refusal(at)
    exchange()
    assert_whole(at)


@pytest.mark.parametrize("numbers", [(0,), (1,), (0, 1)])
def test_another_workstations_module_is_named_and_not_adopted(
    at: WorkstationPaths, other: Path, numbers: tuple[int, ...]
) -> None:
    """Neither one nor both can be read by this chip, and they are left as they are."""
    kept = ssd.keep(at, at.folder / "kept")
    ssd.put_back(at, other, *numbers)
    words = refusal(at)
    assert "of another disk" in words
    for number in numbers:
        assert NAMES[number] in words
        theirs = (other / NAMES[number]).read_bytes()
        assert (at.folder / NAMES[number]).read_bytes() == theirs
    ssd.put_back(at, kept, *numbers)
    assert_whole(at)


def test_adopting_a_foreign_module_means_erasing_it(at: WorkstationPaths, other: Path) -> None:
    """After `erase` it is this chip's, and empty; its old chip refuses it."""
    ssd.put_back(at, other, 0, 1)
    with launch(at) as chip, chip.client() as mailbox:
        mailbox.erase_disk(ssd.CAPACITY_BYTES)
    with ssd.served(at) as served:
        assert served.disk.read(0, 1 << 20) == bytes(1 << 20)


def test_an_erased_disk_does_not_open_from_a_copy(at: WorkstationPaths) -> None:
    """The key is gone at once: a copy of the modules made before is of another disk now."""
    kept = ssd.keep(at, at.folder / "kept")
    with launch(at) as chip, chip.client() as mailbox:
        mailbox.erase_disk(ssd.CAPACITY_BYTES)
    ssd.put_back(at, kept, 0, 1)
    assert ".module" in refusal(at)


def test_a_second_opener_gets_a_clear_error(at: WorkstationPaths, other: Path) -> None:
    """Another chip on the same files, by hard links: refused before it learns anything."""
    for name in NAMES:
        (other / name).unlink()
        (other / name).hardlink_to(at.folder / name)
    theirs = WorkstationPaths(
        "pro", other, other.parents[1] / "state" / "pro", other.parents[1] / "run" / "pro"
    )
    with ssd.served(at) as served:
        assert "flash-0.module is in use by another process" in refusal(theirs)
        assert ssd.read(served.disk, 7) == ssd.content(1, 7)


@pytest.mark.parametrize("number", [0, 1])
def test_whoever_holds_a_module_keeps_it_from_being_opened(
    at: WorkstationPaths, number: int
) -> None:
    """Each of the two is held by itself."""
    with (at.folder / NAMES[number]).open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert f"{NAMES[number]} is in use" in refusal(at)
    assert_whole(at)
