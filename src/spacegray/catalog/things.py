"""Everything of the catalogue that has a name: finding it, and its figures as rows."""

import difflib
from collections.abc import Sequence
from datetime import date
from typing import Any, Final

import msgspec

from spacegray.catalog import data, sale
from spacegray.catalog.data import Machine, Option
from spacegray.catalog.figures import Claim, Figure, marked, shown, when
from spacegray.errors import UsageError

KINDS: Final = ("machines", "processors", "graphics", "memory", "storage", "accessories", "events")

NOTHING: Final = "-"
"""Stands where the catalogue knows nothing of a property."""

CLOSE_MATCHES: Final = 3

SPELLINGS: Final = {
    "avx": "AVX",
    "emc": "EMC",
    "germany": "Germany",
    "id": "ID",
    "l2": "L2",
    "l3": "L3",
    "macos": "macOS",
    "pci": "PCI",
    "pcie": "PCIe",
    "ssd": "SSD",
    "usb": "USB",
}
"""Words in the names of figures that people do not write in small letters."""

Thing = Machine | Option


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One statement about a thing, with the days between which it holds where it has such."""

    property: str
    value: str
    claim: Claim
    since: date | None = None
    until: date | None = None


def everything() -> list[Thing]:
    """All machines, then all options, in their files' order."""
    catalog = data.load()
    return [*catalog.machines, *catalog.options]


def find(name: str) -> Thing:
    """The thing of that id, or of that name as people write it.

    Raises UsageError that names what comes close.
    """
    wanted = "-".join(name.lower().split())
    known = {thing.id: thing for thing in everything()}
    by_name = {"-".join(thing.name.lower().split()): thing for thing in known.values()}
    if found := known.get(wanted) or by_name.get(wanted):
        return found
    close = [each for each in known if each.startswith(wanted)] if wanted else []
    close = close or difflib.get_close_matches(wanted, known, CLOSE_MATCHES)
    raise UsageError(
        f"looking up {name!r}",
        "the catalogue has no such thing",
        f"did you mean {' or '.join(close)}?" if close else "see `catalog list`",
    )


def rows(thing: Thing) -> list[Row]:
    """All that is known of it: dates or days of sale first, then prices, then figures."""
    if isinstance(thing, Machine):
        found = [
            Row(
                property=each.what,
                value=marked(each.day.isoformat(), each.mark),
                claim=each,
                since=each.day,
                until=each.day,
            )
            for each in thing.dates
        ]
    else:
        found = [
            Row(
                property="sold",
                value=marked(when(each.since, each.until), each.mark),
                claim=each,
                since=each.since,
                until=each.until,
            )
            for each in thing.sold
        ]
    found += [
        Row(
            property="price",
            value=f"{shown(price)}, {when(since, until)}",
            claim=price,
            since=since,
            until=until,
        )
        for price, since, until in prices(thing)
    ]
    found += [
        Row(property=label(name), value=shown(figure), claim=figure)
        for name, figure in thing.figures.items()
    ]
    return found


def prices(thing: Thing) -> list[tuple[Figure, date, date]]:
    """What it cost, and between which days: the machine as a whole, an option on top of it."""
    known = sale.load()
    if isinstance(thing, Option):
        return [
            (each.price, each.since, each.until)
            for each in known.price
            if each.price is not None and (each.choice, each.value) == (thing.choice, thing.value)
        ]
    if thing.id != data.MACHINE:
        return []
    return [(each.price, each.since, each.until) for each in (*known.base, *known.elsewhere)]


def compare(things: Sequence[Thing]) -> list[tuple[str, list[str]]]:
    """A line for each property that one of them has: its name, and what each has of it.

    Dates come first, then prices, then the other figures, as the first of the things has them.
    """
    table: dict[str, dict[str, list[str]]] = {}
    known = [(thing.id, row) for thing in things for row in rows(thing)]
    for id_, row in sorted(known, key=lambda each: _place(each[1])):
        table.setdefault(row.property, {}).setdefault(id_, []).append(row.value)
    return [
        (name, ["; ".join(values.get(thing.id, [NOTHING])) for thing in things])
        for name, values in table.items()
    ]


def _place(row: Row) -> int:
    """0 for dates and days of sale, 1 for prices, 2 for the rest."""
    return 2 if row.since is None else int(isinstance(row.claim, Figure))


def label(name: str) -> str:
    """The name of a figure as people read it."""
    return " ".join(SPELLINGS.get(word, word) for word in name.split("_"))


def as_dict(thing: Thing) -> dict[str, Any]:
    """All that is known of it, for JSON: with its prices and the sources that are named."""
    sources = data.load().sources
    named = {row.claim.source for row in rows(thing)} - {""}
    content: dict[str, Any] = msgspec.to_builtins(thing)
    content["prices"] = [
        {"since": since.isoformat(), "until": until.isoformat(), **msgspec.to_builtins(price)}
        for price, since, until in prices(thing)
    ]
    content["sources"] = {
        id_: msgspec.to_builtins(source) for id_, source in sources.items() if id_ in named
    }
    return content
