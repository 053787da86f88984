"""A chip that was born, and a vault open on a copy of it."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.vaultd import Vaultd, vaultd


@pytest.fixture(scope="session")
def born(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The state folder of a chip that was born, to copy: making keys takes a while."""
    folder = tmp_path_factory.mktemp("born")
    with vaultd(folder) as vault:
        assert vault.birth()
    return folder


@pytest.fixture
def chip(tmp_path: Path, born: Path) -> Iterator[Vaultd]:
    """A vault that is open, on a folder of its own."""
    shutil.copytree(born, tmp_path, dirs_exist_ok=True)
    with vaultd(tmp_path) as vault:
        assert vault.ask("open")["ok"]
        yield vault
