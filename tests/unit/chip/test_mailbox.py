"""The mailbox: no message stops, blocks or leaks; each gets its answer or the line goes dead."""

import contextlib
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spacegray.chip import mailbox, messages
from spacegray.chip.firmware import Reply
from spacegray.chip.messages import decode_map, encode_map
from spacegray.errors import SpacegrayError
from spacegray.sockets import (
    DESCRIPTOR_LIMIT,
    MESSAGE_LIMIT_BYTES,
    PeerError,
    bind_unix,
    connect_unix,
    receive_message,
    send_message,
)

PATIENCE_SECONDS = 10.0


def answer(request: messages.Request, descriptors: list[int]) -> Reply:
    """A chip that knows nothing but how to answer."""
    if isinstance(request, messages.Show):
        return Reply({"name": "test", "descriptors": len(descriptors)})
    if isinstance(request, messages.DiskHealth):
        return Reply({}, [os.open("/dev/null", os.O_RDONLY)])
    if isinstance(request, messages.CloseDisk):
        raise SpacegrayError("closing", "it burns", "run", link="disk")
    raise ZeroDivisionError


Connect = Callable[[], socket.socket]


@pytest.fixture
def connect(tmp_path: Path) -> Iterator[Connect]:
    """A served mailbox; gives connections to it."""
    loop, listener = mailbox.Loop(), bind_unix(tmp_path / "mailbox")
    bell, ring = os.pipe()
    loop.watch(bell, lambda: None)
    stopping = threading.Event()
    server = threading.Thread(target=loop.serve, args=(listener, answer, stopping.is_set))
    server.start()
    with contextlib.ExitStack() as stack:

        def new() -> socket.socket:
            path = tmp_path / "mailbox"
            return stack.enter_context(connect_unix(path, timeout_seconds=PATIENCE_SECONDS))

        yield new
    stopping.set()
    os.write(ring, b"!")
    server.join(PATIENCE_SECONDS)
    assert not server.is_alive()
    listener.close()
    os.close(bell)
    os.close(ring)


def ask(connection: socket.socket, op: str, descriptors: tuple[int, ...] = ()) -> dict[str, Any]:
    send_message(connection, encode_map({"op": op}), descriptors)
    return reply_of(connection)


def reply_of(connection: socket.socket) -> dict[str, Any]:
    message = receive_message(connection)
    assert message is not None
    for descriptor in message[1]:
        os.close(descriptor)
    return decode_map(message[0])


def hung_up(connection: socket.socket) -> bool:
    try:
        return receive_message(connection) is None
    except (ConnectionError, PeerError):
        return True


def open_nulls() -> int:
    """How many descriptors of /dev/null this process, the served mailbox with it, holds.

    All other descriptors are left out: those of earlier tests close whenever Python's collector
    comes round to them.
    """
    null, count = Path("/dev/null").stat().st_rdev, 0
    for entry in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the one of the listing itself is gone again
            count += os.fstat(int(entry)).st_rdev == null
    return count


def test_a_request_is_answered(connect: Connect) -> None:
    assert ask(connect(), "show") == {"ok": True, "name": "test", "descriptors": 0}


def test_a_refusal_keeps_its_words_and_link(connect: Connect) -> None:
    assert ask(connect(), "close_disk") == {
        "ok": False, "doing": "closing", "stopped_by": "it burns", "next_step": "run",
        "link": "disk",
    }  # fmt: skip


@pytest.mark.parametrize("payload", [b"", b"\xff", encode_map({"op": "export_key"})])
def test_a_payload_that_is_no_request_costs_nothing_but_a_refusal(
    connect: Connect, payload: bytes
) -> None:
    connection = connect()
    send_message(connection, payload)
    assert reply_of(connection)["ok"] is False
    assert ask(connection, "show")["ok"] is True


def test_a_fault_within_is_answered_and_survived(connect: Connect) -> None:
    connection = connect()
    assert ask(connection, "prepare_start")["stopped_by"] == "a fault within the chip"
    assert ask(connection, "show")["ok"] is True


def test_a_message_in_pieces_is_one_message(connect: Connect) -> None:
    connection = connect()
    payload = encode_map({"op": "show"})
    for byte in struct.pack(">I", len(payload)) + payload:
        connection.sendall(bytes([byte]))
    assert reply_of(connection)["ok"] is True


def test_two_messages_at_once_get_two_answers(connect: Connect) -> None:
    connection = connect()
    payload = encode_map({"op": "show"})
    connection.sendall((struct.pack(">I", len(payload)) + payload) * 2)
    assert [reply_of(connection)["ok"] for _ in range(2)] == [True, True]


def test_a_length_over_the_limit_ends_that_connection_alone(connect: Connect) -> None:
    bad, good = connect(), connect()
    bad.sendall(struct.pack(">I", MESSAGE_LIMIT_BYTES + 1))
    assert "over the limit" in reply_of(bad)["stopped_by"]
    assert hung_up(bad)
    assert ask(good, "show")["ok"] is True


def test_too_many_descriptors_end_that_connection_and_are_closed(connect: Connect) -> None:
    """Promise: nobody can fill the chip's table of descriptors."""
    bad, good = connect(), connect()
    ask(good, "show")
    before = open_nulls()
    null = os.open("/dev/null", os.O_RDONLY)
    try:
        for _ in range(2):
            socket.send_fds(bad, [b"\0"], [null] * DESCRIPTOR_LIMIT)
            assert ask(good, "show")["ok"] is True
    finally:
        os.close(null)
    assert "too many descriptors" in reply_of(bad)["stopped_by"]
    assert hung_up(bad)
    assert open_nulls() == before


def test_descriptors_in_and_out_are_closed(connect: Connect) -> None:
    connection = connect()
    ask(connection, "show")
    before = open_nulls()
    null = os.open("/dev/null", os.O_RDONLY)
    try:
        assert ask(connection, "show", (null, null))["descriptors"] == 2
        assert ask(connection, "disk_health")["ok"] is True
        ask(connection, "show")
    finally:
        os.close(null)
    assert open_nulls() == before


def test_connections_are_limited(connect: Connect) -> None:
    connections = [connect() for _ in range(mailbox.CONNECTION_LIMIT)]
    for each in connections:
        assert ask(each, "show")["ok"] is True
    assert hung_up(connect())
    connections[0].close()
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not answered(connect()):
        assert time.monotonic() < deadline, "a place that was left is not given to the next"


def answered(connection: socket.socket) -> bool:
    try:
        return ask(connection, "show")["ok"] is True
    except (ConnectionError, AssertionError, PeerError):
        return False


def test_a_slow_message_is_dropped(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mailbox, "MESSAGE_SECONDS", 0.05)
    slow = connect()
    slow.sendall(b"\0\0")
    assert hung_up(slow)
    assert ask(connect(), "show")["ok"] is True


def test_who_does_not_read_is_dropped_not_waited_for(connect: Connect) -> None:
    deaf, good = connect(), connect()
    with pytest.raises(ConnectionError):
        flood(deaf)
    assert ask(good, "show")["ok"] is True


def flood(connection: socket.socket) -> None:
    payload = encode_map({"op": "show"})
    message = (struct.pack(">I", len(payload)) + payload) * 1000
    for _ in range(10_000):
        connection.sendall(message)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.binary(max_size=200) | st.just(b"\0\0\0\1"), max_size=5))
def test_no_bytes_stop_it(connect: Connect, pieces: list[bytes]) -> None:
    """Promise: the chip goes on, whatever its mailbox gets."""
    with connect() as noisy, contextlib.suppress(ConnectionError, BrokenPipeError):
        for piece in pieces:
            noisy.sendall(piece)
    with connect() as good:
        assert ask(good, "show")["ok"] is True
