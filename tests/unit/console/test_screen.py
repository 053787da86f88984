"""Guards: the screen's bytes arrive unchanged both ways, and either end ends both."""

import contextlib
import os
import socket
from collections.abc import Iterator

import httpx
import pytest
from websockets.exceptions import ConnectionClosed

from tests.support.console import FakeMachines, Serving
from tests.unit.console.test_app import WAIT_SECONDS, watch

LONG = os.urandom(3_000_000)
"""More than all buffers on the way hold."""


@pytest.fixture
def machine_side(machines: FakeMachines, monkeypatch) -> Iterator[socket.socket]:
    ours, theirs = socket.socketpair()
    ours.settimeout(WAIT_SECONDS)
    monkeypatch.setattr(machines["pro"], "screen_socket", lambda: theirs)
    with ours, contextlib.closing(theirs):
        yield ours


def test_both_ways(owner: httpx.Client, serving: Serving, machine_side: socket.socket):
    with watch(serving, owner, "pro/screen") as websocket:
        websocket.send(b"to the machine")
        assert machine_side.recv(100) == b"to the machine"
        machine_side.setblocking(False)
        sent, received = 0, b""
        while len(received) < len(LONG):
            with contextlib.suppress(BlockingIOError):
                sent += machine_side.send(LONG[sent : sent + 65536])
            if sent > len(received):
                received += websocket.recv(timeout=WAIT_SECONDS)  # type: ignore[operator]
        assert received == LONG


def test_the_machines_end_is_told(
    owner: httpx.Client, serving: Serving, machine_side: socket.socket
):
    with watch(serving, owner, "pro/screen") as websocket:
        websocket.send(b"x")
        machine_side.recv(1)
        machine_side.shutdown(socket.SHUT_RDWR)
        with pytest.raises(ConnectionClosed):
            websocket.recv(timeout=WAIT_SECONDS)


def test_the_pages_end_reaches_the_machine(
    owner: httpx.Client, serving: Serving, machine_side: socket.socket
):
    with watch(serving, owner, "pro/screen") as websocket:
        websocket.send(b"x")
        assert machine_side.recv(1) == b"x"
    assert machine_side.recv(1) == b""
