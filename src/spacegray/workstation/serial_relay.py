"""The serial console for whoever attaches to it: what it says to all of them, what they type to it.

Nobody is waited for: who does not read is dropped, who types more than the guest reads waits.
"""

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable
from typing import Final

from spacegray.errors import SpacegrayError

LISTENER_LIMIT: Final = 8
RECENT_LIMIT_BYTES: Final = 32 * 1024
"""What was said last, which a new listener hears first."""
PENDING_LIMIT_BYTES: Final = 256 * 1024
"""What a listener may leave unread, beside what lies in its socket."""
TYPED_LIMIT_BYTES: Final = 4096
"""What is taken from a listener at a time."""


class SerialRelay:
    """Between one serial console and its listeners."""

    def __init__(self, type_: Callable[[bytes], Awaitable[None]]) -> None:
        self._type = type_
        self._turn = asyncio.Lock()
        self._recent = bytearray()
        self._listeners: set[_Listener] = set()

    def join(self) -> socket.socket:
        """The other end of a new listener; raises SpacegrayError when there are too many."""
        if len(self._listeners) >= LISTENER_LIMIT:
            raise SpacegrayError(
                "attaching to the serial console",
                f"{LISTENER_LIMIT} are attached already",
                "leave one of them",
            )
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        listener = _Listener(ours, self._typed, self._listeners.discard)
        self._listeners.add(listener)
        listener.hear(bytes(self._recent))
        return theirs

    def feed(self, data: bytes) -> None:
        """What the serial console said."""
        self._recent += data
        del self._recent[:-RECENT_LIMIT_BYTES]
        for listener in list(self._listeners):
            listener.hear(data)

    async def close(self) -> None:
        """Let them hear what was said so far, as far as they read it now, and hang up."""
        await asyncio.gather(*(listener.close() for listener in list(self._listeners)))

    async def _typed(self, data: bytes) -> None:
        async with self._turn:
            await self._type(data)


class _Listener:
    def __init__(
        self,
        connection: socket.socket,
        typed: Callable[[bytes], Awaitable[None]],
        gone: Callable[["_Listener"], None],
    ) -> None:
        self._connection = connection
        self._typed = typed
        self._gone = gone
        self._pending = bytearray()
        self._more = asyncio.Event()
        self._task = asyncio.get_running_loop().create_task(self._serve())
        self._task.add_done_callback(self._end)

    def hear(self, data: bytes) -> None:
        if len(self._pending) + len(data) > PENDING_LIMIT_BYTES:
            self._task.cancel()
            return
        self._pending += data
        self._more.set()

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _serve(self) -> None:
        ways = {asyncio.ensure_future(way) for way in (self._speak(), self._listen())}
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    def _end(self, _: "asyncio.Task[None]") -> None:
        with contextlib.suppress(OSError):
            self._connection.send(self._pending)
        self._connection.close()
        self._gone(self)

    async def _speak(self) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError):
            while True:
                await self._more.wait()
                self._more.clear()
                while self._pending:
                    data = bytes(self._pending[:TYPED_LIMIT_BYTES])
                    del self._pending[: len(data)]
                    await loop.sock_sendall(self._connection, data)

    async def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError):
            while data := await loop.sock_recv(self._connection, TYPED_LIMIT_BYTES):
                await self._typed(data)
