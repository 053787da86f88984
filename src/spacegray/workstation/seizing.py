"""The chip of a machine that is off, even while somebody holds it: for an erasing alone.

Whoever holds the machine has its chip running, or is about to start it. That chip does what is
asked, and is ended then: what it was held for has no end any more that anybody could wait for.
"""

import contextlib
import os
import select
import signal
import time
from collections.abc import Iterator
from typing import Final

from spacegray.chip import manifest
from spacegray.chip.client import ChipClient
from spacegray.errors import SpacegrayError
from spacegray.paths import WorkstationPaths
from spacegray.workstation import hold
from spacegray.workstation.unlock import Owner

END_SECONDS: Final = 45.0
"""How long a chip may take to end."""
LET_GO_SECONDS: Final = 15.0
"""How long a holder may take to give up once its new chip was ended."""
_POLL_SECONDS: Final = 0.05


@contextlib.contextmanager
def seized(
    at: WorkstationPaths, doing: str, purpose: str, owner: Owner | None
) -> Iterator[ChipClient]:
    """A connection to the chip, with the passphrase given by `owner` if it needs that.

    Whoever holds the machine loses it, unless what the chip is wanted for fails.
    """
    with contextlib.ExitStack() as ours:
        theirs = _theirs(at)
        if theirs is not None:
            with theirs:
                hold.open_to(theirs, doing, owner, "chip")
                yield theirs
                _end(theirs)
            return
        if hold.holder(at) is None:
            found = hold.chip(at, doing, purpose, owner, wants="chip", settled=False)
        else:
            found = hold.opened_chip(at, doing, owner, wants="chip", settled=False)
        yield ours.enter_context(found).mailbox


def _theirs(at: WorkstationPaths) -> ChipClient | None:
    """The chip that the holder has running; None where there is none, nor a holder."""
    deadline = time.monotonic() + hold.TURN_SECONDS
    while hold.holder(at) is not None:
        with contextlib.suppress(SpacegrayError):
            found = ChipClient(at.mailbox)
            try:
                if found.show()["ecid"] == manifest.read(at.state_folder).ecid:
                    return found
                # A new one that is to take its place. Whoever made it then settles which of them
                # has the disk; the other one is destroyed afterwards.
                _end(found)
                deadline = time.monotonic() + LET_GO_SECONDS
            except BaseException:
                found.close()
                raise
            found.close()
        if time.monotonic() > deadline:
            break
        time.sleep(_POLL_SECONDS)
    return None


def _end(mailbox: ChipClient) -> None:
    """End a chip, and return once it has ended."""
    with contextlib.suppress(ProcessLookupError):
        process = os.pidfd_open(mailbox.process)
        try:
            signal.pidfd_send_signal(process, signal.SIGTERM)
            select.select([process], [], [], END_SECONDS)
        finally:
            os.close(process)
