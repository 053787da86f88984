"""Guards: what the page says is what there is: commands, links of the chains, settings' words."""

import json
import re
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import click

from spacegray import links
from spacegray.boot import policies
from spacegray.catalog import sale
from spacegray.cli.app import app

SOURCES = Path(__file__).parents[3] / "web" / "src"
WORDS = SOURCES / "words.ts"


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


def words_of(source: str, name: str) -> dict[str, str]:
    """The pairs of a constant Record of the page."""
    found = re.search(rf"const {name}: [^=]+= {{\n(.*?)\n}};", (SOURCES / source).read_text(), re.S)
    assert found is not None
    return dict(re.findall(r'^ +(\w+): (?:"([^"]+)"|.*),?$', found.group(1), re.M))


def test_the_page_draws_the_links_that_there_are():
    found = re.search(r"CHAINS: .*?= {\n(.*?)\n};", (SOURCES / "model.ts").read_text(), re.S)
    assert found is not None
    drawn = {
        target: tuple(json.loads(names))
        for target, names in re.findall(r"(\w+): (\[.*?\])", found.group(1))
    }
    assert drawn == {target: links.chain(target) for target in links.TARGETS}


def test_the_page_explains_the_settings_as_the_command_line_does():
    assert words_of("security.ts", "POLICY_TITLES") == policies.POLICY_NAMES
    assert words_of("security.ts", "POLICY_WORDS") == policies.POLICIES
    assert words_of("security.ts", "EXTERNAL_BOOT_WORDS") == policies.EXTERNAL_BOOT
    assert words_of("security.ts", "OTHER_SYSTEMS_WORDS") == policies.OTHER_SYSTEMS
    firmware = words_of("security.ts", "FIRMWARE_PASSWORD_WORDS")
    assert {word == "set": text for word, text in firmware.items()} == policies.FIRMWARE_PASSWORD


def test_the_days_that_the_order_page_offers_are_those_on_which_the_offer_changed():
    text = (SOURCES / "ordering.ts").read_text()
    found = re.search(r"KEY_DAYS: .*?= \[\n(.*?)\n\];", text, re.S)
    assert found is not None
    offered = [date.fromisoformat(day) for day in re.findall(r'\["([0-9-]+)"', found.group(1))]
    changed, before = [], None
    for number in range((sale.last_day() - sale.first_day()).days + 1):
        day = sale.first_day() + timedelta(days=number)
        if (now := sale.offers(day)) != before:
            changed.append(day)
        before = now
    assert offered == changed
