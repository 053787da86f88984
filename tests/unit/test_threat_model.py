"""The threat model is kept true: its tests exist, none is left out, its table is the product's."""

import re
from pathlib import Path

from spacegray.chip.promises import TABLE

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "threat-model.md").read_text()
NAMED = re.compile(r"`([\w/]+\.(?:py|rs))(?:::(\w+))?`")
ORDER = (
    "Assumed",
    "Worth protecting",
    "In scope",
    "Out of scope",
    "The design's table",
    "Known weaknesses",
    "Known leaks",
)


def place(name: str) -> Path:
    """The file that is meant: without a folder, one of the attacks."""
    return ROOT / (name if "/" in name else f"tests/attacks/{name}")


def test_every_test_that_it_names_exists():
    named = NAMED.findall(TEXT)
    assert len(named) > 50
    for name, function in named:
        text = place(name).read_text()
        word = "def" if name.endswith(".py") else "fn"
        assert not function or re.search(rf"\b{word} {function}\b", text), f"{name}::{function}"


def test_every_attack_is_named():
    named = {place(name).name for name, _ in NAMED.findall(TEXT)}
    attacks = {path.name for path in (ROOT / "tests" / "attacks").glob("test_*.py")}
    assert attacks <= named, attacks - named


def test_it_is_in_its_order():
    headings = re.findall(r"^## (.*)$", TEXT, re.MULTILINE)
    assert [heading for heading in headings if heading in ORDER] == list(ORDER)


def test_its_table_is_the_products_and_has_a_test_in_each_cell():
    section = TEXT.partition("## The design's table")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("|")][2:]
    assert len(rows) == len(TABLE)
    for row, promise in zip(rows, TABLE, strict=True):
        against, *cells = (cell.strip() for cell in row.strip("|").split("|"))
        assert against == promise.against
        for cell, words in zip(cells, promise[1:], strict=True):
            assert NAMED.sub("", cell).strip() == words
            assert NAMED.search(cell), f"no test: {cell}"
