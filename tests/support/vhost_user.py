"""A tap on the line between QEMU and a vhost-user back end: what memory is QEMU sharing?

Passes every message and descriptor on unchanged, both ways, and keeps each memory table that
QEMU sends (QEMU's "Vhost-user Protocol", Memory region description).
"""

import contextlib
import os
import socket
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

_HEADER = struct.Struct("<III")
_REGION = struct.Struct("<QQQQ")
_SET_MEM_TABLE, _ADD_MEM_REG, _REM_MEM_REG, _SET_VRING_ENABLE = 5, 37, 38, 18
_REPLY = 1 << 2
_DESCRIPTORS_LIMIT = 64
_PAYLOAD_LIMIT_BYTES = 64 * 1024
SECONDS = 30


@dataclass(frozen=True, order=True)
class Region:
    """Guest memory that the back end may read and write: where the guest has it, in bytes."""

    start: int
    size: int

    @property
    def end(self) -> int:
        return self.start + self.size

    def overlaps(self, other: "Region") -> bool:
        """Whether any byte is in both."""
        return self.start < other.end and other.start < self.end


@dataclass
class Tap:
    """What was overheard so far."""

    tables: list[tuple[Region, ...]] = field(default_factory=list)
    """Each table as it was after a change of it, in order."""
    enabled: int = 0
    """How often a driver set the first queue going."""

    def note(self, request: int, payload: bytes) -> None:
        """QEMU is sending this."""
        if request == _SET_VRING_ENABLE:
            self.enabled += struct.unpack_from("<II", payload) == (0, 1)
        now = set(self.tables[-1]) if self.tables else set()
        if request == _SET_MEM_TABLE:
            (count,) = struct.unpack_from("<I", payload)
            now = {_region(payload, 8 + number * _REGION.size) for number in range(count)}
        elif request == _ADD_MEM_REG:
            now.add(_region(payload, 8))
        elif request == _REM_MEM_REG:
            now.remove(_region(payload, 8))
        else:
            return
        self.tables.append(tuple(sorted(now)))


@contextlib.contextmanager
def tapped(back_end: socket.socket) -> Iterator[tuple[socket.socket, Tap]]:
    """QEMU's end of a line to `back_end`, and what goes over it. Both are closed at the end."""
    ours, theirs = socket.socketpair()
    tap = Tap()
    threads = [
        threading.Thread(target=_pass_requests, args=(ours, back_end, tap), daemon=True),
        threading.Thread(target=_pass_anything, args=(back_end, ours), daemon=True),
    ]
    for thread in threads:
        thread.start()
    try:
        yield theirs, tap
    finally:
        theirs.close()
        for end in (ours, back_end):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join(SECONDS)
            assert not thread.is_alive()
        ours.close()
        back_end.close()


def _pass_requests(front: socket.socket, back: socket.socket, tap: Tap) -> None:
    with contextlib.suppress(OSError):
        while True:
            header, descriptors = _receive(front, _HEADER.size)
            if not header:
                return
            request, flags, size = _HEADER.unpack(header)
            assert size <= _PAYLOAD_LIMIT_BYTES, "QEMU speaks something else"
            payload = b""
            if size:
                payload, more = _receive(front, size)
                descriptors += more
            if not flags & _REPLY:
                tap.note(request, payload)
            _send(back, header + payload, descriptors)


def _pass_anything(back: socket.socket, front: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while True:
            data, descriptors, _, _ = socket.recv_fds(back, 4096, _DESCRIPTORS_LIMIT)
            if not data:
                return
            _send(front, data, descriptors)


def _receive(connection: socket.socket, size: int) -> tuple[bytes, list[int]]:
    """Exactly `size` bytes and what came along; no bytes at the end of the line."""
    received, descriptors = b"", list[int]()
    while len(received) < size:
        data, more, _, _ = socket.recv_fds(connection, size - len(received), _DESCRIPTORS_LIMIT)
        descriptors += more
        if not data:
            return b"", descriptors
        received += data
    return received, descriptors


def _send(connection: socket.socket, data: bytes, descriptors: list[int]) -> None:
    try:
        sent = socket.send_fds(connection, [data], descriptors)
        connection.sendall(data[sent:])
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def _region(payload: bytes, at: int) -> Region:
    start, size, _, _ = _REGION.unpack_from(payload, at)
    return Region(start, size)
