"""Guards: the routes: opening, listing, showing, acting, and watching live."""

import json
import time

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin

from spacegray.console.app import NO_SCREEN, NO_SUCH_WORKSTATION
from spacegray.console.guard import cookie_name
from spacegray.errors import SpacegrayError
from tests.support.console import FakeMachines, Serving

WAIT_SECONDS = 5.0


def watch(serving: Serving, owner: httpx.Client, path: str) -> ClientConnection:
    name = cookie_name(serving.port)
    return connect(
        f"ws://127.0.0.1:{serving.port}/api/workstations/{path}",
        origin=Origin(serving.origin),
        additional_headers={"Cookie": f"{name}={owner.cookies[name]}"},
    )


def until(websocket: ClientConnection, wanted: dict[str, object]) -> dict[str, object]:
    """The next message that has all of `wanted`."""
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        event = json.loads(websocket.recv(timeout=deadline - time.monotonic()))
        if wanted.items() <= event.items():
            found: dict[str, object] = event
            return found


def test_opening_gives_a_session_that_scripts_cannot_read(stranger: httpx.Client, serving: Serving):
    answer = stranger.get(serving.address("pro"))
    assert answer.status_code == 200
    assert "url=/#/pro" in answer.text
    attributes = {word.strip().lower() for word in answer.headers["Set-Cookie"].split(";")}
    assert {"httponly", "samesite=strict", "path=/"} <= attributes
    assert not any(attribute.startswith("domain") for attribute in attributes)


@pytest.mark.parametrize("name", ["//evil.example", "PRO", "a b", 'x">'])
def test_opening_leads_nowhere_else(stranger: httpx.Client, serving: Serving, name: str):
    token = serving.doors.issue()
    answer = stranger.get("/open", params={"token": token, "workstation": name})
    assert 'content="0;url=/"' in answer.text
    assert name not in answer.text


def test_an_address_opens_once(stranger: httpx.Client, serving: Serving):
    address = serving.address()
    assert stranger.get(address).status_code == 200
    stranger.cookies.clear()
    again = stranger.get(address)
    assert again.status_code == 401
    assert "spacegray open" in again.text
    assert "Set-Cookie" not in again.headers
    assert stranger.get("/").status_code == 401


def test_listing_and_showing(owner: httpx.Client, machines: FakeMachines):
    listed = owner.get("/api/workstations").json()["workstations"]
    assert [(each["name"], each["state"]) for each in listed] == [("lab", "off"), ("pro", "off")]
    assert owner.get("/api/workstations/pro").json()["ecid"] == machines["pro"].show()["ecid"]


def test_an_unknown_name_is_an_error_in_three_parts(owner: httpx.Client, serving: Serving):
    answer = owner.get("/api/workstations/nobody")
    assert answer.status_code == 404
    assert set(answer.json()) == {"doing", "stopped_by", "next_step"}
    origin = {"Origin": serving.origin}
    assert owner.post("/api/workstations/nobody/start", headers=origin).status_code == 404
    assert owner.post("/api/workstations/pro/delete", headers=origin).status_code == 404
    assert owner.get("/api/workstations/pro/start").status_code == 405


def test_folders_are_not_listed(owner: httpx.Client):
    for path in ("/page", "/page/", "/page/..%2fapp.py", "/page/../app.py"):
        assert owner.get(path).status_code in (307, 404), path


def test_a_status_is_sent_at_once_and_then_on_every_change(
    owner: httpx.Client, serving: Serving, machines: FakeMachines
):
    pro = machines["pro"]
    with watch(serving, owner, "pro/events") as websocket:
        until(websocket, {"kind": "status", "state": "off"})
        pro.power_on()
        until(websocket, {"state": "starting", "links": []})
        pro.light("chip")
        seen = until(websocket, {"state": "starting"})
        assert [link["link"] for link in seen["links"]] == ["chip"]  # type: ignore[attr-defined]
        pro.fail("firmware", "expected a, found b")
        until(websocket, {"state": "failed", "link": "firmware"})


def test_notes_and_progress_are_passed_on(
    owner: httpx.Client, serving: Serving, machines: FakeMachines
):
    machines["pro"].tell("note", text="before")
    with watch(serving, owner, "pro/events") as websocket:
        until(websocket, {"kind": "note", "text": "before"})
        machines["pro"].tell("progress", label="restoring", done=1, total=2)
        until(websocket, {"kind": "progress", "label": "restoring"})


def test_what_came_of_an_errand_reaches_every_page(
    owner: httpx.Client, serving: Serving, machines: FakeMachines
):
    machines["pro"].refusal = SpacegrayError("starting pro", "the disk is in use", "end that")
    with watch(serving, owner, "pro/events") as one, watch(serving, owner, "pro/events") as two:
        path = "/api/workstations/pro/start"
        assert owner.post(path, headers={"Origin": serving.origin}).status_code == 202
        error = {
            "doing": "starting pro",
            "stopped_by": "the disk is in use",
            "next_step": "end that",
        }
        for websocket in (one, two):
            until(websocket, {"errand": {"verb": "start", "done": True, "error": error}})


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("nobody/events", NO_SUCH_WORKSTATION),
        ("nobody/screen", NO_SUCH_WORKSTATION),
        ("pro/screen", NO_SCREEN),
    ],
)
def test_a_socket_that_cannot_be_served_says_why(
    owner: httpx.Client, serving: Serving, path: str, code: int
):
    with watch(serving, owner, path) as websocket:
        with pytest.raises(ConnectionClosed) as closed:
            websocket.recv(timeout=WAIT_SECONDS)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == code
        assert closed.value.rcvd.reason


def test_a_page_that_leaves_is_no_longer_counted(owner: httpx.Client, serving: Serving):
    with watch(serving, owner, "pro/events") as websocket:
        until(websocket, {"kind": "status"})
        assert serving.console.guard.websockets == 1
    deadline = time.monotonic() + WAIT_SECONDS
    while serving.console.guard.websockets:
        assert time.monotonic() < deadline
        time.sleep(0.01)
