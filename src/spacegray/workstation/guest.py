"""The conversation with one start's guest over its private port (docs/guest-port.md).

The guest may be hostile: its lines are bounded, few of them may cause an entry in the log, and only
an answer that carries this start's nonce makes it the guest that was started.
"""

import contextlib
from collections.abc import Awaitable, Callable

from spacegray.errors import SpacegrayError
from spacegray.workstation import guest_port
from spacegray.workstation.chain import Chain
from spacegray.workstation.guest_port import GuestError, Ready, Wish
from spacegray.workstation.journal import Journal
from spacegray.workstation.recovering import Recovering
from spacegray.workstation.streams import Pair


class Guest:
    """The guest of one start, as far as it speaks.

    `ready` is awaited once, with the answer of this very guest; `wish` is called with what a
    recovery system wants.
    """

    def __init__(
        self,
        port: Pair,
        chain: Chain,
        journal: Journal,
        *,
        provision: bytes | None,
        ready: Callable[[Ready], Awaitable[None]],
        wish: Callable[[Wish], None],
    ) -> None:
        self._port = port
        self._chain = chain
        self._journal = journal
        self._provision = provision
        self._ready = ready
        self._wish = wish
        self._nonce = guest_port.new_nonce()
        self._recovering = Recovering(port.send)
        self.greeted = False
        """Whether it was told the nonce: there is somebody to speak to."""

    async def greet(self) -> None:
        """Tell our own guest this start's nonce, once its kernel runs; harmless when repeated.

        Not before: firmware that has a driver for the port (OVMF since 2023) reads it as a console.
        """
        if not self.greeted and self._chain.target in ("main", "recovery"):
            self.greeted = True
            provision = self._provision if self._chain.target == "main" else None
            await self._say(guest_port.greeting(self._nonce, provision))

    async def power_off(self) -> None:
        """Ask it to shut down in order."""
        if self.greeted:
            await self._say(b"poweroff\n")

    async def resize(self, rows: object, columns: object) -> None:
        """Tell the recovery system how large the terminal on its serial console is."""
        if self._chain.target == "recovery" and self.greeted:
            await self._say(guest_port.size(rows, columns))

    async def do(self, words: str) -> str:
        """Have the recovery system do `words`; returns the chip's answer to that."""
        if self._chain.target != "recovery" or not self._chain.up:
            raise SpacegrayError(
                "asking the recovery system", "it does not run", "start recovery first"
            )
        return await self._recovering.do(words)

    async def listen(self) -> None:
        """Hear what it says until its end is closed; raises SpacegrayError for an endless line."""
        rest = b""
        async for data in self._port.receive():
            *lines, rest = (rest + data).split(b"\n")
            if len(rest) > guest_port.LINE_LIMIT_BYTES:
                raise SpacegrayError(
                    "listening to the guest",
                    "it sent an endless line",
                    "see `logs`",
                    link=self._chain.links[-1],
                )
            for line in lines:
                await self._hear(line)

    async def _hear(self, line: bytes) -> None:
        recovery = self._chain.target == "recovery"
        try:
            if recovery and self._chain.up:
                self._hear_recovery(line)
                return
            ready = guest_port.parse_ready(line, self._nonce, recovery=recovery)
        except GuestError as error:
            if self._chain.may_report():
                self._journal.note(f"the guest was not believed: {error}")
            return
        # Only what was greeted can know the nonce.
        if ready is not None and not self._chain.up:
            await self._ready(ready)

    def _hear_recovery(self, line: bytes) -> None:
        if (wish := guest_port.parse_want(line)) is not None:
            self._wish(wish)
        elif (done := guest_port.parse_done(line)) is not None:
            self._recovering.hear(done)

    async def _say(self, line: bytes) -> None:
        with contextlib.suppress(OSError):
            await self._port.send(line)
