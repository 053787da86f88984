"""The QEMU guest agent of a running machine, at the unix socket `run/agent`.

For the owner's own tools: the protocol is qemu-ga's (JSON lines), nothing here reads it. One
client at a time; the editions that have no agent leave it unanswered.
"""

import asyncio
import contextlib
import os
import socket

from spacegray.paths import WorkstationPaths
from spacegray.sockets import bind_unix, peer_uid
from spacegray.workstation.streams import READ_BYTES, Pair


async def relay(paths: WorkstationPaths, port: Pair) -> None:
    """Connect clients with the guest's agent, one after the other, until cancelled."""
    loop = asyncio.get_running_loop()
    with bind_unix(paths.agent) as listener:
        listener.setblocking(False)
        try:
            while True:
                client, _ = await loop.sock_accept(listener)
                with client:
                    client.setblocking(False)
                    if peer_uid(client) == os.getuid():
                        await _connect(client, port.ours)
        finally:
            paths.agent.unlink(missing_ok=True)


async def _connect(client: socket.socket, port: socket.socket) -> None:
    """Pass bytes both ways until one side ends."""
    ways = {asyncio.create_task(_pass(*way)) for way in ((client, port), (port, client))}
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)


async def _pass(source: socket.socket, target: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    with contextlib.suppress(OSError):
        while data := await loop.sock_recv(source, READ_BYTES):
            await loop.sock_sendall(target, data)
