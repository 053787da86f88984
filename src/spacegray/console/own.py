"""The real workstations, as the console needs them.

What their folders say is read here. Everything else is done by the porter: this process is
confined, and a machine must not go down with the page it was started from.
"""

import json
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from spacegray.console.machines import Verb
from spacegray.console.porter import Porter
from spacegray.paths import Paths
from spacegray.workstation import state
from spacegray.workstation.api import Workstation
from spacegray.workstation.unlock import Kind


class OwnMachines:
    """The workstations under `paths`; fulfils `machines.Machines`."""

    def __init__(self, paths: Paths, porter: Porter) -> None:
        self._paths = paths
        self._porter = porter

    def names(self) -> Sequence[str]:
        """Their names, sorted."""
        return Workstation.names(self._paths)

    def find(self, name: str) -> "OwnMachine":
        """One of them; raises UsageError where there is none of that name."""
        return OwnMachine(Workstation.find(self._paths, name), self._porter)


class OwnMachine:
    """One of them; fulfils `machines.Machine`."""

    def __init__(self, workstation: Workstation, porter: Porter) -> None:
        self._workstation = workstation
        self._porter = porter

    @property
    def name(self) -> str:
        """Its name."""
        return self._workstation.name

    @property
    def events_path(self) -> Path:
        """Its event log."""
        return self._workstation.at.events

    def status(self) -> dict[str, Any]:
        """What its supervisor wrote down, corrected where that one is gone."""
        record = state.read(self._workstation.at)
        return {
            "state": record.state,
            "reason": record.reason,
            "link": record.link,
            "boot": record.boot,
            "target": record.target,
            "since": record.since,
            "links": record.links,
            "needs": record.needs,
            "attempts": record.attempts,
            "attempts_at": record.attempts_at,
            "locked_until": record.locked_until,
        }

    def show(self) -> dict[str, Any]:
        """Everything."""
        answer, _ = self._porter.ask("show", self.name)
        return dict(answer["show"])

    def service(self) -> dict[str, Any]:
        """Its service record, verified by the porter: only that reaches the chip."""
        _, (descriptor,) = self._porter.ask("service", self.name)
        with open(descriptor, "rb") as file:
            return dict(json.loads(file.read()))

    def screen_socket(self) -> socket.socket:
        """A fresh connection that speaks RFB."""
        _, (connection,) = self._porter.ask("screen", self.name)
        return socket.socket(fileno=connection)

    def act(self, verb: Verb) -> None:
        """Have it done, to the end."""
        self._porter.ask(verb, self.name)

    def unlock(self, kind: Kind, secret: int, mode: str) -> dict[str, Any]:
        """Have the secret passed on, unread."""
        answer, _ = self._porter.ask("unlock", self.name, (secret,), kind=kind, mode=mode)
        return dict(answer["answer"])
