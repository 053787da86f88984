"""What a supervisor tells its chip while the machine runs: what was seen of each link.

Over a connection of its own, one after the other and in a thread, so that a chip that is at work
on something else keeps nobody waiting. A chip that is gone is noticed elsewhere.
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

from spacegray.chip.client import ChipClient
from spacegray.chip.launch import ChipProcess
from spacegray.errors import SpacegrayError
from spacegray.links import Status

QUEUE_LIMIT: Final = 32
"""What waits to be told; more than a chip keeps of one start."""
DETAIL_LIMIT_CHARACTERS: Final = 300
DRAIN_SECONDS: Final = 5.0
"""How long the chip may take to hear the last words of a start."""

_Act = Callable[[ChipClient], None]


class Telling:
    """A queue of words for one chip; `settle` when they have to be heard, `close` at the end."""

    def __init__(self, chip: ChipProcess) -> None:
        self._chip = chip
        self._client: ChipClient | None = None
        self._queue: asyncio.Queue[tuple[_Act, asyncio.Future[None]]] = asyncio.Queue(QUEUE_LIMIT)
        self._worker = asyncio.get_running_loop().create_task(self._work())

    def report(self, link: str, status: Status, detail: str) -> None:
        """What was seen of `link`; what does not fit is not told."""
        short = detail[:DETAIL_LIMIT_CHARACTERS]
        with contextlib.suppress(asyncio.QueueFull):
            self._put(lambda chip: chip.report(link, status, short))

    async def came_up(self) -> None:
        """The system of this start came up; raises SpacegrayError where the chip refuses."""
        try:
            done = self._put(lambda chip: chip.came_up())
        except asyncio.QueueFull:
            raise SpacegrayError(
                "telling the chip that the system came up", "it does not listen", "see `logs`"
            ) from None
        await asyncio.shield(done)

    async def settle(self) -> None:
        """Return once all was told, or the chip takes too long."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._queue.join(), DRAIN_SECONDS)

    async def close(self) -> None:
        """Hang up; what was not told yet is forgotten."""
        self._worker.cancel()
        await asyncio.gather(self._worker, return_exceptions=True)
        if self._client is not None:
            self._client.close()

    def _put(self, act: _Act) -> "asyncio.Future[None]":
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # Nobody has to look at it.
        done.add_done_callback(lambda future: future.cancelled() or future.exception())
        self._queue.put_nowait((act, done))
        return done

    async def _work(self) -> None:
        while True:
            act, done = await self._queue.get()
            try:
                await asyncio.to_thread(self._tell, act)
                if not done.done():
                    done.set_result(None)
            except SpacegrayError as error:
                if not done.done():
                    done.set_exception(error)
            finally:
                self._queue.task_done()

    def _tell(self, act: _Act) -> None:
        if self._client is None:
            self._client = self._chip.client()
        act(self._client)
