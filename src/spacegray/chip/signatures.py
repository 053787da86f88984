"""Signature lists: what db, dbx, KEK and PK hold (UEFI 2.10, 32.4.1).

A database is one list after another; a list holds signatures of one kind and size. What is read
may come from an enemy: lengths are checked first, and each step of the work takes bytes off it.
"""

import struct
import uuid
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

X509: Final = uuid.UUID("a5c059a1-94e4-4aa7-87b5-ab155c2bf072")
SHA256: Final = uuid.UUID("c1c41626-504c-4092-aca9-41f936934328")
X509_SHA256: Final = uuid.UUID("3bd2a492-96c0-4079-b420-fcf98ef103ed")
"""The hash of what a certificate says, and since when it is revoked."""

_KINDS: Final = (X509, SHA256, X509_SHA256)
_FIXED: Final = {SHA256: 32, X509_SHA256: 48}
_LIST: Final = struct.Struct("<16sIII")
_OWNER_BYTES: Final = 16


class Signature(NamedTuple):
    """A certificate or a hash, and the GUID of whoever put it there."""

    kind: uuid.UUID
    owner: uuid.UUID
    data: bytes


def read(database: bytes) -> Iterator[Signature]:
    """The signatures in `database`, of the kinds named above.

    Raises ValueError for what is not one list after another, or another kind.
    """
    while database:
        try:
            kind_bytes, size, header_bytes, each = _LIST.unpack_from(database)
        except struct.error:
            raise ValueError("a signature list cut short") from None
        kind = uuid.UUID(bytes_le=kind_bytes)
        body = size - _LIST.size
        if kind not in _KINDS or header_bytes or size > len(database) or body < each:
            raise ValueError("a strange signature list")
        if each <= _OWNER_BYTES or body % each or _FIXED.get(kind, each - 16) != each - 16:
            raise ValueError("signatures of a strange size")
        for at in range(_LIST.size, size, each):
            owner = uuid.UUID(bytes_le=database[at : at + _OWNER_BYTES])
            yield Signature(kind, owner, database[at + _OWNER_BYTES : at + each])
        database = database[size:]


def write(signatures: Iterable[Signature]) -> bytes:
    """A database of `signatures`, each once: hashes in one list, each certificate in its own."""
    lists: dict[object, tuple[uuid.UUID, list[bytes]]] = {}
    seen = set()
    for each in signatures:
        if (each.kind, each.data) in seen:
            continue
        seen.add((each.kind, each.data))
        key: object = each.data if each.kind == X509 else each.kind
        _, entries = lists.setdefault(key, (each.kind, []))
        entries.append(each.owner.bytes_le + each.data)
    return b"".join(
        _LIST.pack(kind.bytes_le, _LIST.size + sum(map(len, entries)), 0, len(entries[0]))
        + b"".join(entries)
        for kind, entries in lists.values()
    )
