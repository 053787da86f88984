"""A plan for the terminal: its steps as two tables, with what goes before and after them."""

import shutil
from io import StringIO
from typing import Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from spacegray.catalog.figures import marked
from spacegray.service.parts import Fact
from spacegray.service.plan import Plan, Step, counted, permitted

PAGE_COLUMNS: Final = 110
"""The width where there is no terminal, and at most on one."""
LEAST_COLUMNS: Final = 60
"""Below this a table cannot be read; a narrower terminal breaks the lines itself."""


def table(plan: Plan, *, styled: bool) -> str:
    """The plan in lines that fit the terminal; with `styled`, titles and names are bold."""
    columns = shutil.get_terminal_size((PAGE_COLUMNS, 0)).columns
    page = Console(
        file=StringIO(),
        width=min(max(columns, LEAST_COLUMNS), PAGE_COLUMNS),
        force_terminal=styled,
        highlight=False,
    )
    page.print(f"[bold]{escape(plan.title)}[/bold]")
    page.print(f"{escape(permitted(plan))}.")
    page.print(f"{counted(plan)}.")
    _facts(page, "Before", plan.before)
    _facts(page, "Risks", plan.risks)
    page.print()
    page.print(_steps("take apart", plan.steps))
    page.print()
    page.print(_steps("put together", plan.reassembly))
    _facts(page, "Afterwards", plan.afterwards)
    _lines(page, "Tools", plan.tools)
    _lines(page, "Consumables", plan.consumables)
    _facts(page, "Notes", plan.notes)
    page.print("\n[bold]Sources[/bold]")
    for source in plan.sources:
        # Never broken: an address in two lines is none.
        page.print(escape(f"- {source.title}: {source.url}"), soft_wrap=True)
    assert isinstance(page.file, StringIO)
    lines = page.file.getvalue().splitlines()
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _steps(title: str, steps: list[Step]) -> Table:
    grid = Table(box=None, pad_edge=False, header_style="bold")
    grid.add_column("", justify="right")
    grid.add_column(title, ratio=5)
    grid.add_column("with", ratio=2)
    grid.add_column("how sure", no_wrap=True)
    for step in steps:
        for fact in step.checks:
            grid.add_row("", f"[bold]Check[/bold]: {escape(fact.text)}", "", fact.mark)
        said = f"[bold]{escape(step.name)}[/bold]: {escape(step.action)}"
        used = ", ".join([*step.tools, *step.consumables])
        grid.add_row(str(step.number), said, escape(used), step.mark)
    return grid


def _facts(page: Console, title: str, facts: list[Fact]) -> None:
    _lines(page, title, [_said(fact) for fact in facts])


def _lines(page: Console, title: str, lines: list[str]) -> None:
    if not lines:
        return
    page.print(f"\n[bold]{title}[/bold]")
    bullets = Table.grid(padding=(0, 1))
    for line in lines:
        bullets.add_row("-", escape(line))
    page.print(bullets)


def _said(fact: Fact) -> str:
    return marked(fact.text, fact.mark)
