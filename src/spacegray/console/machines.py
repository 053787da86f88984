"""What the console needs of a workstation, and nothing more.

The console knows these two protocols; `own` fulfils them with the real workstations. All
methods may block and are called from worker threads.
"""

import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Literal, Protocol

from spacegray.workstation.unlock import Kind

Verb = Literal["start", "stop", "restart", "recovery"]
VERBS: Final[tuple[Verb, ...]] = ("start", "stop", "restart", "recovery")
"""As the command line has them; `recovery` starts the recovery system."""
ALIVE: Final = ("starting", "locked", "running", "recovery", "stopping")
"""The states in which a machine needs somebody to be able to watch it."""


class Machine(Protocol):
    """One workstation."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def events_path(self) -> Path:
        """Its event log, one JSON object a line."""

    def status(self) -> dict[str, Any]:
        """Cheap: state, reason, link (that broke), boot, target, since, links (of the last start).

        And for the state locked: needs, attempts, attempts_at, locked_until (docs/show.md).
        """

    def show(self) -> dict[str, Any]:
        """Everything, as `spacegray show --format json` says it; raises SpacegrayError."""

    def service(self) -> dict[str, Any]:
        """Its service record, verified, as `service history --format json` says it.

        Raises SpacegrayError where the chip cannot be asked.
        """

    def screen_socket(self) -> socket.socket:
        """A fresh connection that speaks RFB, ours to close; raises SpacegrayError."""

    def act(self, verb: Verb) -> None:
        """Start, stop or restart it, or start recovery, to the end; raises SpacegrayError."""

    def unlock(self, kind: Kind, secret: int, mode: str) -> dict[str, Any]:
        """Give its chip a secret; says what came of it, as `workstation.unlock.Answer` does.

        `secret` is the reading end of a pipe whose writer is done, and stays the caller's; `mode`
        is normal or recovery. Raises SpacegrayError where the chip did not look at it.
        """


class Machines(Protocol):
    """All workstations of this user."""

    def names(self) -> Sequence[str]:
        """Their names, sorted."""

    def find(self, name: str) -> Machine:
        """One of them; raises UsageError where there is none of that name."""
