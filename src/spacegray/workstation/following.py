"""What follows a start: what is written down of how it ended, and what that makes of the next one.

With the machine off and its chip still at hand.
"""

import asyncio
import contextlib
import dataclasses
from typing import Final

from spacegray.chip.client import ChipClient
from spacegray.errors import SpacegrayError
from spacegray.paths import SLOTS, Paths, WorkstationPaths
from spacegray.spec import Spec
from spacegray.workstation import create, examine, life, unlock, update
from spacegray.workstation.journal import Journal
from spacegray.workstation.start import Outcome

OF_THE_SYSTEM: Final = ("firmware", "kernel", "system", "data", "login")
"""Links that break by what is in a slot: a new system that fails there is not tried again."""


def examined(
    outcome: Outcome, at: WorkstationPaths, journal: Journal, mailbox: ChipClient
) -> Outcome:
    """A refused image's outcome, with what there is in place of the one that was to start."""
    found = create.installed(at)
    if journal.record.target != "main" or found is None:
        return outcome
    slot = next((each for each in SLOTS if each == journal.record.slot), None)
    with contextlib.suppress(SpacegrayError):
        mailbox.close_disk()
    reason = f"{outcome.reason}: {examine.kernel(mailbox, found, slot)}"
    return dataclasses.replace(outcome, reason=reason)


def tried(journal: Journal, mailbox: ChipClient) -> bool:
    """Whether the chip has a new system that the start was for and that did not come up yet."""
    with contextlib.suppress(SpacegrayError):
        return journal.record.target == "main" and bool(mailbox.show().get("trying"))
    return False


def fall_back(outcome: Outcome, journal: Journal, mailbox: ChipClient) -> bool:
    """Give a new system up that failed before it came up; returns whether it was that."""
    of_the_system = outcome.ending == "failed" and outcome.link in OF_THE_SYSTEM
    failed = outcome.ending == "reset" or of_the_system
    if not failed or not tried(journal, mailbox):
        return False
    mailbox.give_up()
    link = f" (link {outcome.link})" if outcome.link else ""
    journal.note(
        f"the new system did not come up{link}: {outcome.reason}; the old one is started again"
    )
    return True


def erased(at: WorkstationPaths, mailbox: ChipClient) -> bool:
    """Whether the chip was erased from within recovery; what is left of the disk goes then."""
    with contextlib.suppress(SpacegrayError):
        if mailbox.show().get("life") == "erased":
            found = create.installed(at)
            if found is not None:
                life.erase_with(at, found, mailbox)
            return True
    return False


async def reinstall(
    paths: Paths, at: WorkstationPaths, spec: Spec, journal: Journal, mailbox: ChipClient
) -> None:
    """What recovery asked for; where that fails, the system that there is starts anyway."""
    try:
        if unlock.standing(mailbox).needs:
            raise SpacegrayError(
                "reinstalling the system",
                "its disk is locked",
                "authenticate in recovery first, then have it reinstalled",
            )
        same = await asyncio.to_thread(
            update.reinstall_with, paths, at, spec, mailbox, _Noted(journal)
        )
        journal.note(
            "the system was reinstalled" if same else "a newer system is in place; trying it"
        )
    except SpacegrayError as error:
        journal.note(str(error))
    with contextlib.suppress(SpacegrayError):
        mailbox.close_disk()


class _Noted:
    """Progress for the event log: decisions, not steps."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def step(self, label: str, done: int, total: int) -> None:
        """Ignore it: the log is for what lasts."""

    def note(self, text: str) -> None:
        """Write it down."""
        self._journal.note(text)
