"""The data files of the catalogue, read once, every entry checked as it is read.

sources.toml: who said it. machines.toml: the products of the line. options.toml: what could be
chosen of the iMac Pro, keyed by the values of the spec. timeline.toml: what happened when. A file
that is wrong is a fault of ours, so it raises what msgspec raises, with the path to the value.
"""

from collections.abc import Iterable
from datetime import date
from functools import lru_cache
from importlib import resources
from typing import Any, Final, Literal, TypeVar

import msgspec

from spacegray.catalog.figures import Claim, Figure, Period

Kind = Literal["processors", "graphics", "memory", "storage", "accessories"]
Choice = Literal["cores", "memory_gb", "graphics", "ssd_tb", "pointing", "mount"]
"""What is chosen: the fields of the spec, and `pointing`, the pointing device in the box."""

DATA: Final = resources.files("spacegray.catalog") / "data"

MACHINE: Final = "imac-pro"
"""The id of the machine that can be ordered."""

T = TypeVar("T")


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who said it. `url` is empty only where the source has no public address; `note` says why."""

    id: str
    title: str
    url: str = ""
    note: str = ""

    def __post_init__(self) -> None:
        if not self.url and not self.note:
            raise ValueError(f"source {self.id} has neither address nor note")


class Dated(Claim, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One dated claim about a product, such as `announced` or `on sale`."""

    what: str
    day: date


class Machine(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A product of the line; `figures` by property, in the order in which they are shown."""

    id: str
    name: str
    about: str
    dates: list[Dated]
    figures: dict[str, Figure]


class Option(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One value that could be chosen, the figures of the part, and when it was sold."""

    id: str
    kind: Kind
    name: str
    choice: Choice
    value: int | str
    sold: list[Period]
    figures: dict[str, Figure] = {}


class Event(Claim, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What happened on `day`, or from `day` to `until`; a whole month where no day is known."""

    day: date
    until: date | None = None
    title: str
    text: str
    products: list[str]

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.until is not None and self.until < self.day:
            raise ValueError("an event ends on the day it begins or later")


class Catalog(msgspec.Struct, frozen=True, kw_only=True):
    """All of it but the prices, which `sale` holds; each list in its file's order."""

    sources: dict[str, Source]
    machines: list[Machine]
    options: list[Option]
    events: list[Event]

    def option(self, choice: Choice, value: int | str) -> Option:
        """The option of one value of the spec; raises KeyError."""
        for each in self.options:
            if each.choice == choice and each.value == value:
                return each
        raise KeyError((choice, value))


@lru_cache(maxsize=1)
def load() -> Catalog:
    """The whole catalogue; raises msgspec.ValidationError or ValueError where a file is wrong."""
    sources = read_list("sources.toml", "source", Source)
    catalog = Catalog(
        sources={each.id: each for each in sources},
        machines=read_list("machines.toml", "machine", Machine),
        options=read_list("options.toml", "option", Option),
        events=read_list("timeline.toml", "event", Event),
    )
    check(catalog, len(sources))
    return catalog


def read_list(name: str, key: str, type_: type[T]) -> list[T]:
    """The tables `[[key]]` of the data file `name`; such a file holds nothing else."""
    content: dict[str, Any] = msgspec.toml.decode((DATA / name).read_bytes())
    if set(content) != {key}:
        raise ValueError(f"{name} holds [[{key}]] alone")
    return msgspec.convert(content[key], list[type_])  # type: ignore[valid-type]


def check(catalog: Catalog, source_count: int) -> None:
    """What no single entry can know: ids are unique, and what is named exists."""
    if len(catalog.sources) != source_count:
        raise ValueError("two sources have the same id")
    names = [machine.id for machine in catalog.machines]
    names += [option.id for option in catalog.options]
    if len(set(names)) != len(names):
        raise ValueError("two things have the same id")
    check_sources(catalog.sources, claims(catalog))
    known = {each.id for each in catalog.machines}
    for event in catalog.events:
        if strange := set(event.products) - known:
            raise ValueError(f"{event.title} names {', '.join(sorted(strange))}")


def check_sources(sources: dict[str, Source], said: Iterable[Claim]) -> None:
    """Raises ValueError where a claim names a source that there is none of."""
    for claim in said:
        if claim.source and claim.source not in sources:
            raise ValueError(f"there is no source {claim.source} ({claim})")


def claims(catalog: Catalog) -> Iterable[Claim]:
    """Every statement of the catalogue that carries a mark."""
    for machine in catalog.machines:
        yield from machine.dates
        yield from machine.figures.values()
    for option in catalog.options:
        yield from option.sold
        yield from option.figures.values()
    yield from catalog.events
