"""How the owner's own programs speak to the running console: a unix socket in the run folder.

Only its owner can open it (0600, and the peer's user is checked), which is what makes a
one-time address safe to hand out here. Operations: `open` {workstation?} -> {url},
`quit` {} -> {}.
"""

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from spacegray.console.limits import KNOCK_SECONDS
from spacegray.paths import Paths
from spacegray.sockets import (
    PeerError,
    bind_unix,
    close_all,
    connect_unix,
    peer_uid,
    receive_message,
    send_message,
)

Answer = Callable[[dict[str, Any]], dict[str, Any]]


def socket_path(paths: Paths) -> Path:
    """Where the console listens; a dot is in no workstation's name, so none is in the way."""
    return paths.run / "console.socket"


class KnockServer:
    """Serves one request after another on the event loop, each in a worker thread."""

    def __init__(self, paths: Paths, answer: Answer, end: Callable[[], None]) -> None:
        self._answer = answer
        self._end = end
        self._listener = bind_unix(socket_path(paths))
        self._listener.setblocking(False)

    async def serve(self) -> None:
        """Serve until cancelled."""
        loop = asyncio.get_running_loop()
        with self._listener:
            while True:
                connection, _ = await loop.sock_accept(self._listener)
                with connection, contextlib.suppress(OSError, PeerError, ValueError):
                    connection.settimeout(KNOCK_SECONDS)
                    await asyncio.to_thread(self._serve_one, connection)

    def _serve_one(self, connection: socket.socket) -> None:
        if peer_uid(connection) != os.getuid():
            return
        message = receive_message(connection)
        if message is None:
            return
        close_all(message[1])
        request = json.loads(message[0])
        if not isinstance(request, dict):
            raise PeerError("a request is an object")
        try:
            send_message(connection, json.dumps(self._answer(request)).encode())
        finally:
            # Not before, or the answer might not get out; but also if nobody waits for it.
            if request.get("op") == "quit":
                self._end()


def knock(paths: Paths, request: dict[str, Any]) -> dict[str, Any] | None:
    """Ask the running console; None where none answers."""
    try:
        with connect_unix(socket_path(paths), timeout_seconds=KNOCK_SECONDS) as connection:
            send_message(connection, json.dumps(request).encode())
            message = receive_message(connection)
    except (OSError, PeerError):
        return None
    if message is None:
        return None
    close_all(message[1])
    answer = json.loads(message[0])
    return answer if isinstance(answer, dict) else None
