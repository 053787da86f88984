"""A folder that somebody else prepared, and a user who calls Spacegray in it.

Python looks for modules there before it looks for its own, unless it is told otherwise. The chip's
process, from which keys are asked, must not take one from there, nor must any other of ours.
"""

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.support.chip import born, workstation

MODULE = """
with open({mark!r}, "a") as taken:
    print(__name__, file=taken)
"""
PROGRAM_SECONDS = 60


@pytest.fixture
def mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a module leaves its name that was taken from the folder, which is the current one."""
    folder, mark = tmp_path / "downloads", tmp_path / "taken"
    folder.mkdir()
    names = {*sys.stdlib_module_names, *importlib.metadata.packages_distributions()}
    for name in filter(str.isidentifier, names):
        (folder / f"{name}.py").write_text(MODULE.format(mark=str(mark)))
    monkeypatch.chdir(folder)
    return mark


def test_python_itself_would_take_them(mark: Path) -> None:
    """The control: called as one usually calls it, it does."""
    subprocess.run([sys.executable, "-m", "argparse"], timeout=PROGRAM_SECONDS, check=False)
    assert mark.exists()


def test_the_chip_takes_no_module_of_the_current_folder(mark: Path, tmp_path: Path) -> None:
    with born(workstation(tmp_path / "home")) as chip, chip.client() as client:
        assert client.show()["life"] == "in use"
    assert not mark.exists()


@pytest.mark.parametrize("words", [("list",), ("catalog", "show"), ("security", "show", "none")])
def test_the_command_line_takes_none(mark: Path, tmp_path: Path, words: tuple[str, ...]) -> None:
    home = {**os.environ, "SPACEGRAY_HOME": str(tmp_path / "home")}
    done = subprocess.run(
        [ROOT / "run", *words], env=home, capture_output=True, text=True,
        timeout=PROGRAM_SECONDS, check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    assert not mark.exists(), mark.read_text()
