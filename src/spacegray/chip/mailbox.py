"""The mailbox's server: the one loop of the chip.

Invariants: only the chip's own user is heard (SO_PEERCRED); no message stops or blocks the
chip, however broken, slow or many; each descriptor that comes in is closed again. One thread,
one request at a time; whoever does not read its answers is dropped.
"""

import array
import contextlib
import os
import selectors
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from spacegray.chip.firmware import Reply
from spacegray.chip.messages import Request, encode_map, parse_request
from spacegray.errors import SpacegrayError
from spacegray.sockets import (
    DESCRIPTOR_LIMIT,
    MESSAGE_LIMIT_BYTES,
    PeerError,
    close_all,
    peer_uid,
)

CONNECTION_LIMIT: Final = 16
MESSAGE_SECONDS: Final = 10.0
"""How long a message may take to arrive, from its first byte on."""

_PREFIX = struct.Struct(">I")
_READ_BYTES = 16 * 1024

Answer = Callable[[Request, list[int]], Reply]


@dataclass
class _Connection:
    socket: socket.socket
    received: bytearray = field(default_factory=bytearray)
    descriptors: list[int] = field(default_factory=list)
    since: float = 0.0

    def close(self) -> None:
        close_all(self.descriptors)
        self.descriptors = []
        self.socket.close()


class Loop:
    """Waits for messages, for the chip's parts and for SIGTERM, and does one thing at a time."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._connections: dict[int, _Connection] = {}
        self._stopping = False

    def watch(self, descriptor: int, callback: Callable[[], None]) -> None:
        """Call `callback` whenever `descriptor` is readable."""
        self._selector.register(descriptor, selectors.EVENT_READ, callback)

    def unwatch(self, descriptor: int) -> None:
        """Forget `descriptor`; harmless when it is not watched."""
        with contextlib.suppress(KeyError):
            self._selector.unregister(descriptor)

    def stop_on_signals(self) -> None:
        """From now on SIGTERM and SIGINT end `serve` once the work in hand is done."""
        receiver, sender = socket.socketpair()
        receiver.setblocking(False)
        sender.setblocking(False)
        signal.set_wakeup_fd(sender.detach(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._note_signal)
        self.watch(receiver.fileno(), lambda: _discard(receiver))

    def serve(self, listener: socket.socket, answer: Answer, failed: Callable[[], bool]) -> None:
        """Answer messages until a signal says stop or `failed` says so."""
        self._answer = answer
        self._listener = listener
        listener.setblocking(False)
        self.watch(listener.fileno(), self._accept)
        while not self._stopping and not failed():
            for key, _ in self._selector.select(self._patience_seconds()):
                # What came before it in this round may have closed it.
                if self._selector.get_map().get(key.fd) == key:
                    key.data()
            self._drop_slow()
        for connection in list(self._connections.values()):
            self._drop(connection)
        self.unwatch(listener.fileno())

    def _note_signal(self, *_: object) -> None:
        self._stopping = True

    def _accept(self) -> None:
        try:
            accepted, _ = self._listener.accept()
        except OSError:
            return
        if peer_uid(accepted) != os.geteuid() or len(self._connections) >= CONNECTION_LIMIT:
            accepted.close()
            return
        accepted.setblocking(False)
        connection = _Connection(accepted)
        self._connections[accepted.fileno()] = connection
        self.watch(accepted.fileno(), lambda: self._hear(connection))

    def _hear(self, connection: _Connection) -> None:
        """Take in what has arrived; answer each message that is complete."""
        try:
            data, descriptors, flags, _ = socket.recv_fds(
                connection.socket, _READ_BYTES, DESCRIPTOR_LIMIT, socket.MSG_CMSG_CLOEXEC
            )
        except BlockingIOError:
            return
        except OSError:
            self._drop(connection)
            return
        connection.descriptors += descriptors
        if not data:
            self._drop(connection)
            return
        if not connection.received:
            connection.since = time.monotonic()
        connection.received += data
        try:
            if flags & socket.MSG_CTRUNC or len(connection.descriptors) > DESCRIPTOR_LIMIT:
                raise PeerError("too many descriptors in one message")
            while (payload := _take_message(connection.received)) is not None:
                wanted, connection.descriptors = connection.descriptors, []
                self._reply(connection, payload, wanted)
        except PeerError as error:
            # Where the next message begins is unknown now.
            with contextlib.suppress(OSError):
                _send(connection.socket, _refusal(error), [])
            self._drop(connection)
        except OSError:
            self._drop(connection)

    def _reply(self, connection: _Connection, payload: bytes, descriptors: list[int]) -> None:
        reply = Reply()
        try:
            try:
                reply = self._answer(parse_request(payload), descriptors)
                fields = {"ok": True, **reply.fields}
            except (SpacegrayError, PeerError) as error:
                fields = _refusal(error)
            except Exception as error:  # A fault of ours must not cost the machine its chip.
                print(f"chip: fault: {error!r}", file=sys.stderr, flush=True)
                fields = _refusal(PeerError("a fault within the chip"))
            _send(connection.socket, fields, reply.descriptors)
        finally:
            close_all(descriptors)
            close_all(reply.descriptors)

    def _drop(self, connection: _Connection) -> None:
        if self._connections.pop(connection.socket.fileno(), None) is not None:
            self.unwatch(connection.socket.fileno())
            connection.close()

    def _patience_seconds(self) -> float | None:
        begun = [each.since for each in self._connections.values() if each.received]
        return max(0.0, min(begun) + MESSAGE_SECONDS - time.monotonic()) if begun else None

    def _drop_slow(self) -> None:
        latest = time.monotonic() - MESSAGE_SECONDS
        for connection in list(self._connections.values()):
            if connection.received and connection.since <= latest:
                self._drop(connection)


def _discard(receiver: socket.socket) -> None:
    receiver.recv(_READ_BYTES)


def _take_message(received: bytearray) -> bytes | None:
    """Take the first message off `received`, if it is complete; raises PeerError if too long."""
    if len(received) < _PREFIX.size:
        return None
    (length,) = _PREFIX.unpack_from(received)
    if length > MESSAGE_LIMIT_BYTES:
        raise PeerError(f"a message of {length} bytes is over the limit")
    end = _PREFIX.size + length
    if len(received) < end:
        return None
    payload = bytes(received[_PREFIX.size : end])
    del received[:end]
    return payload


def _send(connection: socket.socket, fields: dict[str, Any], descriptors: list[int]) -> None:
    """Send one message without ever waiting; raises OSError when it does not fit at once."""
    payload = encode_map(fields)
    data = _PREFIX.pack(len(payload)) + payload
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))]
    sent = connection.sendmsg([data], rights if descriptors else [])
    if sent != len(data):
        raise BlockingIOError("the peer does not read its answers")


def _refusal(error: SpacegrayError | PeerError) -> dict[str, Any]:
    if isinstance(error, SpacegrayError):
        fields = {
            "ok": False,
            "doing": error.doing,
            "stopped_by": error.stopped_by,
            "next_step": error.next_step,
        }
        return fields | ({"link": error.link} if error.link else {})
    return {
        "ok": False,
        "doing": "reading a message to the chip",
        "stopped_by": str(error),
        "next_step": "docs/chip-protocol.md lists what it understands",
    }
