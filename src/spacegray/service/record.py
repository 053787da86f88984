"""The service record: its file, its entries, and whether an entry is what a chip signed.

Whoever may write to the workstation's folder may have changed any byte of it: all is bounded, and
taken in one form only. What ties the entries together, and to the chip, is in `history`.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_der_public_key, load_pem_public_key

from spacegray import cose
from spacegray.chip.messages import Job as JobName
from spacegray.chip.service_record import ENTRY_LIMIT_BYTES
from spacegray.cose import Sign1
from spacegray.workstation.jobs import HARDWARE
from spacegray.workstation.under_way import LENGTH_BYTES

ENTRY_LEAST_BYTES: Final = 256
"""Header, fields and signature alone are more than that."""
NOTHING_BEFORE: Final = bytes(32)
"""What the first entry names as the one before."""

_TYPE: Final = "application/x-spacegray-service-entry+cbor"
_EXTERNAL: Final = b"spacegray service entry 1"
_HEADER: Final = {cose.ALGORITHM, cose.KEY_ID, cose.TYPE}
_LEAVES: Final = ((0, 0), (32, 16))
"""The sizes of a provider's fingerprint and an order's number: there are both, or neither."""

By = Literal["owner", "owner with password", "provider"]
_U64 = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
_Time = Annotated[int, msgspec.Meta(ge=0, le=253_402_300_799)]
"""Until the end of the year 9999: no host's clock says more, and no calendar here."""
_Digest = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]


class _Said(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is signed of an entry, as it lies there."""

    ecid: int
    type: Literal["service entry"]
    version: Literal[1]
    number: _U64
    previous: _Digest
    time: _Time
    job: JobName
    by: By
    provider: bytes
    order: bytes
    detail: bytes


@dataclass(frozen=True)
class Entry:
    """One entry, in the right form; `signed_by` says whether it is true."""

    ecid: str
    number: int
    previous: bytes
    """The head before it."""
    time: int
    """Unix seconds, by the host's clock."""
    job: str
    by: By
    provider: str
    """The fingerprint of the provider's key, in hexadecimal; empty without one."""
    order: str
    """The work order's number, in hexadecimal; empty without one."""
    detail: Mapping[str, Any]
    head: bytes
    """The record's head with this entry as the newest."""
    sign1: Sign1

    def signed_by(self, key: ec.EllipticCurvePublicKey) -> bool:
        """Whether it was signed with this key."""
        return self.sign1.signed_by(key, _EXTERNAL)

    def machine(self, when: Literal["before", "after"]) -> dict[str, Any]:
        """The hardware before or after the job, as far as the entry says it in plain values."""
        said = self.detail.get(when)
        if not isinstance(said, Mapping):
            return {}
        return {name: said[name] for name in HARDWARE if name in said and _is_plain(said[name])}

    @property
    def key(self) -> ec.EllipticCurvePublicKey | None:
        """The identity key that a chip's first entry says is its own."""
        said = self.detail.get("key")
        return _identity(said) if isinstance(said, bytes) else None


def split(found: bytes) -> tuple[list[bytes], bool]:
    """The entries in a record's file, unread; and whether it ends with a whole one."""
    entries: list[bytes] = []
    place = 0
    while place < len(found):
        begin = place + LENGTH_BYTES
        size = int.from_bytes(found[place:begin])
        if not ENTRY_LEAST_BYTES <= size <= min(ENTRY_LIMIT_BYTES, len(found) - begin):
            break
        entries.append(found[begin : begin + size])
        place = begin + size
    return entries, place == len(found)


def read(signed: bytes) -> Entry:
    """The entry in these bytes; raises ValueError where they are none."""
    try:
        sign1 = Sign1.parse(signed)
        fields = msgspec.convert(sign1.content, _Said, builtin_types=(bytes,))
        detail = cose.decode(fields.detail) if fields.detail else {}
    except (ValueError, TypeError):
        raise ValueError("it is no service entry") from None
    header = sign1.header
    if set(header) != _HEADER or (header[cose.ALGORITHM], header[cose.TYPE]) != (cose.ES256, _TYPE):
        raise ValueError("it is no service entry")
    plain = isinstance(detail, Mapping) and 0 <= fields.ecid < 2**64
    if not plain or (len(fields.provider), len(fields.order)) not in _LEAVES:
        raise ValueError("it is no service entry")
    return Entry(
        ecid=f"0x{fields.ecid:016x}",
        number=fields.number,
        previous=fields.previous,
        time=fields.time,
        job=fields.job,
        by=fields.by,
        provider=fields.provider.hex(),
        order=fields.order.hex(),
        detail=detail,
        head=hashlib.sha256(signed).digest(),
        sign1=sign1,
    )


def identity_key(pem: str) -> ec.EllipticCurvePublicKey:
    """A chip's identity key, as `chip show` has it."""
    key = load_pem_public_key(pem.encode())
    assert isinstance(key, ec.EllipticCurvePublicKey), "every chip's is one"
    return key


def _identity(der: bytes) -> ec.EllipticCurvePublicKey | None:
    try:
        key = load_der_public_key(der)
    except (ValueError, UnsupportedAlgorithm):
        return None
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
        return key
    return None


def _is_plain(value: object) -> bool:
    """Whether it can be shown: nobody may have vouched for what stands there."""
    return isinstance(value, int) or (isinstance(value, str) and value.isprintable())
