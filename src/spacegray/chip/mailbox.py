"""The mailbox's server: the one loop of the chip.

Invariants: only the chip's own user is heard (SO_PEERCRED); no message stops or blocks the
chip, however broken, slow or many; each descriptor that comes in is closed again. One thread,
one request at a time, one of each connection in turn; whoever does not read its answers is
dropped.
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

from spacegray.chip import messages
from spacegray.chip.core import Reply
from spacegray.chip.limits import Limits, Peer
from spacegray.chip.messages import Request, encode_map, parse_request
from spacegray.chip.refusal import BUSY, ChipRefusalError
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

COSTLY: Final = (
    messages.Birth,
    messages.AdoptBundle,
    messages.Unseal,
    messages.Unlock,
    messages.SetPassword,
    messages.ChangePassword,
    messages.RemovePassword,
    messages.SetFirmwarePassword,
    messages.MakeRecoveryKey,
    messages.AuthoriseRollback,
    messages.TrustProvider,
    messages.DistrustProvider,
    messages.RecordService,
    messages.Restore,
    messages.RequestTicket,
    messages.AcceptTicket,
)
"""Requests that take the vault long, or wear out what it writes to; see `limits`."""

_PREFIX = struct.Struct(">I")
_READ_BYTES = 16 * 1024

Answer = Callable[[Request, list[int]], Reply]


@dataclass
class _Connection:
    """One client. `received` begins with the next message, of which all or a part is there."""

    socket: socket.socket
    peer: Peer
    received: bytearray = field(default_factory=bytearray)
    descriptors: list[int] = field(default_factory=list)
    since: float = 0.0

    @property
    def ready(self) -> bool:
        """Whether there is a whole message to answer, or one that cannot be."""
        return _message_end(self.received) <= len(self.received)

    def close(self) -> None:
        close_all(self.descriptors)
        self.descriptors = []
        self.socket.close()


class Loop:
    """Waits for messages, for the chip's parts and for SIGTERM, and does one thing at a time."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._connections: dict[int, _Connection] = {}
        self._limits = Limits()
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
            self._take_turns()
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
        connection = _Connection(accepted, self._limits.peer())
        self._connections[accepted.fileno()] = connection
        self.watch(accepted.fileno(), lambda: self._hear(connection))

    def _hear(self, connection: _Connection) -> None:
        """Take in what has arrived, unless what came before is still to be answered."""
        if connection.ready:
            return
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
        elif flags & socket.MSG_CTRUNC or len(connection.descriptors) > DESCRIPTOR_LIMIT:
            self._end(connection, PeerError("too many descriptors in one message"))
        else:
            if not connection.received:
                connection.since = time.monotonic()
            connection.received += data

    def _take_turns(self) -> None:
        """Answer one message of each connection that has one."""
        for connection in list(self._connections.values()):
            if connection.ready:
                try:
                    self._answer_next(connection)
                except PeerError as error:
                    self._end(connection, error)
                except OSError:
                    self._drop(connection)

    def _answer_next(self, connection: _Connection) -> None:
        payload = _take_message(connection.received)
        connection.since = time.monotonic()  # What is left is the beginning of the next one.
        descriptors, connection.descriptors = connection.descriptors, []
        try:
            if self._limits.admit(connection.peer):
                self._reply(connection, payload, descriptors)
            else:
                connection.socket.sendall(_BUSY)
        finally:
            close_all(descriptors)

    def _reply(self, connection: _Connection, payload: bytes, descriptors: list[int]) -> None:
        reply = Reply()
        try:
            try:
                request = parse_request(payload)
                if isinstance(request, COSTLY) and not self._limits.admit_costly():
                    connection.socket.sendall(_BUSY)
                    return
                reply = self._answer(request, descriptors)
                fields = {"ok": True, **reply.fields}
            except (SpacegrayError, PeerError) as error:
                fields = _refusal(error)
            except Exception as error:  # A fault of ours must not cost the machine its chip.
                print(f"chip: fault: {error!r}", file=sys.stderr, flush=True)
                fields = _refusal(PeerError("a fault within the chip"))
            _send(connection.socket, fields, reply.descriptors)
        finally:
            close_all(reply.descriptors)

    def _end(self, connection: _Connection, error: PeerError) -> None:
        """Say why, and hang up: where the next message begins is unknown."""
        with contextlib.suppress(OSError):
            _send(connection.socket, _refusal(error), [])
        self._drop(connection)

    def _drop(self, connection: _Connection) -> None:
        if self._connections.pop(connection.socket.fileno(), None) is not None:
            self.unwatch(connection.socket.fileno())
            connection.close()

    def _patience_seconds(self) -> float | None:
        """How long nothing has to be done unless something arrives; None for ever."""
        begun = []
        for each in self._connections.values():
            if each.ready:
                return 0.0
            if each.received:
                begun.append(each.since)
        return max(0.0, min(begun) + MESSAGE_SECONDS - time.monotonic()) if begun else None

    def _drop_slow(self) -> None:
        latest = time.monotonic() - MESSAGE_SECONDS
        for connection in list(self._connections.values()):
            if connection.received and not connection.ready and connection.since <= latest:
                self._drop(connection)


def _discard(receiver: socket.socket) -> None:
    receiver.recv(_READ_BYTES)


def _message_end(received: bytearray) -> int:
    """Where the first message ends; a length over the limit ends it at once."""
    if len(received) < _PREFIX.size:
        return _PREFIX.size
    (length,) = _PREFIX.unpack_from(received)
    return _PREFIX.size + (length if length <= MESSAGE_LIMIT_BYTES else 0)


def _take_message(received: bytearray) -> bytes:
    """Take the first message off `received`, which has all of it; raises PeerError if too long."""
    (length,) = _PREFIX.unpack_from(received)
    if length > MESSAGE_LIMIT_BYTES:
        raise PeerError(f"a message of {length} bytes is over the limit")
    end = _message_end(received)
    payload = bytes(received[_PREFIX.size : end])
    del received[:end]
    return payload


def _send(connection: socket.socket, fields: dict[str, Any], descriptors: list[int]) -> None:
    """Send one message without ever waiting; raises OSError when it does not fit at once."""
    data = _framed(encode_map(fields))
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))]
    sent = connection.sendmsg([data], rights if descriptors else [])
    if sent != len(data):
        raise BlockingIOError("the peer does not read its answers")


def _refusal(error: SpacegrayError | PeerError) -> dict[str, Any]:
    if isinstance(error, PeerError):
        error = SpacegrayError(
            "reading a message to the chip",
            error,
            "docs/chip-protocol.md lists what it understands",
        )
    fields: dict[str, Any] = {
        "ok": False,
        "doing": error.doing,
        "stopped_by": error.stopped_by,
        "next_step": error.next_step,
    }
    for name in ("link", "code", "left", "wait_seconds"):
        if (value := getattr(error, name, None)) is not None:
            fields[name] = value
    return fields


def _framed(payload: bytes) -> bytes:
    return _PREFIX.pack(len(payload)) + payload


_BUSY: Final = _framed(
    encode_map(
        _refusal(
            ChipRefusalError(
                "reading a message to the chip",
                "there are too many",
                "ask again in a moment",
                code=BUSY,
                link=None,
            )
        )
    )
)
"""The answer to whatever is over a limit."""
