"""Messages between processes are bounded, and descriptors arrive or are closed."""

import os
import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spacegray.sockets import (
    MESSAGE_LIMIT_BYTES,
    PeerError,
    bind_unix,
    connect_unix,
    peer_uid,
    receive_message,
    send_message,
)


@given(st.binary(max_size=70_000))
def test_a_message_arrives_as_it_was_sent_or_is_refused_before_it_is_sent(payload):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        if len(payload) > MESSAGE_LIMIT_BYTES:
            with pytest.raises(PeerError):
                send_message(ours, payload)
        else:
            send_message(ours, payload)
            assert receive_message(theirs) == (payload, [])


def test_descriptors_come_along():
    ours, theirs = socket.socketpair()
    reading, writing = os.pipe()
    with ours, theirs:
        send_message(ours, b"take this", [writing])
        os.close(writing)
        received = receive_message(theirs)
        assert received is not None
        os.write(received[1][0], b"it works")
        os.close(received[1][0])
    assert os.read(reading, 100) == b"it works"
    os.close(reading)


@pytest.mark.parametrize(
    "sent", [struct.pack(">I", MESSAGE_LIMIT_BYTES + 1), b"\0", struct.pack(">I", 10) + b"short"]
)
def test_an_overlong_or_cut_off_message_is_refused(sent):
    ours, theirs = socket.socketpair()
    with theirs:
        ours.sendall(sent)
        ours.close()
        with pytest.raises(PeerError):
            receive_message(theirs)


def test_too_many_descriptors_are_refused_and_closed():
    ours, theirs = socket.socketpair()
    reading, writing = os.pipe()
    with ours, theirs:
        before = len(os.listdir("/proc/self/fd"))
        socket.send_fds(ours, [struct.pack(">I", 1), b"x"], [writing] * 20)
        with pytest.raises(PeerError):
            receive_message(theirs)
        assert len(os.listdir("/proc/self/fd")) == before
    os.close(reading)
    os.close(writing)


def test_a_socket_is_its_owners_alone_and_long_paths_work(tmp_path):
    folder = tmp_path / ("long" * 40)
    folder.mkdir()
    path = folder / "control"
    with bind_unix(path) as listener:
        assert path.stat().st_mode & 0o777 == 0o600
        with connect_unix(path) as client:
            server, _ = listener.accept()
            with server:
                assert peer_uid(server) == os.getuid()
                client.sendall(b"hello")
                assert server.recv(10) == b"hello"
