"""What is known of a chip's service record: how long it is, how it ends, whose orders count.

The entries themselves are signed by the vault and kept by the workstation; the vault remembers how
many there are and the digest of the newest (docs/service-record.md).
"""

import hashlib
from typing import Annotated, Any, Final, TypeVar

import msgspec

from spacegray.chip.messages import (
    DIGEST_BYTES,
    Count,
    Digest,
    ProviderKey,
    ProviderName,
    decode_plain,
)
from spacegray.sockets import PeerError

ENTRY_LIMIT_BYTES: Final = 1024

_Kind = TypeVar("_Kind")
_Entry = Annotated[bytes, msgspec.Meta(max_length=ENTRY_LIMIT_BYTES)]


class Provider(msgspec.Struct, frozen=True, kw_only=True):
    """A service provider that the owner trusts; `key` is SubjectPublicKeyInfo, DER.

    `fingerprint` is the SHA-256 of the key, in hexadecimal.
    """

    name: ProviderName
    fingerprint: Annotated[
        str, msgspec.Meta(min_length=2 * DIGEST_BYTES, max_length=2 * DIGEST_BYTES)
    ]
    key: ProviderKey


class ServiceRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The end of the record: `head` is the SHA-256 of the newest entry, zeros before the first.

    `last` is that entry (COSE_Sign1), empty before the first.
    """

    entries: Count
    head: Digest
    last: _Entry
    providers: tuple[Provider, ...]


class Signed(msgspec.Struct, frozen=True, kw_only=True):
    """An entry that was just signed, and the record as it is with it."""

    entry: _Entry
    entries: Count
    head: Digest


def read_record(reply: dict[str, Any]) -> ServiceRecord:
    """The vault's answer to `service`; raises PeerError for another one."""
    providers = reply.get("providers")
    listed = decode_plain(providers) if isinstance(providers, bytes) else None
    if not isinstance(listed, list):
        raise PeerError("no list of providers")
    return _convert(reply | {"providers": [_provider(each) for each in listed]}, ServiceRecord)


def read_signed(reply: dict[str, Any]) -> Signed:
    """The vault's answer to `record_service`; raises PeerError for another one."""
    return _convert(reply, Signed)


def _provider(listed: Any) -> dict[str, Any]:
    match listed:
        case [str(name), bytes(key)]:
            return {"name": name, "fingerprint": hashlib.sha256(key).hexdigest(), "key": key}
    raise PeerError("a provider that is none")


def _convert(value: dict[str, Any], kind: type[_Kind]) -> _Kind:
    try:
        return msgspec.convert(value, kind, builtin_types=(bytes,))
    except msgspec.ValidationError:
        raise PeerError("fields that are none") from None
