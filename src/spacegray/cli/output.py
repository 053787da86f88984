"""What the command line shows: bars on a terminal, plain lines in a pipe, JSON where asked."""

import contextlib
import json
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Column, Table

from spacegray.links import MEANING

PLAIN_STEPS = 4
"""In a pipe, a step says this many times how far it is."""

PIPE_WIDTH_CHARACTERS = 1000
"""Wide enough that nothing is wrapped or cut for whoever reads from a pipe."""

_EXPECTED_FOUND = re.compile(
    r"expected:? (?P<expected>.+?)[,;]? (?:but )?(?:found|got):? (?P<found>.+)$", re.IGNORECASE
)

console = Console(
    highlight=False,
    soft_wrap=True,
    width=None if sys.stdout.isatty() else PIPE_WIDTH_CHARACTERS,
)


class Bars:
    """Shows progress; a context manager. Plain lines go to standard output where it is a pipe."""

    def __init__(self) -> None:
        self._live = console.is_terminal
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeElapsedColumn(),
            console=console,
        )
        self._tasks: dict[str, TaskID] = {}
        self._said: dict[str, int] = {}

    def __enter__(self) -> "Bars":
        if self._live:
            self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._progress.stop()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Meanwhile nothing is drawn: somebody is asked something on the terminal."""
        if self._live:
            self._progress.stop()
        try:
            yield
        finally:
            if self._live:
                self._progress.start()

    def step(self, label: str, done: int, total: int) -> None:
        """See `spacegray.progress.Progress`."""
        if self._live:
            if label not in self._tasks:
                self._tasks[label] = self._progress.add_task(label, total=total or None)
            self._progress.update(self._tasks[label], completed=done, total=total or None)
            return
        part = done * PLAIN_STEPS // total if total else 0
        if self._said.get(label) != part:
            self._said[label] = part
            share = f": {100 * done // total} %" if total else ""
            print(f"{label}{share}", flush=True)

    def note(self, text: str) -> None:
        """See `spacegray.progress.Progress`."""
        if self._live:
            self._progress.console.print(text, markup=False)
        else:
            print(text, flush=True)


def as_json(value: Any) -> None:
    """Print `value` as JSON."""
    json.dump(value, sys.stdout, indent=2)
    print()


def table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table; the guest's text in it is never taken for markup.

    Where the terminal is too narrow words are broken: nothing is cut off, a mark least of all.
    """
    columns = (Column(heading, overflow="fold") for heading in headings)
    grid = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        grid.add_row(*(_cell(value) for value in row))
    console.print(grid)


def event_line(event: dict[str, Any]) -> str | None:
    """One event as people read it; None where there is nothing to say."""
    match event.get("kind"):
        case "link":
            mark = "ok" if event.get("status") == "ok" else "FAILED"
            link = str(event.get("link"))
            text = f"{event.get('seconds', 0):7.1f} s  {link:<9} {mark:<6} {event.get('detail')}"
            return text if mark == "ok" else f"{text} [{MEANING.get(link, link)}]"
        case "state":
            reason = f": {event['reason']}" if event.get("reason") else ""
            return f"{event.get('state')}{reason}"
        case "note":
            return str(event.get("text"))
    return None


def findings(detail: str) -> tuple[str | None, str | None]:
    """What was expected and what was found, where a link's detail says both."""
    said = _EXPECTED_FOUND.search(detail)
    return (said["expected"], said["found"]) if said else (None, None)


def size(count: int) -> str:
    """A number of bytes as people read it, in decimal units as disks are sold."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def _cell(value: object) -> str:
    return "" if value is None else str(value).replace("[", r"\[")
