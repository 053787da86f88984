"""What was on sale on a day, and for how much: data/prices.toml beside data/options.toml.

Invariants, checked as the data is read: on each day of the sale the machine has one price, and each
choice one option that this includes; an option has one price, or is included, on exactly the days
on which it was sold. Both days of a span are included. Prices are in whole US dollars, without tax.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, timedelta
from functools import lru_cache
from typing import Final, get_args

import msgspec

from spacegray.catalog import data
from spacegray.catalog.data import Choice
from spacegray.catalog.figures import DOLLARS, Claim, Figure, Period, marked

CHOICES: Final[tuple[Choice, ...]] = get_args(Choice)
_DAY: Final = timedelta(days=1)

Chosen = Mapping[Choice, int | str]
"""One value for each choice."""


class Span(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """From one day to another, both included."""

    since: date
    until: date

    def __post_init__(self) -> None:
        if self.until < self.since:
            raise ValueError("a span ends on the day it begins or later")

    def holds(self, day: date) -> bool:
        """Whether `day` lies in it."""
        return self.since <= day <= self.until


class MachinePrice(Span, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the machine cost with the options that its price includes."""

    price: Figure


class Price(Span, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one option cost on top; None: the machine's price includes it."""

    choice: Choice
    value: int | str
    price: Figure | None = None


class Rule(Claim, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one option needs of the other choices, or rules out; `text` says so to its buyer."""

    choice: Choice
    value: int | str
    text: str
    requires: dict[Choice, list[int | str]] = msgspec.field(default_factory=dict)
    excludes: dict[Choice, list[int | str]] = msgspec.field(default_factory=dict)

    def concerns(self, chosen: Chosen) -> bool:
        """Whether that option is among those chosen."""
        return chosen[self.choice] == self.value

    def broken(self, chosen: Chosen) -> bool:
        """Whether these do not go together."""
        return self.concerns(chosen) and (
            any(chosen[choice] not in values for choice, values in self.requires.items())
            or any(chosen[choice] in values for choice, values in self.excludes.items())
        )


class Remark(Claim, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a buyer was to know, of one of the `values` of a choice or, without, of any machine."""

    since: date
    until: date
    text: str
    choice: Choice | None = None
    values: list[int | str] = msgspec.field(default_factory=list)

    def concerns(self, chosen: Chosen, day: date) -> bool:
        """Whether it is to be said of an order of that day."""
        return self.since <= day <= self.until and (
            self.choice is None or chosen[self.choice] in self.values
        )


class Prices(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """data/prices.toml; `elsewhere` is what the base cost in other countries, where known."""

    base: list[MachinePrice]
    elsewhere: list[MachinePrice]
    price: list[Price]
    rule: list[Rule]
    remark: list[Remark]


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """One option on one day.

    `price_usd` is None where the machine's price includes it (`base`), and where it was not
    `available`; `why_not` then says when it was sold.
    """

    option: Choice
    value: int | str
    label: str
    price_usd: Figure | None
    base: bool
    sold: list[Period]
    available: bool
    why_not: str


@lru_cache(maxsize=1)
def load() -> Prices:
    """All prices; raises msgspec.ValidationError or ValueError where the file is wrong."""
    prices = msgspec.toml.decode((data.DATA / "prices.toml").read_bytes(), type=Prices)
    check(prices)
    return prices


def first_day() -> date:
    """The first day on which it could be ordered."""
    return min(each.since for each in load().base)


def last_day() -> date:
    """The last day on which it could be ordered."""
    return max(each.until for each in load().base)


def sale_day(day: date) -> date:
    """`day`, or the day of the sale that is nearest to it."""
    return min(max(day, first_day()), last_day())


def machine_price(day: date) -> Figure:
    """What the base model cost on a day of the sale."""
    return next(each.price for each in load().base if each.holds(day))


def elsewhere(day: date) -> list[Figure]:
    """What the base model of that day is known to have cost in other countries."""
    return [each.price for each in load().elsewhere if each.holds(day)]


def base(day: date) -> dict[Choice, int | str]:
    """The options that the machine's price includes on a day of the sale."""
    return {
        each.choice: each.value for each in load().price if each.price is None and each.holds(day)
    }


def nearest(choice: Choice, value: int | str, day: date) -> date:
    """`day` where the option was sold on it, else the nearest day on which it was."""
    spans = [each for each in load().price if (each.choice, each.value) == (choice, value)]
    days = (min(max(day, each.since), each.until) for each in spans)
    return min(days, key=lambda each: abs(each - day))


def price(choice: Choice, value: int | str, day: date) -> Figure | None:
    """What the option cost on a day on which it was sold; None: it was included."""
    return next(
        each.price
        for each in load().price
        if (each.choice, each.value) == (choice, value) and each.holds(day)
    )


def sold(choice: Choice, value: int | str) -> str:
    """What the option is called and when it was sold, as a sentence for whoever asks for it."""
    option = data.load().option(choice, value)
    spans = " and ".join(
        marked(f"from {each.since} to {each.until}", each.mark) for each in option.sold
    )
    return f"{option.name} was sold {spans}"


def offers(day: date, *, any_date: bool = False) -> list[Offer]:
    """Everything that was ever sold, with whether it was on `day`, and for how much.

    With `any_date` all of it is available; what was not sold that day costs what it did on the
    nearest day on which it was.
    """
    included = base(sale_day(day))
    found = []
    for option in data.load().options:
        at = nearest(option.choice, option.value, day)
        available = any_date or at == day
        found.append(
            Offer(
                option=option.choice,
                value=option.value,
                label=option.name,
                price_usd=price(option.choice, option.value, at) if available else None,
                base=included[option.choice] == option.value,
                sold=option.sold,
                available=available,
                why_not="" if at == day else sold(option.choice, option.value),
            )
        )
    return found


def claims(prices: Prices) -> Iterable[Claim]:
    """Every statement of the file that carries a mark."""
    for machine in (*prices.base, *prices.elsewhere):
        yield machine.price
    yield from (each.price for each in prices.price if each.price is not None)
    yield from prices.rule
    yield from prices.remark


def check(prices: Prices) -> None:
    """The invariants above; raises ValueError."""
    catalog = data.load()
    data.check_sources(catalog.sources, claims(prices))
    figures = [each.price for each in (*prices.base, *prices.elsewhere)]
    dollars = [each.price for each in prices.base]
    dollars += [each.price for each in prices.price if each.price is not None]
    if any(type(each.value) is not int for each in (*figures, *dollars)):
        raise ValueError("a price is a whole number")
    if any(each.unit != DOLLARS for each in dollars):
        raise ValueError("what is ordered is priced in US dollars")
    whole = _days(prices.base, "the machine")
    included: dict[Choice, list[Price]] = {choice: [] for choice in CHOICES}
    for option in catalog.options:
        name = f"{option.choice} {option.value}"
        spans = [e for e in prices.price if (e.choice, e.value) == (option.choice, option.value)]
        ends = [Span(since=each.since, until=each.until or date.max) for each in option.sold]
        if _days(spans, name) != _days(ends, name):
            raise ValueError(f"the prices of {name} are not those of the days it was sold")
        included[option.choice] += [each for each in spans if each.price is None]
    for choice, spans in included.items():
        if _days(spans, f"the base's {choice}") != whole:
            raise ValueError(f"on some day of the sale the base has no {choice}")
    known = {(each.choice, each.value) for each in catalog.options}
    named = {(each.choice, each.value) for each in prices.price}
    for rule in prices.rule:
        named.add((rule.choice, rule.value))
        for other in (rule.requires, rule.excludes):
            named |= {(choice, value) for choice, values in other.items() for value in values}
    if strange := named - known:
        raise ValueError(f"there is no option {strange}")


def _days(spans: Sequence[Span], name: str) -> list[tuple[date, date]]:
    """The spans with those that touch joined; raises ValueError where two overlap."""
    joined: list[tuple[date, date]] = []
    for each in sorted(spans, key=lambda span: span.since):
        if joined and each.since <= joined[-1][1]:
            raise ValueError(f"two prices of {name} hold on {each.since}")
        if joined and each.since == joined[-1][1] + _DAY:
            joined[-1] = (joined[-1][0], each.until)
        else:
            joined.append((each.since, each.until))
    return joined
