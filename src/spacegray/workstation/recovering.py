"""What is said with the recovery system: what it is to do for its owner, what it wants of the host.

It does things by asking the chip over its own port; here only the order and the answer pass, no
secret. The guest may be anything: its answers are lines of text that decide nothing but what the
asker is told, and its wishes are those that anybody at its screen could have by a button.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from spacegray.errors import SpacegrayError
from spacegray.workstation import guest_port
from spacegray.workstation.guest_port import Done, GuestError

DO_SECONDS: Final = 120.0
"""How long recovery may take to do something: the chip looks at it too, under emulation."""


class Recovering:
    """The conversation with one start's recovery system, once it has answered."""

    def __init__(self, send: Callable[[bytes], Awaitable[None]]) -> None:
        self._send = send
        self._turn = asyncio.Lock()
        self._number = 0
        self._answer: asyncio.Future[Done] | None = None

    async def do(self, words: str) -> str:
        """Have it do `words` and return what the chip says to that.

        One at a time. Raises SpacegrayError when the chip refuses, or nobody answers.
        """
        doing = f"asking the recovery system to {words.split(' ')[0] or 'do something'}"
        async with self._turn:
            self._number += 1
            self._answer = asyncio.get_running_loop().create_future()
            try:
                await self._send(guest_port.order(self._number, words))
                done = await asyncio.wait_for(self._answer, DO_SECONDS)
            except GuestError as error:
                raise SpacegrayError(doing, error, "give less") from None
            except TimeoutError:
                raise SpacegrayError(
                    doing, f"it did not answer in {DO_SECONDS:.0f} s", "see `logs`, then try again"
                ) from None
            except OSError:
                raise SpacegrayError(doing, "it is gone", "see `logs`") from None
            finally:
                self._answer = None
        if not done.right:
            code, _, text = done.text.partition(" ")
            raise SpacegrayError(
                doing, text or code or "it does not say why not", "see `security show`", link="chip"
            )
        return done.text

    def hear(self, done: Done) -> bool:
        """Take an answer; returns whether it was one to what is being done."""
        if self._answer is None or self._answer.done() or done.number != self._number:
            return False
        self._answer.set_result(done)
        return True
