"""A client for the network block device protocol, as little of it as restoring needs.

Source: the NBD project's doc/proto.md: fixed newstyle handshake, NBD_OPT_GO, simple replies.
The server is one of our own; its answers are checked all the same.
"""

import socket
import struct
from typing import Self

from spacegray.errors import SpacegrayError

REQUEST_LIMIT_BYTES = 1 << 20
"""Larger reads and writes are split; every server must take requests of 32 MiB."""

_MAGIC = b"NBDMAGIC"
_OPTION_MAGIC = b"IHAVEOPT"
_OPTION_REPLY_MAGIC = 0x3E889045565A9
_REQUEST_MAGIC = 0x25609513
_REPLY_MAGIC = 0x67446698
_FIXED_NEWSTYLE, _NO_ZEROES = 1, 2
_OPT_GO, _REP_ACK, _REP_INFO, _INFO_EXPORT = 7, 1, 3, 0
_READ, _WRITE, _DISCONNECT, _FLUSH = 0, 1, 2, 3
_OPTION_REPLY_LIMIT_BYTES = 4096


class NbdError(SpacegrayError):
    """The disk's server refused or broke off."""

    def __init__(self, stopped_by: object) -> None:
        super().__init__("talking to the disk", stopped_by, "see `logs`, then try again")


class NbdClient:
    """One connection to one export; a context manager. All offsets and sizes in bytes."""

    def __init__(self, connection: socket.socket, *, export: str = "") -> None:
        self._socket = connection
        self._handle = 0
        self.size_bytes = self._negotiate(export.encode())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._request(_DISCONNECT, 0, 0)
        except (OSError, NbdError):
            pass
        finally:
            self._socket.close()

    def write(self, offset: int, data: bytes | memoryview) -> None:
        """Write all of `data`, whole sectors of 512 bytes, at `offset`; durable after `flush`."""
        view = memoryview(data)
        for start in range(0, len(view), REQUEST_LIMIT_BYTES):
            part = view[start : start + REQUEST_LIMIT_BYTES]
            self._request(_WRITE, offset + start, len(part), part)
            self._reply()

    def read(self, offset: int, length: int) -> bytes:
        """Read `length` bytes, whole sectors of 512, at `offset`."""
        result = bytearray()
        while len(result) < length:
            part = min(REQUEST_LIMIT_BYTES, length - len(result))
            self._request(_READ, offset + len(result), part)
            self._reply()
            result += self._receive(part)
        return bytes(result)

    def flush(self) -> None:
        """Make everything written so far durable."""
        self._request(_FLUSH, 0, 0)
        self._reply()

    def _negotiate(self, export: bytes) -> int:
        magic, option_magic, flags = struct.unpack(">8s8sH", self._receive(18))
        if magic != _MAGIC or option_magic != _OPTION_MAGIC or not flags & _FIXED_NEWSTYLE:
            raise NbdError("the server does not speak fixed newstyle NBD")
        self._socket.sendall(struct.pack(">I", flags & (_FIXED_NEWSTYLE | _NO_ZEROES)))
        payload = struct.pack(">I", len(export)) + export + struct.pack(">H", 0)
        self._socket.sendall(_OPTION_MAGIC + struct.pack(">II", _OPT_GO, len(payload)) + payload)
        size = -1
        while True:
            magic, _, kind, length = struct.unpack(">QIII", self._receive(20))
            if magic != _OPTION_REPLY_MAGIC or length > _OPTION_REPLY_LIMIT_BYTES:
                raise NbdError("a broken answer to the handshake")
            body = self._receive(length)
            if kind == _REP_ACK:
                break
            if kind != _REP_INFO:
                raise NbdError(f"the export was refused ({kind:#x})")
            if length >= 12 and struct.unpack_from(">H", body)[0] == _INFO_EXPORT:
                size = struct.unpack_from(">Q", body, 2)[0]
        if size < 0:
            raise NbdError("the server did not tell the size of the disk")
        return size

    def _request(
        self, command: int, offset: int, length: int, data: memoryview | None = None
    ) -> None:
        self._handle += 1
        header = struct.pack(">IHHQQI", _REQUEST_MAGIC, 0, command, self._handle, offset, length)
        try:
            self._socket.sendall(header)
            if data is not None:
                self._socket.sendall(data)
        except OSError as error:
            raise NbdError(f"the server went away ({error.strerror})") from None

    def _reply(self) -> None:
        magic, error, handle = struct.unpack(">IIQ", self._receive(16))
        if magic != _REPLY_MAGIC or handle != self._handle:
            raise NbdError("a broken answer")
        if error:
            raise NbdError(f"the disk answered with error {error}")

    def _receive(self, length: int) -> bytes:
        result = bytearray()
        while len(result) < length:
            try:
                chunk = self._socket.recv(length - len(result))
            except OSError as error:
                raise NbdError(f"the server went away ({error.strerror})") from None
            if not chunk:
                raise NbdError("the server went away")
            result += chunk
        return bytes(result)
