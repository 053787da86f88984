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

from spacegray.chip import limits, mailbox, messages
from spacegray.chip.client import ChipClient
from spacegray.chip.core import Reply
from spacegray.chip.messages import decode_map, encode_map
from spacegray.chip.refusal import BUSY, ChipRefusalError
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
    if isinstance(request, messages.Unlock):
        raise ChipRefusalError("unlocking", "no", "wait", code="wrong", left=7, wait_seconds=60)
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


def test_a_refused_secret_keeps_its_code_and_numbers(connect: Connect) -> None:
    reply = ask(connect(), "unlock")
    assert (reply["code"], reply["left"], reply["wait_seconds"]) == ("wrong", 7, 60)
    assert reply["link"] == "chip"


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


def test_over_the_limit_is_refused_unread_and_served_again(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise: whoever asks too much gets a cheap refusal, in order, and is not hung up."""
    monkeypatch.setattr(limits, "CONNECTION_BURST", 3)
    monkeypatch.setattr(limits, "CONNECTION_PER_SECOND", 50.0)
    noisy, good = connect(), connect()
    noisy.sendall(framed({"op": "show"}) * 100)
    codes = [reply_of(noisy).get("code") for _ in range(100)]
    assert codes[:3] == [None] * 3
    assert BUSY in codes
    assert ask(good, "show")["ok"] is True
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not answered(noisy):
        assert time.monotonic() < deadline, "it is never served again"


def test_the_client_asks_again_when_the_chip_is_busy(
    connect: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise: an honest client never sees the limits, it only waits a moment."""
    monkeypatch.setattr(limits, "CONNECTION_BURST", 1)
    monkeypatch.setattr(limits, "CONNECTION_PER_SECOND", 20.0)
    connect()
    with ChipClient(tmp_path / "mailbox") as client:
        assert [client.show()["name"] for _ in range(3)] == ["test"] * 3


def test_guesses_are_limited_for_all_together(connect: Connect) -> None:
    """Promise: what takes the vault long is rationed, whoever asks; the rest goes on."""
    clients = [connect() for _ in range(8)]
    codes: list[str] = []
    while BUSY not in codes:
        codes += [ask(each, "unlock")["code"] for each in clients]
    assert limits.COSTLY_BURST <= codes.count("wrong") < len(codes)
    assert ask(clients[0], "show")["ok"] is True


class Turns:
    """A chip that notes who was answered, and fails (which ends the loop) after so many."""

    def __init__(self, ends_after: int) -> None:
        self.ends_after = ends_after
        self.answered: list[str] = []

    def answer(self, request: messages.Request, _: list[int]) -> Reply:
        self.answered.append(type(request).__name__)
        return Reply()

    def over(self) -> bool:
        return len(self.answered) >= self.ends_after


def test_one_of_each_in_turn(tmp_path: Path) -> None:
    """Promise: a client that sends thousands at once waits in line like everybody else."""
    turns = Turns(ends_after=40)
    with bind_unix(tmp_path / "mailbox") as listener, contextlib.ExitStack() as stack:
        floods = [stack.enter_context(connect_unix(tmp_path / "mailbox")) for _ in range(3)]
        quiet = stack.enter_context(connect_unix(tmp_path / "mailbox"))
        for each in floods:
            each.sendall(framed({"op": "show"}) * 500)
        quiet.sendall(framed({"op": "close_disk"}))
        mailbox.Loop().serve(listener, turns.answer, turns.over)
    # Connections are taken in one by one, so the last one's first turn is in the fourth round.
    assert turns.answered.index("CloseDisk") <= len(floods) * (len(floods) + 1)


def test_what_was_sent_long_ago_but_waits_its_turn_is_not_slow(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise: only a message that does not arrive is slow, not one that the chip let wait."""
    monkeypatch.setattr(mailbox, "MESSAGE_SECONDS", 0.05)
    connection = connect()
    connection.sendall(framed({"op": "show"}) * 200)
    assert len([reply_of(connection) for _ in range(200)]) == 200


def framed(fields: dict[str, Any]) -> bytes:
    payload = encode_map(fields)
    return struct.pack(">I", len(payload)) + payload


REQUESTS = st.fixed_dictionaries(
    {"op": st.sampled_from(sorted(messages.OPERATIONS))},
    optional={
        "source": st.text(max_size=20),
        "seal": st.sampled_from(["keyfile", "passphrase", "tpm2", "none"]),
        "with": st.sampled_from(["password", "recovery_key"]),
        "mode": st.sampled_from(["normal", "recovery"]),
        "nonce": st.binary(max_size=70),
        "size_bytes": st.integers(),
        "front": st.sampled_from(["nbd", None, 1]),
        "name": st.text(max_size=70),
        "key": st.sampled_from([bytes(91), bytes(90), ""]),
        "fingerprint": st.binary(min_size=31, max_size=33),
        "job": st.sampled_from(["memory 64", "Memory", ""]),
        "detail": st.binary(max_size=20) | st.text(max_size=20),
        "order": st.binary(max_size=20),
        "continues": st.sampled_from([b"", bytes(32), bytes(31)]),
    },
)
PIECES = st.lists(
    st.tuples(
        REQUESTS.map(framed) | st.binary(max_size=200) | st.just(b"\0\0\0\1") | st.just(b"\xff"),
        st.integers(0, DESCRIPTOR_LIMIT + 2),
    ),
    max_size=6,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(PIECES)
def test_no_bytes_stop_it(connect: Connect, pieces: list[tuple[bytes, int]]) -> None:
    """Promise: the chip goes on and keeps nothing, whatever its mailbox gets."""
    before = open_nulls()
    with open(os.devnull, "rb") as null:
        with connect() as noisy, contextlib.suppress(ConnectionError):
            for data, count in pieces:
                socket.send_fds(noisy, [data or b"\0"], [null.fileno()] * count)
        with connect() as good:
            deadline = time.monotonic() + PATIENCE_SECONDS
            while ask(good, "show")["ok"] and open_nulls() > before + 1:
                assert time.monotonic() < deadline, "descriptors are left behind"
