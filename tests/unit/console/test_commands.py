"""Guards: the commands that the page tells people to type are those that there are."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import click

from spacegray.cli.app import app

WORDS = Path(__file__).parents[3] / "web" / "src" / "words.ts"


def commands(command: click.Command, *words: str) -> Iterator[tuple[str, bool]]:
    """All there are below `command`, and whether each is for one workstation."""
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            yield from commands(inner, *words, name)
    else:
        # `shell` reads its words by itself.
        named = {parameter.name for parameter in command.params} | {*words} & {"shell"}
        yield " ".join(words), bool(named & {"name", "shell"})


def listed(name: str) -> set[str]:
    found = re.search(rf"const {name}: readonly string\[\] = (\[[^\]]*\]);", WORDS.read_text())
    assert found is not None
    return set(json.loads(re.sub(r",\s*\]", "]", found.group(1))))


def test_the_page_knows_every_command_for_one_workstation():
    """One it did not know would be typed without a name, and so for another workstation."""
    there_are = dict(commands(app))
    assert listed("COMMANDS") == {name for name, of_one in there_are.items() if of_one}
    assert listed("GENERAL_COMMANDS") <= {name for name, of_one in there_are.items() if not of_one}
