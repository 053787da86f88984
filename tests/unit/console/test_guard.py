"""Guards: strangers, other pages, other hosts' names and other users are kept out."""

import http.client
import os

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Origin

from spacegray.console.guard import cookie_name
from spacegray.console.limits import BODY_LIMIT_BYTES, WEBSOCKET_LIMIT
from tests.support.console import FakeMachines, Serving

PATHS = (
    "/",
    "/order",
    "/service",
    "/timeline",
    "/page/console.js",
    "/api/catalog/quote?date=2017-12-14",
    "/api/catalog/spec.toml?date=2017-12-14",
    "/api/service/plans/memory",
    "/api/workstations",
    "/api/workstations/pro",
    "/api/workstations/pro/service",
    "/nowhere",
)


def cookie(serving: Serving, owner: httpx.Client) -> dict[str, str]:
    name = cookie_name(serving.port)
    return {"Cookie": f"{name}={owner.cookies[name]}"}


def events(serving: Serving, headers: dict[str, str], origin: str | None) -> int:
    """The HTTP status with which a WebSocket is answered."""
    url = f"ws://127.0.0.1:{serving.port}/api/workstations/pro/events"
    said = None if origin is None else Origin(origin)
    try:
        with connect(url, origin=said, additional_headers=headers) as websocket:
            websocket.recv(timeout=5)
            return 101
    except InvalidStatus as refusal:
        return refusal.response.status_code


@pytest.mark.parametrize("path", PATHS)
def test_a_stranger_is_told_how_to_open(stranger: httpx.Client, path: str):
    answer = stranger.get(path)
    assert answer.status_code == 401
    assert "spacegray open" in answer.text
    assert len(answer.text.splitlines()) == 1


def test_a_stranger_can_do_nothing(
    stranger: httpx.Client, serving: Serving, machines: FakeMachines
):
    origin = {"Origin": serving.origin}
    assert stranger.post("/api/workstations/pro/start", headers=origin).status_code == 401
    assert events(serving, {}, serving.origin) == 401
    assert machines["pro"].acts == []


@pytest.mark.parametrize("path", [*PATHS, "/open?token=x"])
@pytest.mark.parametrize("host", ["evil.example", "evil.example:{port}", "127.0.0.1", ""])
def test_another_hosts_name_is_refused(owner: httpx.Client, serving: Serving, path: str, host: str):
    answer = owner.get(path, headers={"Host": host.format(port=serving.port)})
    assert answer.status_code in (400, 421)


def test_the_names_of_loopback_are_ours(owner: httpx.Client, serving: Serving):
    for host in ("localhost", "[::1]", "127.0.0.1"):
        answer = owner.get("/api/workstations", headers={"Host": f"{host}:{serving.port}"})
        assert answer.status_code == 200


@pytest.mark.parametrize(
    "origin",
    [None, "null", "http://evil.example", "http://127.0.0.1:1", "https://127.0.0.1:{port}"],
)
def test_another_page_can_do_nothing(
    owner: httpx.Client, serving: Serving, machines: FakeMachines, origin: str | None
):
    claimed = origin.format(port=serving.port) if origin else None
    headers = {"Origin": claimed} if claimed else {}
    assert owner.post("/api/workstations/pro/start", headers=headers).status_code == 403
    assert events(serving, cookie(serving, owner), claimed) == 403
    assert machines["pro"].acts == []
    # The control: with our own origin both are let in.
    assert (
        owner.post("/api/workstations/pro/start", headers={"Origin": serving.origin}).status_code
        == 202
    )
    assert events(serving, cookie(serving, owner), serving.origin) == 101


def test_another_user_with_the_cookie_is_a_stranger(machines: FakeMachines):
    """A browser shows the cookie to every server on this host; it must be of no use there."""
    uid = os.getuid()
    serving = Serving(machines, peer_uid=lambda client, server: uid)
    try:
        with httpx.Client(base_url=serving.origin) as client:
            client.get(serving.address())
            assert client.get("/api/workstations").status_code == 200
            uid += 1
            assert client.get("/api/workstations").status_code == 401
    finally:
        serving.close()


@pytest.mark.parametrize("uid", [os.getuid() + 1, None])
def test_another_user_with_the_address_gets_no_session(machines: FakeMachines, uid: int | None):
    """A browser's arguments hold the address, and other users can read them."""
    serving = Serving(machines, peer_uid=lambda client, server: uid)
    try:
        answer = httpx.get(serving.address())
        assert answer.status_code == 403
        assert "Set-Cookie" not in answer.headers
    finally:
        serving.close()


def test_every_answer_forbids_what_other_pages_might_try(
    owner: httpx.Client, stranger: httpx.Client, serving: Serving
):
    for answer in (
        *(client.get(path) for client in (owner, stranger) for path in PATHS),
        stranger.get("/open?token=x"),
        owner.post("/api/workstations/pro/start"),
        owner.get("/", headers={"Host": "evil.example"}),
    ):
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self';" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert "evil" not in policy
        assert answer.headers["X-Frame-Options"] == "DENY"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert "Access-Control-Allow-Origin" not in answer.headers


def test_a_long_body_is_refused(owner: httpx.Client, serving: Serving):
    answer = owner.post(
        "/api/workstations/pro/start",
        headers={"Origin": serving.origin},
        content=b"x" * (BODY_LIMIT_BYTES + 1),
    )
    assert answer.status_code == 413


def test_a_length_that_is_no_number_is_refused(serving: Serving):
    connection = http.client.HTTPConnection("127.0.0.1", serving.port)
    connection.putrequest("GET", "/")
    connection.putheader("Content-Length", "-x")
    connection.endheaders()
    assert connection.getresponse().status in (400, 413)


def test_websockets_are_bounded(owner: httpx.Client, serving: Serving):
    headers = cookie(serving, owner)
    serving.console.guard.websockets = WEBSOCKET_LIMIT
    assert events(serving, headers, serving.origin) == 503
    serving.console.guard.websockets = WEBSOCKET_LIMIT - 1
    assert events(serving, headers, serving.origin) == 101
