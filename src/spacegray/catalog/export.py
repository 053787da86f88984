"""The catalogue as open data: one JSON document, or one CSV line for each statement.

Both are described by schemas that are published in docs/ and printed by `catalog schema`.
"""

import csv
import io
import json
from collections.abc import Iterator
from datetime import date
from typing import Any, Final, Literal, NamedTuple

import msgspec

from spacegray.catalog import data, sale
from spacegray.catalog.data import Dated, Event, Machine, Option, Source
from spacegray.catalog.figures import MARKS, Claim, Figure, Period
from spacegray.catalog.sale import Prices, Remark, Rule

VERSION: Final = 1
TIMELINE: Final = "timeline"
"""The subject of the CSV's lines that are events."""


class Document(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole catalogue. A `source` anywhere is the id of an entry in `sources`."""

    format: Literal["spacegray catalog"]
    version: Literal[1]
    sources: list[Source]
    machines: list[Machine]
    options: list[Option]
    prices: Prices
    events: list[Event]


class Line(NamedTuple):
    """One line of the CSV; dates are ISO, empty where there are none."""

    subject: str
    property: str
    value: str
    unit: str
    mark: str
    source: str
    source_url: str
    since: str
    until: str
    note: str


def document() -> Document:
    """The catalogue with its prices."""
    catalog = data.load()
    return Document(
        format="spacegray catalog",
        version=VERSION,
        sources=list(catalog.sources.values()),
        machines=catalog.machines,
        options=catalog.options,
        prices=sale.load(),
        events=catalog.events,
    )


def as_json() -> str:
    """The document as JSON text."""
    return json.dumps(msgspec.to_builtins(document()), indent=2, ensure_ascii=False) + "\n"


def as_csv() -> str:
    """All statements as CSV text (RFC 4180), the names of the columns first."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(Line._fields)
    writer.writerows(lines())
    return text.getvalue()


def lines() -> Iterator[Line]:
    """One line for each statement that carries a mark."""
    catalog = data.load()
    for machine in catalog.machines:
        for dated in machine.dates:
            yield _line(machine.id, dated.what, dated.day, dated, dated.day, dated.day)
        yield from _figures(machine.id, machine.figures)
    ids = {(each.choice, each.value): each.id for each in catalog.options}
    for option in catalog.options:
        for period in option.sold:
            yield _line(option.id, "sold", True, period, period.since, period.until)
        yield from _figures(option.id, option.figures)
    prices = sale.load()
    for whole in (*prices.base, *prices.elsewhere):
        yield _line(data.MACHINE, "price", whole.price.value, whole.price, whole.since, whole.until)
    for each in prices.price:
        if each.price is not None:
            subject = ids[each.choice, each.value]
            yield _line(subject, "price", each.price.value, each.price, each.since, each.until)
    for rule in prices.rule:
        yield _line(ids[rule.choice, rule.value], "rule", rule.text, rule)
    for remark in prices.remark:
        of = [ids[remark.choice, value] for value in remark.values if remark.choice is not None]
        for subject in of or [data.MACHINE]:
            yield _line(subject, "remark", remark.text, remark, remark.since, remark.until)
    for event in catalog.events:
        until = event.until or event.day
        yield _line(TIMELINE, "event", f"{event.title}. {event.text}", event, event.day, until)


def json_schema() -> dict[str, Any]:
    """The JSON Schema of the document, with the rule that what is not unconfirmed has a source."""
    schema = msgspec.json.schema(Document)
    for name in (each.__name__ for each in _claims()):
        schema["$defs"][name] |= {
            "if": {"properties": {"mark": {"const": "unconfirmed"}}},
            "else": {"properties": {"source": {"minLength": 1}}, "required": ["source"]},
        }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Spacegray catalogue",
        **schema,
    }


def csv_schema() -> dict[str, Any]:
    """The Table Schema (Frictionless Data) of the CSV."""
    what = {
        "subject": f"The id of a machine or an option, or `{TIMELINE}`.",
        "property": "What is said of it.",
        "value": "The value: a number with a decimal point, true, false, an ISO date or words.",
        "unit": "The unit of the value; `date` for a date; empty for words, counts and truth.",
        "mark": "How sure it is. Unconfirmed is general knowledge, not a fact.",
        "source": "The id of the source; empty only if unconfirmed.",
        "source_url": "The address of the source, where it has one.",
        "since": "The first day for which it is said.",
        "until": "The last day for which it is said; empty: no end is known, or no day applies.",
        "note": "What else is to be known of it.",
    }
    rules: dict[str, dict[str, Any]] = {
        "subject": {"required": True, "pattern": "[a-z0-9-]+"},
        "property": {"required": True},
        "value": {"required": True},
        "mark": {"required": True, "enum": list(MARKS)},
        "source": {"pattern": "[a-z0-9-]*"},
    }
    types = {"source_url": ("string", "uri"), "since": ("date", "%Y-%m-%d")}
    types["until"] = types["since"]
    fields = []
    for name in Line._fields:
        type_, format_ = types.get(name, ("string", "default"))
        field: dict[str, Any] = {"name": name, "type": type_, "format": format_}
        fields.append({**field, "description": what[name], "constraints": rules.get(name, {})})
    return {
        "$schema": "https://datapackage.org/profiles/2.0/tableschema.json",
        "title": "Spacegray catalogue, one statement a line",
        "fields": fields,
        "missingValues": [""],
    }


def _claims() -> tuple[type[Claim], ...]:
    """The kinds of statement that the document holds."""
    return (Dated, Event, Figure, Period, Remark, Rule)


def _figures(subject: str, figures: dict[str, Figure]) -> Iterator[Line]:
    for name, figure in figures.items():
        yield _line(subject, name, figure.value, figure)


def _line(
    subject: str,
    property_: str,
    value: bool | int | float | str | date,
    claim: Claim,
    since: date | None = None,
    until: date | None = None,
) -> Line:
    source = data.load().sources.get(claim.source)
    unit = claim.unit if isinstance(claim, Figure) else ""
    return Line(
        subject=subject,
        property=property_,
        value=str(value).lower() if isinstance(value, bool) else str(value),
        unit="date" if isinstance(value, date) else unit,
        mark=claim.mark,
        source=claim.source,
        source_url=source.url if source else "",
        since=since.isoformat() if since else "",
        until=until.isoformat() if until else "",
        note=claim.note,
    )
