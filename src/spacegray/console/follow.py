"""The end of an event log, read bit by bit, for a browser that watches.

The log belongs to the supervisor; it may not exist yet, be cut short or be replaced at any
time. A torn or foreign line is skipped.
"""

import json
import os
from pathlib import Path
from typing import Any

from spacegray.console.limits import EVENT_LINE_LIMIT_BYTES, HISTORY_LIMIT_BYTES

Event = dict[str, Any]


class Tail:
    """Reads an event log from shortly before its present end on."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._inode = 0
        self._position = 0
        self._rest = b""
        self._skipping = False
        self._begin()

    def read(self) -> list[Event]:
        """The events that were completed since the last call, oldest first."""
        try:
            with self._path.open("rb") as file:
                found = os.fstat(file.fileno())
                if found.st_ino != self._inode or found.st_size < self._position:
                    self._inode, self._position, self._rest = found.st_ino, 0, b""
                file.seek(self._position)
                chunk = file.read(HISTORY_LIMIT_BYTES)
        except OSError:
            return []
        self._position += len(chunk)
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        if len(self._rest) > EVENT_LINE_LIMIT_BYTES:
            self._rest, self._skipping = b"", True
        if lines and self._skipping:
            del lines[0]
            self._skipping = False
        return [event for line in lines if (event := _parse(line)) is not None]

    def _begin(self) -> None:
        try:
            found = self._path.stat()
        except OSError:
            return
        self._inode = found.st_ino
        self._position = max(0, found.st_size - HISTORY_LIMIT_BYTES)
        # Most likely in the middle of a line: the rest of it means nothing.
        self._skipping = self._position > 0


def _parse(line: bytes) -> Event | None:
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and isinstance(event.get("kind"), str) else None
