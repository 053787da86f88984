"""The house rules, held by a test: arrows point down, files say what they are, docs are true."""

import ast
import importlib
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "spacegray"
FILES = sorted(path for path in SOURCE.rglob("*.py"))
LINES_LIMIT = 600

PARTS = ("chip", "machine", "system", "boot")
FLOORS: dict[str, set[str]] = {
    **{part: {part} for part in PARTS},
    "workstation": {"workstation", *PARTS},
    "catalog": {"catalog"},
    "service": {"service", "catalog", "workstation", *PARTS},
    "console": {"console", "catalog", "service", "workstation"},
    "bench": {"bench", "workstation", *PARTS},
    "cli": {"cli", "console", "bench", "catalog", "service", "workstation", *PARTS},
}
"""What each folder may import besides the ground floor (the modules in spacegray/ itself)."""


def imported(path: Path) -> set[str]:
    """The folders of spacegray that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [node.module or ""]
            if node.module == "spacegray":
                names = [f"spacegray.{alias.name}" for alias in node.names]
        for name in names:
            words = name.split(".")
            if words[0] == "spacegray" and len(words) > 1 and (SOURCE / words[1]).is_dir():
                found.add(words[1])
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_point_down(path):
    floor = path.relative_to(SOURCE).parts[0]
    allowed = FLOORS.get(floor, set())
    assert imported(path) <= allowed, f"{path} reaches up or sideways"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_each_file_says_what_it_is_and_fits_in_the_head(path):
    text = path.read_text()
    assert ast.get_docstring(ast.parse(text)), f"{path} has no docstring"
    assert len(text.splitlines()) <= LINES_LIMIT


def test_the_installed_command_is_there():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for name, entry in project["scripts"].items():
        module, function = entry.split(":")
        assert callable(getattr(importlib.import_module(module), function)), name


SPEAKERS = {"vaultd": "chip", "ssdd": "chip", "authorityd": "boot"}
"""Of each program of the silicon, the part that starts it and speaks to it."""


@pytest.mark.parametrize(("program", "part"), SPEAKERS.items())
def test_each_program_of_the_silicon_is_spoken_to_by_one_part(program, part):
    naming = [path for path in FILES if program in path.read_text()]
    # `doctor` says where the vault is.
    others = {path for path in naming if path.parent.name != part and path.name != "host.py"}
    assert naming
    assert not others, f"only {part} speaks to {program}"


def test_programs_of_ours_are_started_in_one_way():
    """`process.python` keeps Python from importing what lies in the current folder."""
    assert [path.name for path in FILES if "sys.executable" in path.read_text()] == ["process.py"]


def test_every_document_that_is_named_exists():
    for path in (*FILES, *ROOT.glob("*.md"), *ROOT.glob("docs/*.md")):
        for name in re.findall(r"\bdocs/[\w-]+\.(?:md|png)", path.read_text()):
            assert (ROOT / name).exists(), f"{path} names {name}"


def test_every_test_that_the_threat_model_names_exists():
    named = re.findall(r"`(\w+/[\w/.]+)`", (ROOT / "docs/threat-model.md").read_text())
    assert len(named) >= 8
    for name in named:
        assert (ROOT / name).exists(), name
