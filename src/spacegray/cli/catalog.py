"""The verbs of the catalogue: list, show, compare, timeline, export, schema."""

import json
import sys
from pathlib import Path
from typing import Any

import click
import msgspec

from spacegray.catalog import data, export, things, timeline
from spacegray.catalog.data import Machine
from spacegray.catalog.figures import marked, when
from spacegray.catalog.things import NOTHING, Thing
from spacegray.cli import output, writing
from spacegray.cli.options import format_option
from spacegray.errors import UsageError

_OUTPUT = click.option(
    "--output", metavar="FILE", help="Write it there; without --format by what its name ends in."
)


@click.group("catalog")
def group() -> None:
    """The product line, its options, its history: docs/catalog.md."""


@group.command("list")
@click.option("--kind", type=click.Choice(things.KINDS), help="Only these.")
@format_option
def list_(kind: str | None, format_: str) -> None:
    """Everything that `catalog show` knows, and what happened."""
    found = [thing for thing in things.everything() if kind in (None, _kind(thing))]
    events = timeline.entries() if kind in (None, "events") else []
    if format_ == "json":
        output.as_json([*map(_summary, found), *map(_event, events)])
        return
    if found:
        rows = [(_kind(thing), thing.id, thing.name, _sold(thing)) for thing in found]
        output.table(("kind", "name", "what it is", "sold"), rows)
    if found and events:
        print()
    if events:
        rows_of_events = [(each.when, marked(each.title, each.mark)) for each in events]
        output.table(("day", "event"), rows_of_events)


@group.command()
@click.argument("thing")
@format_option
def show(thing: str, format_: str) -> None:
    """All that is known of one machine or option, with who said it."""
    found = things.find(thing)
    if format_ == "json":
        output.as_json(things.as_dict(found))
        return
    print(f"{found.name} ({found.id})")
    if isinstance(found, Machine):
        print(found.about)
    print()
    rows = [
        (row.property, row.value, row.claim.source or NOTHING, row.claim.note)
        for row in things.rows(found)
    ]
    output.table(("", found.id, "source", "note"), rows)
    sources = data.load().sources
    print()
    named = dict.fromkeys(row.claim.source for row in things.rows(found) if row.claim.source)
    output.table(
        ("source", "", ""), [(each, sources[each].title, sources[each].url) for each in named]
    )


@group.command()
@click.argument("names", metavar="THING THING…", nargs=-1, required=True)
@format_option
def compare(names: tuple[str, ...], format_: str) -> None:
    """The figures of several machines or options side by side."""
    chosen = list({thing.id: thing for thing in map(things.find, names)}.values())
    if len(chosen) < 2:
        raise UsageError(
            f"comparing {names[0]}", "that is one thing", "name two or more; see `catalog list`"
        )
    if format_ == "json":
        output.as_json([things.as_dict(thing) for thing in chosen])
        return
    headings = ("", *(thing.id for thing in chosen))
    output.table(headings, [(name, *values) for name, values in things.compare(chosen)])


@group.command("timeline")
@click.option("--format", "format_", type=click.Choice(("table", "json", "svg", "png")))
@_OUTPUT
def timeline_(format_: str | None, output: str | None) -> None:
    """What happened when: in the terminal, or as a picture."""
    match format_ or _ending(output, ("json", "svg", "png")):
        case "json":
            _write(_json([_event(each) for each in timeline.entries()]), output)
        case "svg":
            from spacegray.catalog import draw

            _write(draw.svg(), output)
        case "png":
            from spacegray.catalog import draw

            if output in (None, "-") and sys.stdout.isatty():
                raise UsageError(
                    "drawing the timeline", "a terminal shows no PNG", "give --output FILE"
                )
            _write(draw.png(), output)
        case _:
            _write_drawn(output)


@group.command("export")
@click.option("--format", "format_", type=click.Choice(("json", "csv")), help="JSON or CSV.")
@_OUTPUT
def export_(format_: str | None, output: str | None) -> None:
    """The whole catalogue as open data; `catalog schema` describes it."""
    match format_ or _ending(output, ("json", "csv")):
        case "json":
            _write(export.as_json(), output)
        case "csv":
            _write(export.as_csv(), output)
        case _:
            raise click.UsageError("give --format json or --format csv")


@group.command()
@click.argument("format_", metavar="json|csv", type=click.Choice(("json", "csv")))
def schema(format_: str) -> None:
    """The schema of what `catalog export` writes in that format."""
    _write(_json(export.json_schema() if format_ == "json" else export.csv_schema()), None)


def _kind(thing: Thing) -> str:
    return "machines" if isinstance(thing, Machine) else thing.kind


def _sold(thing: Thing) -> str:
    """From when to when it was sold, in words."""
    if isinstance(thing, Machine):
        ends = timeline.ends(thing)
        return ", ".join(f"{each.what} {marked(each.day.isoformat(), each.mark)}" for each in ends)
    return "; ".join(marked(when(each.since, each.until), each.mark) for each in thing.sold)


def _summary(thing: Thing) -> dict[str, Any]:
    """What `list` says of it; all the rest is `show`'s."""
    days: dict[str, Any]
    if isinstance(thing, Machine):
        days = {"dates": thing.dates}
    else:
        days = {"choice": thing.choice, "value": thing.value, "sold": thing.sold}
    plain: dict[str, Any] = msgspec.to_builtins(days)
    return {"kind": _kind(thing), "id": thing.id, "name": thing.name, **plain}


def _event(event: timeline.Entry) -> dict[str, Any]:
    content: dict[str, Any] = msgspec.to_builtins(event)
    return {"kind": "events", **content}


def _ending(output: str | None, known: tuple[str, ...]) -> str | None:
    """The format that the name of a file ends in, where it is one of those known."""
    suffix = Path(output or "").suffix.removeprefix(".").lower()
    return suffix if suffix in known else None


def _json(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def _write(content: str | bytes, path: str | None) -> None:
    writing.write(content, path, f"writing {path}")


def _write_drawn(path: str | None) -> None:
    """The timeline in characters, on the terminal or into a file."""
    from spacegray.catalog import terminal

    if writing.to_stdout(path):
        for each in terminal.drawn(output.console.width):
            if not _spells(each.plain):
                each.plain = each.plain.translate(terminal.PLAIN)
            output.console.print(each)
        return
    with output.console.capture() as text:
        for each in terminal.drawn(terminal.WIDTH_LIMIT_CHARACTERS):
            output.console.print(each)
    _write(text.get(), path)


def _spells(text: str) -> bool:
    """Whether standard output has all characters of the text."""
    try:
        text.encode(sys.stdout.encoding)
    except UnicodeEncodeError:
        return False
    return True
