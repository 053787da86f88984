"""The parts of the machine and what each asks for, from data/parts.toml.

Every statement carries a mark and a source, as in the catalogue; its sources are the catalogue's
and the file's own. A file that is wrong is a fault of ours: it raises as it is read, and a test
reads it.
"""

import difflib
from collections.abc import Iterator
from functools import lru_cache
from importlib import resources
from typing import Final, Literal

import msgspec

from spacegray.catalog.data import Source, check_sources, read_list
from spacegray.catalog.figures import Claim, Figure
from spacegray.errors import UsageError

Kind = Literal["part", "cable", "fastener", "adhesive", "seal"]
Who = Literal["owner", "authorised provider"]

CLOSE_MATCHES: Final = 3
"""So many names that look like a wrong one are offered."""
CLOSE_RATIO: Final = 0.6
"""How alike a name has to be for that, as `difflib` measures it: 0 not at all, 1 the same."""
ECHO_LIMIT_CHARACTERS: Final = 64
"""So much of a wrong name is repeated; every right one is shorter."""

DATA: Final = resources.files("spacegray.service") / "data" / "parts.toml"


class Fact(Claim, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One statement in words."""

    text: str


class Order(Claim, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An edge of the graph: `part` has to be freed before the part that this belongs to."""

    part: str


class Supply(Claim, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A tool, or what is used up."""

    id: str
    name: str


class Part(Claim, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A node of the graph: a part, or what holds one. The mark is about how it is freed.

    `after`: what is freed before it, in the order in which a plan goes about it. `who` may free it.
    `action` frees it with `tools`, `back` puts it back, or another in its place, with `back_tools`:
    without these, with the same. `risk` goes with the step. Whenever it was off, `back_checks` are
    made before it is put back, `checks` once the machine is whole. `before`, `risks`, `afterwards`,
    `notes`, `after_tools` and `carries` (parts that are moved over) count where it is exchanged
    itself. What is `soldered_to` another part is exchanged with that one and has no steps of its
    own; `paired` is what the machine does not start with before it was told of it.
    """

    id: str
    name: str
    kind: Kind
    who: Who
    who_why: Fact | None = None
    aliases: tuple[str, ...] = ()
    count: Figure | None = None
    after: tuple[Order, ...] = ()
    action: str = ""
    back: str = ""
    tools: tuple[str, ...] = ()
    back_tools: tuple[str, ...] | None = None
    consumables: tuple[str, ...] = ()
    risk: tuple[Fact, ...] = ()
    back_checks: tuple[Fact, ...] = ()
    checks: tuple[Fact, ...] = ()
    soldered_to: str = ""
    carries: tuple[str, ...] = ()
    paired: bool = False
    before: tuple[Fact, ...] = ()
    risks: tuple[Fact, ...] = ()
    afterwards: tuple[Fact, ...] = ()
    after_tools: tuple[str, ...] = ()
    notes: tuple[Fact, ...] = ()


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    source: list[Source]
    tool: list[Supply]
    consumable: list[Supply]
    nothing_to_pair: Fact
    part: list[Part]


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """All of the file; parts and supplies by id, in the file's order."""

    sources: dict[str, Source]
    supplies: dict[str, Supply]
    parts: dict[str, Part]
    nothing_to_pair: Fact


@lru_cache(maxsize=1)
def load() -> Machine:
    """The machine, read once."""
    return read(DATA.read_bytes())


def read(file: bytes) -> Machine:
    """The machine in `file`; raises msgspec.ValidationError or ValueError where it is wrong."""
    content = msgspec.toml.decode(file, type=_File)
    sources = [*read_list("sources.toml", "source", Source), *content.source]
    supplies = [*content.tool, *content.consumable]
    machine = Machine(
        sources={each.id: each for each in sources},
        supplies={each.id: each for each in supplies},
        parts={each.id: each for each in content.part},
        nothing_to_pair=content.nothing_to_pair,
    )
    _check_unique([each.id for each in sources], "sources")
    _check_unique([each.id for each in supplies], "supplies")
    _check_unique(
        [name for each in content.part for name in (each.id, *each.aliases)], "names of parts"
    )
    check_sources(machine.sources, claims(machine))
    for part in content.part:
        _check_part(part, machine)
    return machine


def parts() -> list[Part]:
    """Every part of the machine and what holds it, in the order of the file."""
    return list(load().parts.values())


def find(name: str) -> Part:
    """The part of that name or alias; raises UsageError that offers names like it."""
    wanted = "-".join(name.lower().split())
    known = {alias: part for part in parts() for alias in (part.id, *part.aliases)}
    if wanted in known:
        return known[wanted]
    matches = difflib.get_close_matches(wanted, known, CLOSE_MATCHES, CLOSE_RATIO)
    close = dict.fromkeys(known[match].id for match in matches)
    raise UsageError(
        "planning a repair",
        f"there is no part {_short(name)!r}",
        f"did you mean {' or '.join(close)}?" if close else "see `service parts` for what there is",
    )


def claims(machine: Machine) -> Iterator[Claim]:
    """Every statement about the machine that carries a mark."""
    yield machine.nothing_to_pair
    yield from machine.supplies.values()
    for part in machine.parts.values():
        yield part
        yield from (each for each in (part.who_why, part.count) if each is not None)
        for group in (part.after, part.risk, part.back_checks, part.checks):
            yield from group
        for facts in (part.before, part.risks, part.afterwards, part.notes):
            yield from facts


def _short(name: str) -> str:
    return name if len(name) <= ECHO_LIMIT_CHARACTERS else f"{name[:ECHO_LIMIT_CHARACTERS]}…"


def _check_unique(names: list[str], what: str) -> None:
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"{what} that stand twice: {', '.join(sorted(twice))}")


def _check_part(part: Part, machine: Machine) -> None:
    """Raises ValueError where a part names what there is not, or lacks what its kind has."""
    others = {*(each.part for each in part.after), *part.carries}
    others |= {part.soldered_to} - {""}
    if strange := others - set(machine.parts):
        raise ValueError(f"{part.id} names parts that there are not: {', '.join(sorted(strange))}")
    supplies = {*part.tools, *(part.back_tools or ()), *part.consumables, *part.after_tools}
    if strange := supplies - set(machine.supplies):
        raise ValueError(f"{part.id} takes what there is not: {', '.join(sorted(strange))}")
    if bool(part.soldered_to) == bool(part.action and part.back):
        raise ValueError(f"{part.id} is either soldered or can be taken off and put back")
    for order in part.after:
        if part.who == "owner" and machine.parts[order.part].who != "owner":
            raise ValueError(f"{part.id} lies behind what its owner may not take off")
