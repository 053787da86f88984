"""Guards: a secret goes from a page to the chip that waits for it, and lies nowhere after that.

Only the console's own page may send one, only while it is waited for, one at a time, and none
that is longer than the chip takes.
"""

import contextlib
import gc
import http.client
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from spacegray.console import unlocking
from spacegray.console.guard import cookie_name
from spacegray.console.limits import SECRET_LIMIT_BYTES
from spacegray.errors import SpacegrayError
from tests.support.console import FREE_TRIES, TRIES, FakeMachine, FakeMachines, Serving

WAIT_SECONDS = 5.0
SECRET = "a-secret-that-nothing-keeps"
PATH = "/api/workstations/pro/unlock"
PASSWORD = {"kind": "password"}


@pytest.fixture
def pro(machines: FakeMachines) -> FakeMachine:
    """Locked by a password, with a recovery key."""
    machines["pro"].lock("password", password=SECRET, recovery_key="0123")
    return machines["pro"]


@pytest.fixture
def give(owner: httpx.Client, serving: Serving) -> Callable[..., httpx.Response]:
    """Send a secret as the page does."""

    def give(secret: str | bytes, origin: str = serving.origin, **query: str) -> httpx.Response:
        body = secret.encode() if isinstance(secret, str) else secret
        headers = {"Origin": origin} if origin else {}
        return owner.post(PATH, params=query or PASSWORD, content=body, headers=headers)

    return give


@contextlib.contextmanager
def half_sent(serving: Serving, owner: httpx.Client) -> Iterator[socket.socket]:
    """A page that announces a secret, sends a half of it, and then no more."""
    cookie = cookie_name(serving.port)
    lines = [
        f"POST {PATH}?kind=password HTTP/1.1",
        f"Host: 127.0.0.1:{serving.port}",
        f"Origin: {serving.origin}",
        f"Cookie: {cookie}={owner.cookies[cookie]}",
        f"Content-Length: {len(SECRET)}",
        "",
        SECRET[: len(SECRET) // 2],
    ]
    with socket.create_connection(("127.0.0.1", serving.port), WAIT_SECONDS) as connection:
        connection.sendall("\r\n".join(lines).encode())
        yield connection


def wait_for(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_the_right_one_opens_and_comes_as_it_was_typed(give, pro: FakeMachine):
    pro.secrets["password"] = spoken = "pässword with spaces \t and 🔑 "
    answer = give(spoken)
    assert answer.status_code == 200
    assert answer.json()["right"] is True
    assert answer.json()["standing"]["needs"] == []
    assert pro.heard == [("password", "normal", spoken.encode())]
    assert pro.state == "starting"


def test_a_wrong_one_is_told_with_what_is_left(give, pro: FakeMachine):
    answer = give("wrong").json()
    assert (answer["right"], answer["code"]) == (False, "wrong")
    assert answer["standing"]["attempts"]["password"]["left"] == TRIES - 1
    assert pro.state == "locked"


def test_one_that_has_to_wait_is_told_how_long(give, pro: FakeMachine):
    pro.failures["password"] = FREE_TRIES
    answer = give(SECRET).json()
    assert (answer["right"], answer["code"]) == (False, "wait")
    assert answer["standing"]["attempts"]["password"]["wait_seconds"] == 60


@pytest.mark.parametrize(
    ("query", "heard"),
    [
        ({"kind": "password", "mode": "recovery"}, ("password", "recovery")),
        ({"kind": "recovery_key"}, ("recovery_key", "normal")),
        ({"kind": "recovery_key", "mode": "normal"}, ("recovery_key", "normal")),
    ],
)
def test_the_other_ways_in_reach_the_chip_as_such(
    give, pro: FakeMachine, query: dict[str, str], heard: tuple[str, str]
):
    assert give("0123", **query).status_code == 200
    assert pro.heard == [(*heard, b"0123")]


def test_a_passphrase_comes_first_then_the_password(give, pro: FakeMachine):
    pro.lock("passphrase", "password", passphrase="long words", password=SECRET)
    early = give(SECRET)
    assert early.status_code == 409
    assert "waits for the passphrase" in early.json()["stopped_by"]
    answer = give("long words", kind="passphrase").json()
    assert answer["right"]
    assert answer["standing"]["needs"] == ["password"]
    late = give("long words", kind="passphrase")
    assert "waits for the password" in late.json()["stopped_by"]
    assert give(SECRET).json()["standing"]["needs"] == []
    assert [kind for kind, _, _ in pro.heard] == ["passphrase", "password"]


@pytest.mark.parametrize("state", ["off", "starting", "running", "stopping", "failed"])
def test_a_machine_that_waits_for_nothing_is_given_nothing(give, pro: FakeMachine, state: str):
    pro.state = state
    answer = give(SECRET)
    assert answer.status_code == 409
    assert answer.json()["stopped_by"] == "it is not locked"
    assert pro.heard == []


@pytest.mark.parametrize("origin", ["", "null", "http://evil.example", "http://localhost:1"])
def test_only_the_page_itself_may_give_one(give, pro: FakeMachine, origin: str):
    assert give(SECRET, origin).status_code == 403
    assert pro.heard == []


def test_nobody_without_a_session_may_give_one(
    stranger: httpx.Client, serving: Serving, pro: FakeMachine
):
    origin = {"Origin": serving.origin}
    answer = stranger.post(PATH, params=PASSWORD, content=SECRET, headers=origin)
    assert answer.status_code == 401
    assert pro.heard == []


@pytest.mark.parametrize(
    "query",
    [
        {"kind": "sealing key"},
        {"mode": "normal"},
        {"kind": "password", "mode": "other"},
        {"kind": "recovery"},
    ],
    ids=str,
)
def test_only_what_a_chip_waits_for_can_be_given(give, pro: FakeMachine, query: dict[str, str]):
    assert give(SECRET, **query).status_code == 400
    assert pro.heard == []


def test_it_is_taken_by_no_other_method_and_for_no_other_machine(
    owner: httpx.Client, serving: Serving, pro: FakeMachine
):
    assert owner.get(PATH, params=PASSWORD).status_code == 405
    origin = {"Origin": serving.origin}
    nobody = PATH.replace("pro", "nobody")
    assert owner.post(nobody, params=PASSWORD, content=SECRET, headers=origin).status_code == 404
    other = owner.post(PATH.replace("pro", "lab"), params=PASSWORD, content=SECRET, headers=origin)
    assert other.json()["stopped_by"] == "it is not locked"
    assert pro.heard == []


def test_the_longest_secret_passes(give, pro: FakeMachine):
    pro.secrets["password"] = "x" * SECRET_LIMIT_BYTES
    assert give("x" * SECRET_LIMIT_BYTES).json()["right"]


def test_one_that_is_too_long_is_refused_before_the_chip(give, pro: FakeMachine):
    assert give("x" * (SECRET_LIMIT_BYTES + 1)).status_code == 413
    assert pro.heard == []


def test_one_that_does_not_say_how_long_it_is_cannot_be_longer_either(
    owner: httpx.Client, serving: Serving, pro: FakeMachine
):
    chunks = (b"x" * 256 for _ in range(SECRET_LIMIT_BYTES // 256 + 1))
    origin = {"Origin": serving.origin}
    answer = owner.post(PATH, params=PASSWORD, content=chunks, headers=origin)
    assert answer.status_code == 409
    assert "whole" in answer.json()["stopped_by"]
    assert pro.heard == []


def test_an_empty_one_costs_no_try(give, pro: FakeMachine):
    assert give("").json()["stopped_by"] == "nothing was given"
    assert pro.heard == []


def test_half_a_secret_is_given_to_nobody(
    owner: httpx.Client, serving: Serving, give, pro: FakeMachine
):
    with half_sent(serving, owner):
        pass
    # Only when the half one is over can the next be looked at.
    wait_for(lambda: give(SECRET).status_code == 200)
    assert [given for _, _, given in pro.heard] == [SECRET.encode()]


def test_one_that_never_ends_is_given_up(
    owner: httpx.Client, serving: Serving, pro: FakeMachine, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(unlocking, "SECRET_SECONDS", 0.05)
    with half_sent(serving, owner) as connection:
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        assert answer.status == 409
        assert b"whole" in answer.read()
    assert pro.heard == []


def test_one_at_a_time_for_each_machine(give, machines: FakeMachines, pro: FakeMachine):
    pro.looking = threading.Event()
    answers: list[httpx.Response] = []
    first = threading.Thread(target=lambda: answers.append(give(SECRET)))
    first.start()
    wait_for(lambda: len(pro.heard) == 1)
    second = give(SECRET)
    assert second.status_code == 409
    assert "another secret" in second.json()["stopped_by"]
    assert len(pro.heard) == 1
    pro.looking.set()
    first.join(WAIT_SECONDS)
    assert answers[0].json()["right"]


def test_another_machine_is_not_kept_waiting(
    give, owner: httpx.Client, serving: Serving, machines: FakeMachines, pro: FakeMachine
):
    pro.looking = threading.Event()
    machines["lab"].lock("password", password="its own")
    first = threading.Thread(target=give, args=(SECRET,))
    first.start()
    wait_for(lambda: len(pro.heard) == 1)
    origin = {"Origin": serving.origin}
    path = PATH.replace("pro", "lab")
    answer = owner.post(path, params=PASSWORD, content="its own", headers=origin)
    assert answer.json()["right"]
    pro.looking.set()
    first.join(WAIT_SECONDS)


def test_what_the_porter_cannot_do_is_told_in_three_parts(give, pro: FakeMachine):
    pro.refusal = SpacegrayError("asking the supervisor of pro", "it ended", "see `logs pro`")
    answer = give(SECRET)
    assert answer.status_code == 409
    assert answer.json()["next_step"] == "see `logs pro`"
    pro.refusal = None
    assert give(SECRET).json()["right"], "and the next try is taken"


def open_pipes() -> int:
    count = 0
    for link in Path("/proc/self/fd").iterdir():
        # One that the server has just closed, or the one that lists them.
        with contextlib.suppress(FileNotFoundError):
            count += "pipe:" in str(link.readlink())
    return count


def test_no_descriptor_of_a_secret_stays_open(give, pro: FakeMachine):
    give("wrong")
    before = open_pipes()
    give("wrong")
    give("")
    pro.refusal = SpacegrayError("unlocking pro", "it ended", "try again")
    give(SECRET)
    gc.collect()
    assert open_pipes() == before


@pytest.mark.parametrize("fault", [None, RuntimeError("a fault of ours"), OSError("another")])
def test_nothing_of_it_is_logged_whatever_happens(
    give,
    pro: FakeMachine,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    fault: Exception | None,
):
    """Not even by loggers that were told to say all they can (below DEBUG is uvicorn's trace)."""
    if fault is not None:

        def broken(*_: Any) -> dict[str, Any]:
            raise fault

        monkeypatch.setattr(pro, "unlock", broken)
    for name in ("", "uvicorn", "uvicorn.error", "uvicorn.asgi", "asyncio", "spacegray"):
        caplog.set_level(1, name)
    answer = give(SECRET)
    assert answer.status_code == (200 if fault is None else 500)
    assert SECRET not in answer.text
    told = capfd.readouterr()
    for text in (caplog.text, told.out, told.err):
        assert SECRET not in text
    assert fault is None or "a fault of ours" in caplog.text or "another" in caplog.text


@pytest.mark.parametrize("kind", ["password", "recovery_key", "passphrase"])
def test_a_firmware_password_is_another_thing(give, pro: FakeMachine, kind: str):
    pro.lock("firmware_password", firmware_password=SECRET)
    refused = give(SECRET, kind=kind)
    assert refused.status_code != 200
    assert "firmware password" in refused.text
    assert pro.heard == []
    assert give(SECRET, kind="firmware_password").json()["right"] is True
    assert pro.state == "starting"
