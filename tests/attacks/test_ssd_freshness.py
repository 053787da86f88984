"""Promise: an older copy of one module or of both is refused at open, and the module is named."""

from pathlib import Path

import pytest

from spacegray.chip.modules import NAMES
from spacegray.errors import SpacegrayError
from spacegray.paths import WorkstationPaths
from tests.support import ssd
from tests.support.chip import copy

FILLED_BLOCKS = 3072
"""12 MiB: more than two segments, so that a session leaves its mark on both modules."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A disk of two sessions, closed in order; `old` holds the modules after the first."""
    home = tmp_path_factory.mktemp("ssd") / "home"
    ssd.make_of_two_sessions(home, FILLED_BLOCKS)
    return home


@pytest.fixture
def at(home: Path, tmp_path: Path) -> WorkstationPaths:
    """A copy of it to attack."""
    return copy(home, tmp_path / "home")


def refusal(at: WorkstationPaths) -> str:
    """How opening is refused; it must be."""
    with pytest.raises(SpacegrayError) as caught, ssd.served(at):
        pass
    assert caught.value.link == "disk"
    return str(caught.value)


def assert_newest(at: WorkstationPaths, generation: int) -> None:
    """The disk opens and everything is of this generation."""
    with ssd.served(at) as served:
        for block in (0, FILLED_BLOCKS // 2, FILLED_BLOCKS - 1):
            assert ssd.read(served.disk, block) == ssd.content(generation, block)


@pytest.mark.parametrize("numbers", [(0,), (1,), (0, 1)])
def test_an_older_copy_is_refused_by_name(at: WorkstationPaths, numbers: tuple[int, ...]) -> None:
    """After a clean stop this is exact; with the newest back it opens as if nothing had been."""
    newest = ssd.keep(at, at.folder / "newest")
    ssd.put_back(at, at.folder.parents[1] / "old", *numbers)
    words = refusal(at)
    assert "older than the chip remembers" in words
    for number, name in enumerate(NAMES):
        assert (name in words.partition(": ")[2]) == (number in numbers), words
    ssd.put_back(at, newest, *numbers)
    assert_newest(at, 2)


@pytest.mark.parametrize("numbers", [(0,), (1,), (0, 1)])
def test_a_copy_of_the_middle_of_a_session_is_refused_after_a_power_cut(
    at: WorkstationPaths, numbers: tuple[int, ...]
) -> None:
    """The thief copies while the machine runs, and later cuts its power to hide it."""
    with ssd.served(at) as served:
        ssd.fill(served.disk, 3, 0, FILLED_BLOCKS)
        ssd.await_anchor()
        middle = ssd.keep(at, at.folder / "middle")
        ssd.fill(served.disk, 4, 0, FILLED_BLOCKS)
        ssd.await_anchor()
        served.chip.process.kill()
        served.chip.process.wait()
    end = ssd.keep(at, at.folder / "end")
    ssd.put_back(at, middle, *numbers)
    words = refusal(at)
    assert any(NAMES[number] in words for number in numbers), words
    ssd.put_back(at, end, *numbers)
    assert_newest(at, 4)


def test_after_a_power_cut_nothing_acknowledged_is_missing(at: WorkstationPaths) -> None:
    """And the disk says that it was one."""
    with ssd.served(at) as served:
        ssd.fill(served.disk, 5, 0, FILLED_BLOCKS)
        served.chip.process.kill()
        served.chip.process.wait()
    with ssd.checked(at) as mailbox:
        status = mailbox.disk_health().status
        assert status is not None
        assert status.power_cuts == 1
    assert_newest(at, 5)


def test_strict_leaves_no_lease(at: WorkstationPaths) -> None:
    """Copied right before the last flush, cut right after it: refused all the same."""
    with ssd.served(at, strict=True) as served:
        ssd.fill(served.disk, 6, 0, FILLED_BLOCKS)
        kept = ssd.keep(at, at.folder / "kept")
        ssd.fill(served.disk, 7, 0, 1)
        served.chip.process.kill()
        served.chip.process.wait()
    end = ssd.keep(at, at.folder / "end")
    ssd.put_back(at, kept, 0, 1)
    assert "older than the chip remembers" in refusal(at)
    ssd.put_back(at, end, 0, 1)
    with ssd.served(at) as served:
        assert ssd.read(served.disk, 0) == ssd.content(7, 0)
