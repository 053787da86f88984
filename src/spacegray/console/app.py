"""The web application: its routes, and what each answers.

Everything here runs behind `guard`; handlers may assume a session. Whatever blocks runs in a
worker thread.
"""

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import (
    FileResponse,
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    Response,
)
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocket, WebSocketDisconnect

from spacegray.console import product, screen
from spacegray.console.doors import Doors
from spacegray.console.errands import Errands, describe
from spacegray.console.follow import Tail
from spacegray.console.guard import OPEN_PATH, Guard, PeerUid, cookie_name
from spacegray.console.limits import SESSION_SECONDS, STATUS_POLL_SECONDS, TOKEN_SECONDS
from spacegray.console.machines import VERBS, Machine, Machines
from spacegray.console.peer import loopback_uid
from spacegray.console.unlocking import Unlocking
from spacegray.errors import SpacegrayError, UsageError
from spacegray.paths import NAME_PATTERN
from spacegray.workstation.unlock import KINDS, MODES

PAGE = Path(__file__).parent / "page"
"""What web/ was built into."""
PAGES = {
    "/": "index.html",
    "/order": "order.html",
    "/service": "service.html",
    "/timeline": "timeline.html",
}
"""The pages by their addresses. Workstations are named in fragments and below /api, so that one may
have the name of a page."""
FORWARDED_KINDS = ("note", "progress")
"""Events a browser gets as they are; all else is in the status, which is never stale."""
NO_SUCH_WORKSTATION = 4404
NO_SCREEN = 4409
"""Close codes of our own (RFC 6455, 7.4.2)."""


_ONWARDS = """\
<!doctype html>
<meta http-equiv="refresh" content="0;url={0}">
<link rel="icon" href="data:,">
<title>Spacegray</title>
<a href="{0}">Continue</a>
"""
"""Not a redirect: had another page led here, a browser would withhold the new cookie from it."""


class Console:
    """The application's handlers and what they share."""

    def __init__(
        self,
        machines: Machines,
        doors: Doors,
        *,
        port: int,
        page: Path = PAGE,
        peer_uid: PeerUid = loopback_uid,
    ) -> None:
        # An address is handed to a browser as an argument, which other users can read. It opens
        # nothing for them. Root needs no address to get in.
        self._uids = (os.getuid(), 0)
        self._machines = machines
        self._doors = doors
        self._port = port
        self._page = page
        self.errands = Errands()
        self._unlocking = Unlocking()
        routes = [
            Route(OPEN_PATH, self._open, methods=["GET"]),
            *(
                Route(address, self._page_of(file), methods=["GET"])
                for address, file in PAGES.items()
            ),
            Mount("/page", StaticFiles(directory=page, check_dir=False)),
            Route("/api/workstations", self._list, methods=["GET"]),
            Route("/api/workstations/{name}", self._show, methods=["GET"]),
            Route("/api/workstations/{name}/service", self._service, methods=["GET"]),
            Route("/api/workstations/{name}/unlock", self._unlock, methods=["POST"]),
            Route("/api/workstations/{name}/{verb}", self._act, methods=["POST"]),
            WebSocketRoute("/api/workstations/{name}/events", self._events),
            WebSocketRoute("/api/workstations/{name}/screen", self._screen),
            *product.routes(),
        ]
        handlers = {SpacegrayError: _refused, HTTPException: _plain}
        application = Starlette(routes=routes, exception_handlers=handlers)
        self.guard = Guard(application, doors=doors, port=port, peer_uid=peer_uid)

    async def _open(self, request: Request) -> Response:
        if request.state.uid not in self._uids:
            return PlainTextResponse("this console is another user's; open it as that user\n", 403)
        key = self._doors.redeem(request.query_params.get("token", ""), request.state.uid)
        if key is None:
            return PlainTextResponse(
                f"this address was used already or is older than {TOKEN_SECONDS:.0f} seconds; "
                "get a new one with: spacegray open\n",
                401,
            )
        name = request.query_params.get("workstation", "")
        answer = HTMLResponse(
            _ONWARDS.format(f"/#/{name}" if NAME_PATTERN.fullmatch(name) else "/")
        )
        answer.set_cookie(
            cookie_name(self._port),
            key,
            max_age=int(SESSION_SECONDS),
            path="/",
            httponly=True,
            samesite="strict",
        )
        return answer

    def _page_of(self, file: str) -> Callable[[Request], Awaitable[Response]]:
        """The handler of one page, which is the file of that name."""
        path = self._page / file

        async def page(_: Request) -> Response:
            if not path.is_file():
                text = "the page has not been built; run the set-up again\n"
                return PlainTextResponse(text, 503)
            return FileResponse(path)

        return page

    async def _list(self, _: Request) -> Response:
        def every() -> list[dict[str, Any]]:
            found = []
            for name in self._machines.names():
                # One may be deleted while they are listed.
                with contextlib.suppress(SpacegrayError):
                    found.append({"name": name, **self._machines.find(name).status()})
            return found

        return JSONResponse({"workstations": await run_in_threadpool(every)})

    async def _show(self, request: Request) -> Response:
        name = request.path_params["name"]
        return JSONResponse(await run_in_threadpool(lambda: self._machines.find(name).show()))

    async def _service(self, request: Request) -> Response:
        """The service record, verified; the chip is asked, so that takes a moment."""
        name = request.path_params["name"]
        return JSONResponse(await run_in_threadpool(lambda: self._machines.find(name).service()))

    async def _act(self, request: Request) -> Response:
        name, asked = request.path_params["name"], request.path_params["verb"]
        verb = next((verb for verb in VERBS if verb == asked), None)
        if verb is None:
            raise HTTPException(404, "there is nothing here\n")
        self.errands.begin(await run_in_threadpool(self._machines.find, name), verb)
        return JSONResponse({}, 202)

    async def _unlock(self, request: Request) -> Response:
        """The body is the secret itself: no object is made of it, not even to decode it."""
        asked = request.query_params
        kind = next((kind for kind in KINDS if kind == asked.get("kind")), None)
        mode = asked.get("mode", MODES[0])
        if kind is None or mode not in MODES:
            raise HTTPException(400)
        machine = await run_in_threadpool(self._machines.find, request.path_params["name"])
        answer = await self._unlocking.give(machine, kind, mode, request.stream())
        return JSONResponse(answer)

    async def _events(self, websocket: WebSocket) -> None:
        machine = await self._accept(websocket)
        if machine is None:
            return
        watching = asyncio.create_task(self._watch(machine, websocket))
        try:
            # A page sends nothing here; what is awaited is its end.
            while (await websocket.receive())["type"] != "websocket.disconnect":
                pass
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    async def _watch(self, machine: Machine, websocket: WebSocket) -> None:
        """Send the status whenever it is another, and notes and progress as they come."""
        tail = Tail(machine.events_path)
        sent: dict[str, Any] | None = None
        with contextlib.suppress(OSError, RuntimeError, WebSocketDisconnect):
            while True:
                try:
                    status = await run_in_threadpool(machine.status)
                except SpacegrayError as error:
                    await websocket.close(NO_SUCH_WORKSTATION, _close_reason(error))
                    return
                status = {"kind": "status", **status, "errand": self.errands.latest(machine.name)}
                if status != sent:
                    await websocket.send_json(status)
                    sent = status
                for event in await run_in_threadpool(tail.read):
                    if event["kind"] in FORWARDED_KINDS:
                        await websocket.send_json(event)
                await asyncio.sleep(STATUS_POLL_SECONDS)

    async def _screen(self, websocket: WebSocket) -> None:
        machine = await self._accept(websocket)
        if machine is None:
            return
        try:
            connection = await run_in_threadpool(machine.screen_socket)
        except SpacegrayError as error:
            await websocket.close(NO_SCREEN, _close_reason(error))
            return
        await screen.bridge(websocket, connection)

    async def _accept(self, websocket: WebSocket) -> Machine | None:
        """Accept, then find the workstation: a page can read the reason of a close only then."""
        await websocket.accept()
        try:
            return await run_in_threadpool(self._machines.find, websocket.path_params["name"])
        except SpacegrayError as error:
            await websocket.close(NO_SUCH_WORKSTATION, _close_reason(error))
            return None


CLOSE_REASON_LIMIT_BYTES = 123
"""RFC 6455, 5.5: a control frame holds 125 bytes, two of them the code."""


def _close_reason(error: SpacegrayError) -> str:
    return error.stopped_by.encode()[:CLOSE_REASON_LIMIT_BYTES].decode(errors="ignore")


async def _refused(_: Request, error: Exception) -> Response:
    if not isinstance(error, SpacegrayError):
        raise error
    return JSONResponse(describe(error), 404 if isinstance(error, UsageError) else 409)


async def _plain(_: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    text = "not found\n" if status == 404 else "the console cannot do that\n"
    return PlainTextResponse(text, status)
