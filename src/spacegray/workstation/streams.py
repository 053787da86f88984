"""Waiting for children and for what they write, on the event loop and without threads."""

import asyncio
import os
import socket
import subprocess
from collections.abc import AsyncIterator

READ_BYTES = 64 * 1024


class Pair:
    """A connected pair of sockets: `ours` is read here, `theirs` is handed to a child."""

    def __init__(self) -> None:
        self.ours, self.theirs = socket.socketpair()
        self.ours.setblocking(False)
        self.ended = False
        """Whether all that the child wrote has been received."""

    async def receive(self) -> AsyncIterator[bytes]:
        """What the child writes, until it closed its end."""
        loop = asyncio.get_running_loop()
        try:
            while data := await loop.sock_recv(self.ours, READ_BYTES):
                yield data
        except ConnectionResetError:
            pass
        finally:
            self.ended = True

    async def send(self, data: bytes) -> None:
        """Send all of `data`; raises OSError when the child is gone."""
        await asyncio.get_running_loop().sock_sendall(self.ours, data)

    def close(self) -> None:
        """Close both ends."""
        self.ours.close()
        self.theirs.close()


async def exit_status(child: "subprocess.Popen[bytes]") -> int:
    """Wait until `child` ended; returns its exit status as subprocess gives it."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    descriptor = os.pidfd_open(child.pid)
    loop.add_reader(descriptor, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
    return child.wait()
