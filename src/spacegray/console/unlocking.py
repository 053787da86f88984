"""A secret on its way from a page to a chip: into a pipe as it comes, and out of sight.

It came over HTTP, so this process has had it in its memory; what is promised here is that it is
neither stored nor logged. Invariants: it lies in no object that outlives its reading, one is on
its way to a workstation at a time, and one is taken only while the chip waits for it.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from io import FileIO
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from spacegray.console.limits import SECRET_LIMIT_BYTES, SECRET_SECONDS
from spacegray.console.machines import Machine
from spacegray.errors import SpacegrayError
from spacegray.workstation.unlock import WORDS, Kind


class Unlocking:
    """What the browsers give to chips that wait; for one event loop."""

    def __init__(self) -> None:
        self._trying: set[str] = set()

    async def give(
        self, machine: Machine, kind: Kind, mode: str, body: AsyncIterator[bytes]
    ) -> dict[str, Any]:
        """Give `machine` the secret that comes as `body`; returns what `Machine.unlock` does.

        Raises SpacegrayError where nobody looked at it.
        """
        doing = f"unlocking {machine.name}"
        if machine.name in self._trying:
            raise SpacegrayError(doing, "another secret is being looked at", "wait for that to end")
        self._trying.add(machine.name)
        try:
            await run_in_threadpool(_see_that_it_waits, machine, kind, doing)
            secret = await _into_pipe(body, doing)
            return await run_in_threadpool(_give, machine, kind, mode, secret)
        finally:
            self._trying.discard(machine.name)


def _see_that_it_waits(machine: Machine, kind: Kind, doing: str) -> None:
    """Raise the error before the secret is even read, where nothing could come of it."""
    status = machine.status()
    if status["state"] != "locked":
        raise SpacegrayError(doing, "it is not locked", "power it on first, if it is off")
    needed = status["needs"][0]
    if needed != ("password" if kind == "recovery_key" else kind):
        raise SpacegrayError(
            doing, f"it waits for the {WORDS[needed]} now", f"give the {WORDS[needed]}"
        )


async def _into_pipe(body: AsyncIterator[bytes], doing: str) -> FileIO:
    """The reading end of a pipe with the `body` in it, whose writer is done."""
    reading, writing = os.pipe()
    # Closed with the last reference to it, also where nobody gets that far.
    secret = FileIO(reading)
    room = SECRET_LIMIT_BYTES
    try:
        async with asyncio.timeout(SECRET_SECONDS):
            async for chunk in body:
                room -= len(chunk)
                if room < 0:
                    raise SpacegrayError(
                        doing, f"it is longer than {SECRET_LIMIT_BYTES} bytes", "give a shorter one"
                    )
                # A pipe holds more than the limit, so this does not block.
                os.write(writing, chunk)
    except (TimeoutError, ClientDisconnect):
        raise SpacegrayError(doing, "it did not come whole", "try again") from None
    finally:
        os.close(writing)
    if room == SECRET_LIMIT_BYTES:
        raise SpacegrayError(doing, "nothing was given", f"give 1 to {SECRET_LIMIT_BYTES} bytes")
    return secret


def _give(machine: Machine, kind: Kind, mode: str, secret: FileIO) -> dict[str, Any]:
    # Closed here: a thread goes on though who waits for it has given up.
    with secret:
        return machine.unlock(kind, secret.fileno(), mode)
