"""Which local user is at the other end of a loopback connection, as the kernel records it.

Source: proc(5), /proc/net/tcp: addresses are the bytes of memory in host order, in hex; the
state 01 is an established connection; then the user that owns the socket.
"""

import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
"""In the second one are IPv4 connections of programs that use IPv6 sockets for both."""
_ESTABLISHED = "01"
_MAPPED_PREFIX = bytes(10) + b"\xff\xff"
"""RFC 4291, 2.5.5.2: an IPv4 address as an IPv6 one."""


def loopback_uid(
    client: tuple[str, int], server: tuple[str, int], tables: Sequence[Path] = TABLES
) -> int | None:
    """The user who owns the client's end of an IPv4 connection; None where it cannot be told.

    Only an established connection counts: one that its owner has closed is shown as root's.
    """
    try:
        packed = [(socket.inet_aton(host), port) for host, port in (client, server)]
        forms = [
            [_as_written(prefix + address, port) for address, port in packed]
            for prefix in (b"", _MAPPED_PREFIX)
        ]
        rows = [row.split() for table in tables for row in _rows(table)]
    except OSError:
        return None
    for fields in rows:
        if fields[1:3] in forms and fields[3] == _ESTABLISHED:
            return int(fields[7])
    return None


def can_tell() -> bool:
    """Whether this host's kernel tells the user of a loopback connection: of our own it must."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as client,
    ):
        return loopback_uid(client.getsockname(), listener.getsockname()) == os.getuid()


def _rows(table: Path) -> list[str]:
    # A host without IPv6 has no second table.
    return table.read_text("ascii").splitlines()[1:] if table.exists() else []


def _as_written(packed: bytes, port: int) -> str:
    """An address the way the tables write it: 32-bit words in the host's order."""
    words = [packed[at : at + 4] for at in range(0, len(packed), 4)]
    address = "".join(f"{int.from_bytes(word, sys.byteorder):08X}" for word in words)
    return f"{address}:{port:04X}"
