"""`service parts` and `service plan`: what the machine is made of, how to get at a part of it."""

import json

import click
import msgspec

from spacegray.catalog.figures import shown
from spacegray.cli import output, writing
from spacegray.cli.options import format_option, output_option
from spacegray.service import parts as machine


@click.command()
@format_option
def parts(format_: str) -> None:
    """The parts of the real machine and what holds them; `service plan PART` plans for any."""
    found = machine.parts()
    if format_ == "json":
        output.as_json(msgspec.to_builtins(found))
        return
    rows = [
        (
            part.id,
            part.name,
            shown(part.count) if part.count else "",
            part.kind,
            part.who,
            f"soldered to {part.soldered_to}" if part.soldered_to else "",
            part.mark,
        )
        for part in found
    ]
    output.table(("part", "name", "number", "kind", "who may", "", "how sure"), rows)


@click.command()
@click.argument("part")
@click.option(
    "--format",
    "format_",
    type=click.Choice(("table", "checklist", "json", "svg")),
    default="table",
    help="Table, a checklist in Markdown, JSON, or a picture.",
)
@output_option("Write it there; - for standard output.")
def plan(part: str, format_: str, file: str | None) -> None:
    """How to get at PART of the real machine and back: steps, tools, risks, who may do it."""
    text = _worded(part, format_, styled=file is None and output.console.is_terminal)
    writing.write(text, file, f"writing the plan to {file}")
    if not writing.to_stdout(file):
        print(f"the plan for {part} is in {file}")


def _worded(name: str, format_: str, *, styled: bool) -> str:
    """The plan in one of its forms, ending in a newline; `styled`: with a terminal's bold."""
    # Only here: the library of graphs would make every other verb start later.
    from spacegray.cli import plan_table
    from spacegray.service import checklist, draw
    from spacegray.service import plan as planning

    made = planning.plan(name)
    match format_:
        case "json":
            return json.dumps(msgspec.to_builtins(made), indent=2) + "\n"
        case "svg":
            return draw.svg(made)
        case "checklist":
            return checklist.checklist(made)
    return plan_table.table(made, styled=styled)
