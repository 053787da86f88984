"""A chip to do with as one likes: a copy of the workstation that a test module makes as `home`."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from spacegray.chip.client import ChipClient
from spacegray.chip.launch import launch
from spacegray.paths import WorkstationPaths
from tests.support.chip import copy


@pytest.fixture
def at(home: Path, tmp_path: Path) -> WorkstationPaths:
    """A copy of that workstation, for one test to do with as it likes."""
    return copy(home, tmp_path / "copy")


@pytest.fixture
def client(at: WorkstationPaths) -> Iterator[ChipClient]:
    """The mailbox of that chip after a power-on."""
    with launch(at) as chip, chip.client() as connected:
        yield connected
