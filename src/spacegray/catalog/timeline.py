"""What happened when, and how long each product was sold, as every face shows it."""

from datetime import date
from typing import Final

import msgspec

from spacegray.catalog import data
from spacegray.catalog.data import Dated, Event, Machine
from spacegray.catalog.figures import Mark, marked, when

BEGINNINGS: Final = ("on sale", "announced")
"""The dates from which a product counts as sold, the first that it has."""
ENDINGS: Final = ("withdrawn", "replaced")


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """An event with its source spelled out; `day` and `until` are ISO, `until` may be empty."""

    day: str
    until: str
    when: str
    title: str
    text: str
    products: list[str]
    mark: Mark
    source: str
    source_title: str
    source_url: str
    note: str


class Lane(msgspec.Struct, frozen=True, kw_only=True):
    """From when to when a product was sold; on `until` it was gone, without it no end is known.

    `changes` are the days between on which it became another.
    """

    id: str
    name: str
    since: date
    until: date | None
    changes: list[date]
    doubt: str
    """Which of its days are not confirmed, in words; empty where both are."""


def entries() -> list[Entry]:
    """All events in the order in which they happened."""
    events = sorted(data.load().events, key=lambda event: event.day)
    return [_entry(event) for event in events]


def lanes() -> list[Lane]:
    """All products in the order in which they came on sale."""
    return sorted((_lane(machine) for machine in data.load().machines), key=lambda each: each.since)


def ends(machine: Machine) -> list[Dated]:
    """The date from which a product counts as sold, and the one on which it was gone, if known."""
    known = {each.what: each for each in machine.dates}
    since = next(known[what] for what in BEGINNINGS if what in known)
    return [since, *(known[what] for what in ENDINGS if what in known)]


def _entry(event: Event) -> Entry:
    source = data.load().sources.get(event.source)
    return Entry(
        day=event.day.isoformat(),
        until=event.until.isoformat() if event.until else "",
        when=when(event.day, event.until),
        title=event.title,
        text=event.text,
        products=event.products,
        mark=event.mark,
        source=event.source,
        source_title=source.title if source else "",
        source_url=source.url if source else "",
        note=event.note,
    )


def _lane(machine: Machine) -> Lane:
    since, *rest = ends(machine)
    until = rest[0] if rest else None
    named = {"begin": since, **({"end": until} if until else {})}
    return Lane(
        id=machine.id,
        name=machine.name,
        since=since.day,
        until=until.day if until else None,
        changes=[each.day for each in machine.dates if each.what == "changed"],
        doubt=", ".join(
            marked(name, each.mark) for name, each in named.items() if each.mark != "confirmed"
        ),
    )
