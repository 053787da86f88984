"""The chain of one start: how far it got, how long it may be silent, where to go when it broke.

Each link passed or failed is written down and told to the chip, once, in the order of the chain.
"""

import asyncio
from typing import Final

from spacegray.links import Status, Target, chain
from spacegray.workstation.create import Installed
from spacegray.workstation.journal import Journal
from spacegray.workstation.telling import Telling

LINK_SECONDS: Final = {
    "machine": 10.0,
    "kernel": 20.0,
    "system": 15.0,
    "data": 30.0,
    "login": 60.0,
    "recovery": 30.0,
}
"""How long each link may take after the one before it, with KVM; scaled for emulation."""
REPORT_LIMIT: Final = 64
"""How many entries in state and event log one start's guest may cause by what it says."""


class Chain:
    """One start's."""

    def __init__(self, target: Target, journal: Journal, telling: Telling) -> None:
        self.target = target
        self.links = chain(target)
        self._journal = journal
        self._telling = telling
        self._reached = self.links[self.links.index("machine") - 1]
        self._progress = asyncio.Event()
        self._reports_left = REPORT_LIMIT

    @property
    def up(self) -> bool:
        """Whether its last link was passed."""
        return self._reached == self.links[-1]

    @property
    def reached(self) -> str:
        """The last link that was passed."""
        return self._reached

    def next(self) -> str:
        """The link that is awaited; the last one when it is up."""
        position = self.links.index(self._reached) + 1
        return self.links[min(position, len(self.links) - 1)]

    def passed(self, link: str) -> bool:
        """Whether the start got past `link`."""
        return self.links.index(link) <= self.links.index(self._reached)

    def go_past(self, link: str, detail: str) -> None:
        """The start got past `link`; what lies before it needs no word of its own."""
        if not self.passed(link):
            self._reached = link
            self.note(link, "ok", detail)
            self._progress.set()

    def note(self, link: str, status: Status, detail: str) -> None:
        """Write down what was seen of `link`, and tell the chip."""
        self._journal.link(link, status, detail)
        self._telling.report(link, status, detail)

    def may_report(self) -> bool:
        """Whether the guest may still cause an entry; it must not fill the host's disk."""
        self._reports_left -= 1
        return self._reports_left >= 0

    async def silence(self, timeout_factor: float) -> str | None:
        """Return when nothing was heard for too long, with words for that; None once it is up."""
        while not self.up:
            seconds = LINK_SECONDS[self.next()] * timeout_factor
            self._progress.clear()
            try:
                await asyncio.wait_for(self._progress.wait(), seconds)
            except TimeoutError:
                return f"nothing more was heard for {seconds:.0f} s after {self._reached!r}"
        return None


def usual_target(installed: Installed | None) -> Target:
    """What a start is for unless somebody says otherwise."""
    return "other" if installed is not None and installed.other else "main"


def next_step(name: str, target: Target, link: str) -> str:
    """Where the owner of the workstation `name` goes after `link` broke in a start for `target`."""
    if link in ("chip", "disk", "machine"):
        return f"see `logs {name}`, then start it again"
    if target in ("other", "external") and link == "kernel":
        return f"`security show {name}` says what may start, `recovery {name}` changes it"
    if target == "recovery" or link == "firmware":
        # Recovery starts with the same firmware.
        return (
            f"`reinstall {name}` writes the system anew and keeps your data, `restore {name}` "
            "begins anew without them"
        )
    return (
        f"`recovery {name}` reinstalls the system and keeps your data, `restore {name}` begins "
        "anew without them"
    )
