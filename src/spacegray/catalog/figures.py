"""A figure and how sure it is: no number of the catalogue stands without a mark.

Marks: `confirmed` was read in the source named; `secondary` was read only in a derived, mirrored or
retold source; `derived` follows from figures of the source named, and the note says how;
`unconfirmed` is general knowledge, and never shown as a fact.
"""

from datetime import date, timedelta
from typing import Final, Literal, get_args

import msgspec

Mark = Literal["confirmed", "secondary", "derived", "unconfirmed"]
MARKS: Final[tuple[Mark, ...]] = get_args(Mark)

DOLLARS: Final = "USD"
"""Amounts with this unit are shown with a dollar sign and thousands set apart."""

_DAY: Final = timedelta(days=1)


class Claim(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every statement of the catalogue carries.

    `source` is the id of an entry in data/sources.toml. It may be left out only where the mark is
    `unconfirmed`. A derived statement names the source it was derived from, and `note` says how.
    """

    mark: Mark
    source: str = ""
    note: str = ""

    def __post_init__(self) -> None:
        if self.mark != "unconfirmed" and not self.source:
            raise ValueError(f"what is {self.mark} names its source")
        if self.mark == "derived" and not self.note:
            raise ValueError("what is derived says how, in its note")


class Figure(Claim, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One value of one property, in `unit` ("" for words, counts and yes or no)."""

    value: bool | int | float | str
    unit: str = ""


class Period(Claim, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """From one day to another, both included; without `until` it has not ended."""

    since: date
    until: date | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.until is not None and self.until < self.since:
            raise ValueError("a period ends on the day it begins or later")

    def holds(self, day: date) -> bool:
        """Whether `day` lies in it."""
        return self.since <= day and (self.until is None or day <= self.until)


def shown(figure: Figure) -> str:
    """The figure as every face shows it: value, unit, and its mark unless it is confirmed."""
    return marked(_plain(figure), figure.mark)


def marked(text: str, mark: Mark) -> str:
    """`text` with its mark behind it; what is confirmed needs none."""
    return text if mark == "confirmed" else f"{text} ({mark})"


def when(since: date, until: date | None = None) -> str:
    """A day, or from one day to another; a whole month by its name alone."""
    if until is None or until == since:
        return since.isoformat()
    if since.day == 1 and (until + _DAY).day == 1 and since.replace(day=until.day) == until:
        return f"{since:%Y-%m}"
    return f"{since.isoformat()} to {until.isoformat()}"


def _plain(figure: Figure) -> str:
    value = figure.value
    if isinstance(value, bool):
        return "yes" if value else "no"
    if figure.unit == DOLLARS:
        return f"${value:,}"
    text = f"{value:,}" if isinstance(value, int | float) else value
    return f"{text} {figure.unit}".rstrip()
