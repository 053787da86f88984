"""An order: what is wished for, whether it could be had on that day, and what it came to.

An order that is quoted is a spec that the machine can be made of (`spec_of`). Unconfirmed prices
are counted apart, in every total.
"""

from collections.abc import Sequence
from datetime import date
from typing import Final, Literal

import msgspec

from spacegray import spec as specs
from spacegray.catalog import data, sale
from spacegray.catalog.data import Choice
from spacegray.catalog.figures import Figure, marked
from spacegray.catalog.sale import CHOICES, Chosen, Remark, Rule
from spacegray.errors import UsageError
from spacegray.spec import Cores, Graphics, MemoryGb, Mount, Spec, SsdTb

Pointing = Literal["mouse", "trackpad", "both"]

WORDS: Final[dict[Choice, str]] = {
    "cores": "processor",
    "memory_gb": "memory",
    "graphics": "graphics",
    "ssd_tb": "storage",
    "pointing": "pointing device",
    "mount": "mount",
}
"""What each choice is called on an order."""

SPEC_CHOICES: Final[tuple[Choice, ...]] = ("cores", "memory_gb", "graphics", "ssd_tb", "mount")
"""The choices that a spec keeps; a pointing device makes no other machine."""


class Wish(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is wished for; None: what the base model of the day has."""

    cores: Cores | None = None
    memory_gb: MemoryGb | None = None
    graphics: Graphics | None = None
    ssd_tb: SsdTb | None = None
    pointing: Pointing = "mouse"
    mount: Mount = "stand"


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a quote; `price_usd` is None where the machine's price includes it."""

    what: str
    choice: str
    price_usd: Figure | None


class Quote(msgspec.Struct, frozen=True, kw_only=True):
    """An order with its total, in whole US dollars; `spec` is what `spec_of` makes a spec of."""

    day: str
    lines: list[Line]
    total_usd: int
    unconfirmed_usd: int
    unconfirmed_share: float
    notes: list[str]
    spec: dict[str, int | str]


def quote(wish: Wish, day: date, *, any_date: bool = False) -> Quote:
    """What `wish` came to on `day`.

    With `any_date` what was not sold that day costs what it did on the nearest day on which it was,
    and a note says so. Raises UsageError that names what could not be had, and the dates between
    which it could.
    """
    chosen = _chosen(wish, day)
    absent = _absent(chosen, day)
    if absent and not any_date:
        raise UsageError(
            f"ordering an iMac Pro on {day}",
            "; ".join(absent),
            "choose another or a day between, or any date (--any-date)",
        )
    check_rules(chosen, sale.load().rule)
    base_day = sale.sale_day(day)
    lines = [Line(what="machine", choice="iMac Pro", price_usd=sale.machine_price(base_day))]
    for choice, value in chosen.items():
        at = sale.nearest(choice, value, day)
        name = data.load().option(choice, value).name
        cost = sale.price(choice, value, at)
        lines.append(Line(what=WORDS[choice], choice=name, price_usd=cost))
    total, unconfirmed = _sum(lines), _sum(lines, "unconfirmed")
    fields: dict[str, int | str] = {choice: chosen[choice] for choice in SPEC_CHOICES}
    return Quote(
        day=day.isoformat(),
        lines=lines,
        total_usd=total,
        unconfirmed_usd=unconfirmed,
        unconfirmed_share=unconfirmed / total,
        notes=_notes(chosen, day, absent),
        spec={**fields, "ordered": "" if absent else day.isoformat()},
    )


def spec_of(quote: Quote) -> Spec:
    """The machine as quoted. It bears the day of the order if all of it was sold on that day."""
    return specs.build(dict(quote.spec), source="of the order")


def check(spec: Spec, *, source: str) -> None:
    """Raise UsageError where `spec` bears a day on which it could not be ordered."""
    day = spec.ordered_on
    if day is None:
        return
    wish = Wish(
        cores=spec.cores,
        memory_gb=spec.memory_gb,
        graphics=spec.graphics,
        ssd_tb=spec.ssd_tb,
        mount=spec.mount,
    )
    if absent := _absent(_chosen(wish, day), day):
        raise UsageError(
            f"reading the spec {source}, ordered on {day}",
            "; ".join(absent),
            "change that or `ordered`; without `ordered` the machine is of any date",
        )


def check_rules(chosen: Chosen, rules: Sequence[Rule]) -> None:
    """Raise UsageError where two of the options chosen do not go together."""
    for rule in rules:
        if rule.broken(chosen):
            text = marked(rule.text, rule.mark)
            raise UsageError("ordering an iMac Pro", text, "choose one or the other")


def _chosen(wish: Wish, day: date) -> dict[Choice, int | str]:
    """A value for every choice: the wish's, else that of the base model of the day."""
    base = sale.base(sale.sale_day(day))
    chosen: dict[Choice, int | str] = {}
    for choice in CHOICES:
        wanted = getattr(wish, choice)
        chosen[choice] = base[choice] if wanted is None else wanted
    return chosen


def _absent(chosen: Chosen, day: date) -> list[str]:
    """What could not be had on `day`, each with the dates between which it could."""
    first, last = sale.first_day(), sale.last_day()
    if not first <= day <= last:
        return [f"it was sold from {first} to {last}"]
    return [
        sale.sold(choice, value)
        for choice, value in chosen.items()
        if sale.nearest(choice, value, day) != day
    ]


def _notes(chosen: Chosen, day: date, absent: list[str]) -> list[str]:
    base_day = sale.sale_day(day)
    notes = []
    if base_day != day:
        notes.append(f"The iMac Pro: {absent[0]}; it is priced as of {base_day}.")
    for choice, value in chosen.items():
        at = sale.nearest(choice, value, day)
        if at != base_day:
            notes.append(f"{sale.sold(choice, value)}; it is priced as of {at}.")
    if absent:
        notes.append("The spec bears no day, so that it is not held to what was sold on one.")
    prices = sale.load()
    said: list[Rule | Remark] = [rule for rule in prices.rule if rule.concerns(chosen)]
    said += [remark for remark in prices.remark if remark.concerns(chosen, base_day)]
    notes += [marked(each.text, each.mark) for each in said]
    for price in sale.elsewhere(base_day):
        cost = marked(f"{price.unit} {price.value:,}", price.mark)
        notes.append(f"Elsewhere the base model cost {cost}, {price.note}.")
    return notes


def _sum(lines: Sequence[Line], mark: str | None = None) -> int:
    """The prices of the lines together, or of those with that mark."""
    prices = (line.price_usd for line in lines if line.price_usd is not None)
    return sum(int(each.value) for each in prices if mark in (None, each.mark))
