"""What a chip said of itself when it was last spoken to: for `show`, which starts none.

A note in the chip's state folder. It is renewed by whoever had the chip, so that it is true as long
as only this program speaks to it; nothing rests on it.
"""

import contextlib
from typing import Any

import msgspec

from spacegray.errors import SpacegrayError
from spacegray.files import write_atomically
from spacegray.paths import WorkstationPaths
from spacegray.spec import Seal


class Known(msgspec.Struct, kw_only=True, frozen=True):
    """The lasting part of what a chip shows of itself; null where it is not known."""

    seal: Seal | None = None
    root: str | None = None
    life: str | None = None
    lives: int | None = None
    password: bool | None = None
    recovery_key: bool | None = None
    rollbacks: int | None = None
    policy: str | None = None
    external_boot: str | None = None
    other_systems: str | None = None
    firmware_password: bool | None = None
    minimum_epoch: int | None = None
    slots: dict[str, dict[str, Any] | None] | None = None
    """The two systems that the chip has tickets for: `product`, `epoch`, `issued` and more."""
    current: str | None = None
    """The slot of the system that starts."""
    trying: bool | None = None
    """Whether the other one is tried before that."""

    def needs(self) -> list[str]:
        """What the next power-on will ask for."""
        asked = [("passphrase", self.seal == "passphrase"), ("password", bool(self.password))]
        return [name for name, needed in asked if needed]


def note(at: WorkstationPaths, shown: dict[str, Any], *, touch: bool = False) -> Known:
    """Remember what the chip `shown` says of itself, unless it is not open.

    With `touch` the note is a new one even where it says the same; see `version`.
    """
    before = read(at)
    if shown.get("state") != "open":
        return before
    known = msgspec.convert(shown, Known)
    if touch or known != before:
        # No more than a note: a full disk must not keep a machine from starting.
        with contextlib.suppress(SpacegrayError):
            write_atomically(at.chip_facts, msgspec.json.encode(known))
    return known


def version(at: WorkstationPaths) -> tuple[int, int]:
    """Another one for each note that was made; zeros where there is none."""
    try:
        info = at.chip_facts.stat()
    except OSError:
        return 0, 0
    return info.st_ino, info.st_mtime_ns


def read(at: WorkstationPaths) -> Known:
    """What was noted last."""
    try:
        return msgspec.json.decode(at.chip_facts.read_bytes(), type=Known)
    except (OSError, msgspec.DecodeError):
        return Known()
