"""The timeline in a terminal: who was sold when as bars, then what happened year by year."""

import textwrap
from collections.abc import Iterator
from datetime import date
from itertools import groupby
from math import ceil
from typing import Final

from rich.text import Text

from spacegray.catalog import data
from spacegray.catalog.figures import Mark, marked
from spacegray.catalog.timeline import Entry, Lane, entries, lanes

WIDTH_LIMIT_CHARACTERS: Final = 110
"""Wider than this no line is easy to read."""
NAME_CHARACTERS: Final = 23
DOUBT_CHARACTERS: Final = 16
"""Room beside a bar for which of its ends is not confirmed; a longer text has its own line."""
PLAIN: Final = str.maketrans("━▶●◐○", "=>*+o")
"""For a terminal or a pipe that knows no other characters than ASCII's."""
YEAR_CHARACTERS: Final = 3
"""Narrower than this for each year the bars say nothing, and are left out."""
TEXT_INDENT_CHARACTERS: Final = 14

OURS: Final = "bold cyan"
DOTS: Final[dict[Mark, str]] = {
    "confirmed": "●",
    "secondary": "◐",
    "derived": "◐",
    "unconfirmed": "○",
}


def drawn(width: int) -> Iterator[Text]:
    """The lines of it, for a terminal `width` characters wide."""
    width = min(width, WIDTH_LIMIT_CHARACTERS)
    room = width - NAME_CHARACTERS - DOUBT_CHARACTERS
    if bars := list(_bars(lanes(), room)):
        yield from bars
        yield Text()
    for year, events in groupby(entries(), key=lambda event: event.day[:4]):
        yield Text(year, style="bold")
        for event in events:
            yield _headline(event)
            for line in textwrap.wrap(event.text, max(width - TEXT_INDENT_CHARACTERS, 1)):
                yield Text(" " * TEXT_INDENT_CHARACTERS + line, style="dim")


def _bars(products: list[Lane], room: int) -> Iterator[Text]:
    """The years, then a bar for each product, in `room` characters beside its name; or nothing."""
    first = min(lane.since for lane in products).year
    last = max(lane.until or lane.since for lane in products).year
    years = last + 1 - first
    each = room // years
    if each < YEAR_CHARACTERS:
        return
    # Two digits where four would touch.
    shown = [str(year)[0 if each > len("2013") else 2 :] for year in range(first, last + 1)]
    yield Text(" " * NAME_CHARACTERS + "".join(f"{year:<{each}}" for year in shown).rstrip())
    for lane in products:
        begin = int(_column(lane.since, first, each))
        end = ceil(_column(lane.until, first, each)) if lane.until else each * years
        style = OURS if lane.id == data.MACHINE else ""
        bar = "━" * (end - begin) if lane.until else "━" * (end - begin - 1) + "▶"
        line = Text(f"{lane.name:<{NAME_CHARACTERS}}", style=style)
        line.append(" " * begin + bar, style=style)
        beside = f" {lane.doubt}" if lane.doubt else ""
        if len(beside) <= DOUBT_CHARACTERS:
            yield line.append(beside, style="dim")
        else:
            yield line
            yield Text(" " * NAME_CHARACTERS + lane.doubt, style="dim")


def _column(day: date, first: int, each: int) -> float:
    """Where the middle of a day lies, `each` characters a year."""
    return (day.year - first + (day.timetuple().tm_yday - 0.5) / 366) * each


def _headline(event: Entry) -> Text:
    style = OURS if data.MACHINE in event.products else ""
    line = Text(f" {DOTS[event.mark]} {event.when}  ")
    line.append(marked(event.title, event.mark), style=style)
    return line
