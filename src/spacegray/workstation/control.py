"""The supervisor's control socket: how the faces ask it for something.

One JSON object each way, over a private unix socket; either may bring a descriptor. What they want
to know they read from the state file and the event log instead.
"""

import asyncio
import json
import os
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from spacegray.errors import SpacegrayError
from spacegray.paths import WorkstationPaths
from spacegray.sockets import (
    PeerError,
    bind_unix,
    close_all,
    connect_unix,
    peer_uid,
    receive_message,
    send_message,
)

REQUEST_SECONDS = 2.0
"""How long a client may take to send its request."""
ANSWER_SECONDS = 10.0
REQUEST_DESCRIPTOR_LIMIT = 1

Reply = tuple[dict[str, Any], list[int]]
"""An answer and the descriptors that go with it, closed here once they are sent."""
Handler = Callable[[dict[str, Any], Sequence[int]], Awaitable[Reply]]
"""Gets a request and the descriptors that came with it, which stay the server's to close."""


class ControlServer:
    """Serves requests on the event loop; a broken client harms only itself."""

    def __init__(self, paths: WorkstationPaths, handler: Handler) -> None:
        self._handler = handler
        self._listener = bind_unix(paths.control)
        self._listener.setblocking(False)
        self._tasks: set[asyncio.Task[None]] = set()
        asyncio.get_running_loop().add_reader(self._listener.fileno(), self._accept)

    def close(self) -> None:
        """Stop serving."""
        asyncio.get_running_loop().remove_reader(self._listener.fileno())
        self._listener.close()

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return
        if peer_uid(connection) != os.getuid():
            connection.close()
            return
        task = asyncio.get_running_loop().create_task(self._serve(connection))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, connection: socket.socket) -> None:
        with connection:
            connection.settimeout(REQUEST_SECONDS)
            given: list[int] = []
            try:
                message = await asyncio.to_thread(receive_message, connection)
                if message is None:
                    return
                payload, given = message
                request = json.loads(payload)
                if not isinstance(request, dict) or len(given) > REQUEST_DESCRIPTOR_LIMIT:
                    raise PeerError("a request is an object, and at most one descriptor")
                answer, descriptors = await self._handler(request, given)
            except SpacegrayError as error:
                answer, descriptors = {"ok": False, "error": _parts(error)}, []
            except (OSError, PeerError, ValueError):
                return
            finally:
                close_all(given)
            try:
                send_message(connection, json.dumps(answer).encode(), descriptors)
            except (OSError, PeerError):
                pass
            finally:
                close_all(descriptors)


def ask(
    paths: WorkstationPaths,
    request: dict[str, Any],
    descriptors: Sequence[int] = (),
    *,
    timeout_seconds: float = ANSWER_SECONDS,
) -> tuple[dict[str, Any], list[int]]:
    """Ask the supervisor; returns its answer and the descriptors that came with it.

    Raises SpacegrayError when it is not there or says no.
    """
    doing = f"asking the supervisor of {paths.name}"
    try:
        with connect_unix(paths.control, timeout_seconds=timeout_seconds) as connection:
            send_message(connection, json.dumps(request).encode(), descriptors)
            message = receive_message(connection)
    except (OSError, PeerError) as error:
        raise SpacegrayError(doing, error, f"see `show {paths.name}`") from None
    if message is None:
        raise SpacegrayError(doing, "it ended", f"see `logs {paths.name}`")
    answer, received = json.loads(message[0]), message[1]
    if not answer.get("ok"):
        close_all(received)
        *parts, link = answer["error"]
        raise SpacegrayError(*parts, link=link)
    return answer, received


def _parts(error: SpacegrayError) -> list[str | None]:
    return [error.doing, error.stopped_by, error.next_step, error.link]
