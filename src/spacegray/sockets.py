"""Unix sockets between our own processes: private, bounded, able to carry descriptors.

Messages are length-prefixed (unsigned 32-bit, big endian). A peer is never believed: its
length is checked before anything is allocated, its user before anything is read.
"""

import array
import os
import socket
import struct
from collections.abc import Sequence
from pathlib import Path

MESSAGE_LIMIT_BYTES = 64 * 1024
DESCRIPTOR_LIMIT = 8
LISTEN_BACKLOG = 16

_PREFIX = struct.Struct(">I")
_PEER = struct.Struct("3i")


class PeerError(Exception):
    """The other side sent what it must not, or went away."""


def bind_unix(path: Path, *, replace: bool = True) -> socket.socket:
    """A listening socket at `path`, for its owner alone (0600).

    It replaces what lay there; without `replace` that is an OSError (EADDRINUSE). Paths longer
    than the kernel's 108 bytes are reached through their folder's descriptor.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if replace:
            path.unlink(missing_ok=True)
        # The mode of the socket's inode decides who may bind; fchmod makes the file 0600
        # from its first moment on, with no window after bind().
        os.fchmod(listener.fileno(), 0o600)
        listener.bind(f"/proc/self/fd/{folder}/{path.name}")
        path.chmod(0o600)
        listener.listen(LISTEN_BACKLOG)
    except BaseException:
        listener.close()
        raise
    finally:
        os.close(folder)
    return listener


def connect_unix(path: Path, *, timeout_seconds: float | None = None) -> socket.socket:
    """A stream connected to the socket at `path`; raises OSError when nobody listens."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(timeout_seconds)
    folder = -1
    try:
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        connection.connect(f"/proc/self/fd/{folder}/{path.name}")
    except BaseException:
        connection.close()
        raise
    finally:
        if folder >= 0:
            os.close(folder)
    return connection


def peer_process(connection: socket.socket) -> int:
    """The process that listened at the other end, by its number, as the kernel recorded it."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
    return int(_PEER.unpack(raw)[0])


def peer_uid(connection: socket.socket) -> int:
    """The user at the other end, as the kernel recorded it when it connected."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
    return int(_PEER.unpack(raw)[1])


def send_message(
    connection: socket.socket, payload: bytes, descriptors: Sequence[int] = ()
) -> None:
    """Send one message, with descriptors the receiver gets copies of."""
    if len(payload) > MESSAGE_LIMIT_BYTES or len(descriptors) > DESCRIPTOR_LIMIT:
        raise PeerError(f"a message of {len(payload)} bytes is over the limit")
    data = _PREFIX.pack(len(payload)) + payload
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))]
    sent = connection.sendmsg([data], rights if descriptors else [])
    # Not with nothing left: a peer that has answered and gone would make that an error.
    if sent < len(data):
        connection.sendall(data[sent:])


def receive_message(connection: socket.socket) -> tuple[bytes, list[int]] | None:
    """The next message and its descriptors (now ours to close); None at a clean end.

    Raises PeerError for a message that is too long or cut off.
    """
    descriptors: list[int] = []
    try:
        prefix = _receive_exactly(connection, _PREFIX.size, descriptors)
        if prefix is None:
            return None
        (length,) = _PREFIX.unpack(prefix)
        if length > MESSAGE_LIMIT_BYTES:
            raise PeerError(f"a message of {length} bytes is over the limit")
        payload = _receive_exactly(connection, length, descriptors)
        if payload is None:
            raise PeerError("the message was cut off")
    except BaseException:
        close_all(descriptors)
        raise
    return payload, descriptors


def close_all(descriptors: Sequence[int]) -> None:
    """Close each of them."""
    for descriptor in descriptors:
        os.close(descriptor)


def _receive_exactly(
    connection: socket.socket, length: int, descriptors: list[int]
) -> bytes | None:
    chunks = bytearray()
    while len(chunks) < length:
        data, received, flags, _ = socket.recv_fds(
            connection, length - len(chunks), DESCRIPTOR_LIMIT
        )
        for descriptor in received:
            os.set_inheritable(descriptor, False)
        descriptors.extend(received)
        if flags & socket.MSG_CTRUNC or len(descriptors) > DESCRIPTOR_LIMIT:
            raise PeerError("too many descriptors in one message")
        if not data:
            if chunks:
                raise PeerError("the message was cut off")
            return None
        chunks += data
    return bytes(chunks)
