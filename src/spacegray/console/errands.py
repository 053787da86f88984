"""Starting, stopping and restarting on behalf of a browser.

They take long, so a browser only sets one off and then watches. At most one errand per
workstation runs at a time; how the last one ended is kept until the next.
"""

import logging
import threading
from dataclasses import dataclass, replace
from typing import Any

from spacegray.console.machines import Machine, Verb
from spacegray.errors import SpacegrayError

log = logging.getLogger(__name__)

DOING: dict[Verb, str] = {
    "start": "starting",
    "stop": "shutting down",
    "restart": "restarting",
    "recovery": "starting recovery of",
}


@dataclass(frozen=True)
class Errand:
    """One thing that a browser asked for, and how it went."""

    verb: Verb
    done: bool = False
    error: SpacegrayError | None = None

    def told(self) -> dict[str, Any]:
        """As the page gets it."""
        error = None if self.error is None else describe(self.error)
        return {"verb": self.verb, "done": self.done, "error": error}


class Errands:
    """What the browsers asked for; safe between threads."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._latest: dict[str, Errand] = {}

    def begin(self, machine: Machine, verb: Verb) -> None:
        """Set off `verb`; raises SpacegrayError while another errand for it is under way.

        Only a stop may overtake: it is how a start is given up.
        """
        errand = Errand(verb)
        with self._guard:
            latest = self._latest.get(machine.name)
            if latest is not None and not latest.done and (verb != "stop" or latest.verb == "stop"):
                raise SpacegrayError(
                    f"{DOING[verb]} {machine.name}",
                    f"{DOING[latest.verb]} it is still under way",
                    "wait for that to end",
                )
            self._latest[machine.name] = errand
        # A daemon thread: the console may end without it. The work itself is not lost, it is
        # done by processes of their own (`own`).
        threading.Thread(target=self._run, args=(machine, errand), daemon=True).start()

    def latest(self, name: str) -> dict[str, Any] | None:
        """The last errand of a workstation: {verb, done, error}, error as in `describe`."""
        with self._guard:
            errand = self._latest.get(name)
        return None if errand is None else errand.told()

    def busy(self) -> bool:
        """Whether any errand is under way."""
        with self._guard:
            return any(not errand.done for errand in self._latest.values())

    def _run(self, machine: Machine, errand: Errand) -> None:
        error: SpacegrayError | None = None
        try:
            machine.act(errand.verb)
        except SpacegrayError as refusal:
            log.info("%s %s: %s", errand.verb, machine.name, refusal)
            error = refusal
        except Exception as fault:
            log.exception("%s %s", errand.verb, machine.name)
            error = SpacegrayError(
                f"{DOING[errand.verb]} {machine.name}",
                f"a fault in the console ({type(fault).__name__})",
                "see console.log in the folder .console beside the chips' folders",
            )
        with self._guard:
            if self._latest[machine.name] is errand:
                self._latest[machine.name] = replace(errand, done=True, error=error)


def describe(error: SpacegrayError) -> dict[str, Any]:
    """An error as the page gets it."""
    return {"doing": error.doing, "stopped_by": error.stopped_by, "next_step": error.next_step}
