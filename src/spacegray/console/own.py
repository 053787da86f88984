"""The real workstations, as the console needs them.

Reading is done here. Acting is done by a process of its own (`errand`), which outlives the
console: a machine must not go down with the page it was started from, and the server's
threads must not fork.
"""

import json
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from spacegray.console.limits import ERRAND_OUTPUT_LIMIT_CHARACTERS
from spacegray.console.machines import Verb
from spacegray.errors import SpacegrayError
from spacegray.paths import Paths
from spacegray.process import minimal_environment
from spacegray.workstation import state
from spacegray.workstation.api import Workstation


class OwnMachines:
    """The workstations under `paths`; fulfils `machines.Machines`."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths

    def names(self) -> Sequence[str]:
        """Their names, sorted."""
        return Workstation.names(self._paths)

    def find(self, name: str) -> "OwnMachine":
        """One of them; raises UsageError where there is none of that name."""
        return OwnMachine(Workstation.find(self._paths, name))


class OwnMachine:
    """One of them; fulfils `machines.Machine`."""

    def __init__(self, workstation: Workstation) -> None:
        self._workstation = workstation

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
            "since": record.since,
            "links": record.links,
        }

    def show(self) -> dict[str, Any]:
        """Everything."""
        return self._workstation.show()

    def screen_socket(self) -> socket.socket:
        """A fresh connection that speaks RFB."""
        return self._workstation.screen_socket()

    def act(self, verb: Verb) -> None:
        """Have it done by a process that lives on without the console."""
        command = [sys.executable, "-m", "spacegray.console.errand", verb, self.name]
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            env=minimal_environment(),
            cwd="/",
            start_new_session=True,
            check=False,
        )
        if done.returncode != 0:
            raise _told(done.stdout.decode("utf-8", "replace"), verb, self.name)


def _told(output: str, verb: Verb, name: str) -> SpacegrayError:
    """The error an errand printed as JSON, or what else can be said of its end."""
    try:
        doing, stopped_by, next_step = json.loads(output[:ERRAND_OUTPUT_LIMIT_CHARACTERS])
    except ValueError:
        return SpacegrayError(
            f"{verb} {name}", "it ended without a word", "see console.log in the state folder"
        )
    return SpacegrayError(str(doing), str(stopped_by), str(next_step))
