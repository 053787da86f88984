"""The gate in front of every route: nothing behind it runs for a stranger.

Trusts nothing of a request. In order: the Host header must be ours (against DNS rebinding),
whatever changes state and every WebSocket must come from our own page (Origin), the body must
be small, and the session must be alive and its user's own. Every answer carries headers that
forbid other pages to frame, read or script this one.
"""

from collections.abc import Awaitable, Callable

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from spacegray.console.doors import Doors
from spacegray.console.limits import BODY_LIMIT_BYTES, WEBSOCKET_LIMIT
from spacegray.console.peer import loopback_uid

HOW_TO_OPEN = "this console opens with a one-time address; get one with: spacegray open\n"
OPEN_PATH = "/open"
POLICY_VIOLATION = 1008
"""RFC 6455, 7.4.1."""
_SAFE_METHODS = ("GET", "HEAD")

PeerUid = Callable[[tuple[str, int], tuple[str, int]], int | None]


class Guard:
    """ASGI middleware; `port` is the one the console listens on."""

    def __init__(
        self, app: ASGIApp, *, doors: Doors, port: int, peer_uid: PeerUid = loopback_uid
    ) -> None:
        self._app = app
        self._doors = doors
        self._peer_uid = peer_uid
        self._cookie = cookie_name(port)
        self._security_headers = security_headers(port)
        self._hosts = {f"{host}:{port}" for host in ("127.0.0.1", "localhost", "[::1]")}
        self.websockets = 0
        """How many WebSockets are open now."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it here."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        scope["state"]["uid"] = self._uid(scope)
        if scope["type"] == "websocket":
            refusal = self._refusal(scope, headers)
            if refusal is None and self.websockets >= WEBSOCKET_LIMIT:
                refusal = PlainTextResponse("too many connections; close other tabs\n", 503)
            if refusal is not None:
                await _deny(scope, receive, _protected(send, self._security_headers), refusal)
                return
            self.websockets += 1
            try:
                await self._app(scope, receive, send)
            finally:
                self.websockets -= 1
            return
        answer = _protected(send, self._security_headers)
        if (refusal := self._refusal(scope, headers)) is not None:
            await refusal(scope, receive, answer)
            return
        await self._app(scope, _bounded(receive), answer)

    def _refusal(self, scope: Scope, headers: Headers) -> PlainTextResponse | None:
        host = headers.get("host", "")
        if host not in self._hosts or len(headers.getlist("host")) != 1:
            return PlainTextResponse("this console answers on 127.0.0.1 and localhost only\n", 421)
        changes = scope["type"] == "websocket" or scope["method"] not in _SAFE_METHODS
        if changes and headers.getlist("origin") != [f"http://{host}"]:
            return PlainTextResponse("only the console's own page may ask for this\n", 403)
        if _announced_length(headers) > BODY_LIMIT_BYTES:
            return PlainTextResponse("the request is too long\n", 413)
        if scope["path"] == OPEN_PATH and not changes:
            return None
        if not self._doors.admits(self._session(headers), scope["state"]["uid"]):
            return PlainTextResponse(HOW_TO_OPEN, 401)
        return None

    def _session(self, headers: Headers) -> str:
        return cookie_parser(headers.get("cookie", "")).get(self._cookie, "")

    def _uid(self, scope: Scope) -> int | None:
        scope.setdefault("state", {})
        client, server = scope.get("client"), scope.get("server")
        if client is None or server is None:
            return None
        return self._peer_uid((client[0], client[1]), (server[0], server[1]))


def cookie_name(port: int) -> str:
    """The session cookie's name: consoles on other ports share the browser's cookie jar."""
    return f"spacegray-{port}"


def _announced_length(headers: Headers) -> int:
    try:
        return int(headers.get("content-length", "0"))
    except ValueError:
        return BODY_LIMIT_BYTES + 1


def _bounded(receive: Receive) -> Receive:
    """Whatever the sender announced: a longer body is cut off like a lost connection."""
    left = BODY_LIMIT_BYTES

    async def bounded() -> Message:
        nonlocal left
        message = await receive()
        left -= len(message.get("body", b""))
        return message if left >= 0 else {"type": "http.disconnect"}

    return bounded


def _protected(send: Send, headers: dict[str, str]) -> Callable[[Message], Awaitable[None]]:
    async def answer(message: Message) -> None:
        if message["type"].endswith("http.response.start"):
            MutableHeaders(scope=message).update(headers)
        await send(message)

    return answer


def security_headers(port: int) -> dict[str, str]:
    """The headers of every answer."""
    policy = {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self' data:",
        # Some browsers do not count WebSockets of the same host as 'self'.
        "connect-src": f"'self' ws://127.0.0.1:{port} ws://localhost:{port}",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    return {
        "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in policy.items()),
        "X-Frame-Options": "DENY",
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
        "Cache-Control": "no-store",
    }


async def _deny(scope: Scope, receive: Receive, send: Send, refusal: PlainTextResponse) -> None:
    """Refuse a WebSocket before it is one, with the status where the server can send it."""
    if "websocket.http.response" in (scope.get("extensions") or {}):
        await refusal(scope, receive, send)
    else:
        await send({"type": "websocket.close", "code": POLICY_VIOLATION})
