"""Promise: an older state is taken only where its owner says so, and then it is the only one.

What was set aside for it is refused from then on, and so is a chip that remembers what was before.
"""

import shutil
from pathlib import Path

import pytest

from spacegray.chip.launch import launch
from spacegray.chip.modules import NAMES
from spacegray.chip.refusal import ChipRefusalError
from spacegray.errors import SpacegrayError
from spacegray.nbd import NbdClient
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
    """A copy of it, with the old modules put back and the newest in `newest`."""
    at = copy(home, tmp_path / "home")
    ssd.keep(at, at.folder / "newest")
    ssd.put_back(at, at.folder.parents[1] / "old", 0, 1)
    return at


def refusal(at: WorkstationPaths) -> str:
    """How opening is refused; it must be."""
    with pytest.raises(SpacegrayError) as caught, ssd.served(at):
        pass
    assert caught.value.link == "disk"
    return str(caught.value)


def test_nobody_takes_an_older_state_unasked(at: WorkstationPaths) -> None:
    """Not without the owner's word, and not twice on one."""
    before = [(at.folder / name).read_bytes() for name in NAMES]
    assert "`spacegray ssd accept pro` accepts this older state" in refusal(at)
    with launch(at) as chip, chip.client() as mailbox:
        with pytest.raises(ChipRefusalError) as caught:
            mailbox.check_disk(adopt=True)
        assert caught.value.code == "unauthorised"
        assert [(at.folder / name).read_bytes() for name in NAMES] == before
        mailbox.authorise_rollback()
        mailbox.check_disk(adopt=True)
        mailbox.close_disk()
        with pytest.raises(ChipRefusalError):
            mailbox.check_disk(adopt=True)
        mailbox.check_disk()


def test_an_accepted_state_is_the_only_one(at: WorkstationPaths) -> None:
    """It is what the backup held; the newest from before, and the backup itself, are older now.

    The chip as it was, which a copy of its state folder is, is told that they were adopted.
    """
    state_before = at.folder.parents[1] / "state-before"
    shutil.copytree(at.state_folder, state_before)
    with launch(at) as chip, chip.client() as mailbox:
        mailbox.authorise_rollback()
        with NbdClient(mailbox.open_disk("nbd", adopt=True)) as disk:
            for block in (0, FILLED_BLOCKS // 2, FILLED_BLOCKS - 1):
                assert ssd.read(disk, block) == ssd.content(1, block)
            ssd.fill(disk, 3, 0, 1)
    accepted = ssd.keep(at, at.folder / "accepted")
    for kept in (at.folder / "newest", at.folder.parents[1] / "old"):
        ssd.put_back(at, kept, 0, 1)
        assert "older than the chip remembers" in refusal(at)
    ssd.put_back(at, accepted, 0, 1)
    with ssd.served(at) as served:
        assert ssd.read(served.disk, 0) == ssd.content(3, 0)

    shutil.rmtree(at.state_folder)
    shutil.copytree(state_before, at.state_folder)
    words = refusal(at)
    assert "adopted since, by another chip" in words
    assert all(name in words for name in NAMES)
