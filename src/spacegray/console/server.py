"""The console's process: its port, its web server, its unix socket, and its end."""

import asyncio
import contextlib
import errno
import logging
import os
import socket
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import uvicorn

from spacegray.console.app import Console
from spacegray.console.doors import Doors
from spacegray.console.guard import PeerUid
from spacegray.console.idle import Idleness
from spacegray.console.knock import KnockServer
from spacegray.console.limits import (
    CONNECTION_LIMIT,
    FIRST_PORT,
    HEADER_LIMIT_BYTES,
    IDLE_POLL_SECONDS,
    IDLE_SECONDS,
    PING_SECONDS,
    PORT_TRIES,
    SHUTDOWN_SECONDS,
    WEBSOCKET_MESSAGE_LIMIT_BYTES,
)
from spacegray.console.machines import Machines
from spacegray.console.peer import can_tell, loopback_uid
from spacegray.errors import SpacegrayError
from spacegray.paths import Paths

HOST = "127.0.0.1"
log = logging.getLogger(__name__)


def listen(first: int = FIRST_PORT) -> socket.socket:
    """A socket bound to `first`, or to the next free port after it, on loopback.

    Raises SpacegrayError when all of PORT_TRIES are taken.
    """
    for port in range(first, first + PORT_TRIES):
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, port))
            # With SO_REUSEADDR a taken port may show only now.
            listener.listen(CONNECTION_LIMIT)
        except OSError as error:
            listener.close()
            if error.errno != errno.EADDRINUSE:
                raise
            continue
        return listener
    raise SpacegrayError(
        "opening the console",
        f"the ports {first} to {first + PORT_TRIES - 1} on {HOST} are all in use",
        "end a program that uses one of them",
    )


def _peer_uid() -> PeerUid:
    """How users are told apart; where the kernel does not say, all count as our own."""
    if can_tell():
        return loopback_uid
    log.warning("this host does not tell who connects: other users are kept out by tokens only")
    own = os.getuid()
    return lambda client, server: own


class Server:
    """One console; `run` returns when it has ended."""

    def __init__(self, machines: Machines, paths: Paths, listener: socket.socket) -> None:
        self._listener = listener
        self._port: int = listener.getsockname()[1]
        self._doors = Doors()
        self._console = Console(machines, self._doors, port=self._port, peer_uid=_peer_uid())
        self._idleness = Idleness(machines, self._watched)
        self._knocks = KnockServer(paths, self._answer, self._end)
        self._uvicorn = uvicorn.Server(
            uvicorn.Config(
                self._console.guard,
                http="h11",
                ws="websockets-sansio",
                ws_max_size=WEBSOCKET_MESSAGE_LIMIT_BYTES,
                ws_ping_interval=PING_SECONDS,
                ws_ping_timeout=PING_SECONDS,
                # The screen is compressed already, and loopback is not narrow.
                ws_per_message_deflate=False,
                lifespan="off",
                # An access log would hold the addresses, and with them the tokens.
                access_log=False,
                log_config=None,
                proxy_headers=False,
                server_header=False,
                limit_concurrency=CONNECTION_LIMIT,
                h11_max_incomplete_event_size=HEADER_LIMIT_BYTES,
                timeout_graceful_shutdown=SHUTDOWN_SECONDS,
            )
        )

    def run(self, *, idle_exit: bool, on_ready: Callable[[], None]) -> None:
        """Serve until told to quit, by a signal or, with `idle_exit`, by idleness."""
        asyncio.run(self._run(idle_exit, on_ready))

    async def _run(self, idle_exit: bool, on_ready: Callable[[], None]) -> None:
        log.info("listening on %s:%d", HOST, self._port)
        tasks = [asyncio.create_task(self._knocks.serve())]
        if idle_exit:
            tasks.append(asyncio.create_task(self._end_when_idle()))
        on_ready()
        try:
            await self._uvicorn.serve([self._listener])
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        log.info("ended")

    async def _end_when_idle(self) -> None:
        while not await asyncio.to_thread(self._idleness.over):
            await asyncio.sleep(IDLE_POLL_SECONDS)
        log.info("nobody has needed the console for %.0f seconds", IDLE_SECONDS)
        self._end()

    def _end(self) -> None:
        self._uvicorn.should_exit = True

    def _watched(self) -> bool:
        console = self._console
        return console.guard.websockets > 0 or console.errands.busy() or self._doors.expecting()

    def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """What a knock gets; see `knock`."""
        match request.get("op"):
            case "open" if self._uvicorn.should_exit:
                return {"error": "ending"}
            case "open":
                query = {"token": self._doors.issue()}
                with contextlib.suppress(KeyError):
                    query["workstation"] = str(request["workstation"])
                return {"url": f"http://{HOST}:{self._port}/open?{urlencode(query)}"}
            case "quit":
                return {}
            case _:
                return {"error": "unknown"}
