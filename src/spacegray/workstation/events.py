"""The event log: one JSON object a line, written by whoever acts on the workstation.

Kinds: state {state, reason, boot}, link {link, status, detail, seconds}, note {text}.
Readers tolerate a torn last line: it is not complete yet.
"""

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

LOG_LIMIT_BYTES = 4 << 20
"""A log beyond this is put aside at the next start, replacing the one put aside before."""
FOLLOW_POLL_SECONDS = 0.1

Event = dict[str, Any]


class EventLog:
    """Appends events to the log at `path`; each line is one write, so that writers may mix."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, kind: str, **fields: Any) -> Event:
        """Append one event and return it."""
        event: Event = {"at": round(time.time(), 3), "kind": kind, **fields}
        line = json.dumps(event).encode() + b"\n"
        descriptor = os.open(
            self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600
        )
        try:
            os.write(descriptor, line)
        finally:
            os.close(descriptor)
        return event

    def rotate(self) -> None:
        """Put an overlong log aside."""
        try:
            if self._path.stat().st_size > LOG_LIMIT_BYTES:
                self._path.rename(self._path.with_suffix(".1.jsonl"))
        except FileNotFoundError:
            pass


def follow(
    path: Path,
    *,
    start: int = 0,
    until: Callable[[], bool] = lambda: False,
    idle: Callable[[], None] = lambda: None,
) -> Iterator[Event]:
    """Events from byte `start` on, then those that come, until `until()` and nothing is left.

    `idle` is called whenever there is nothing new.
    """
    position, rest = start, b""
    while True:
        finished = until()
        try:
            if path.stat().st_size < position:
                position, rest = 0, b""
            with path.open("rb") as file:
                file.seek(position)
                chunk = file.read()
        except FileNotFoundError:
            chunk = b""
        position += len(chunk)
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if (event := _parse(line)) is not None:
                yield event
        if not chunk:
            if finished:
                return
            idle()
            time.sleep(FOLLOW_POLL_SECONDS)


def size(path: Path) -> int:
    """The length of the log in bytes, from where to follow what comes from now on."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _parse(line: bytes) -> Event | None:
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and "kind" in event else None
