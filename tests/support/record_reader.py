"""Work orders and entries of the service record, read as docs/work-orders.md and
docs/service-record.md say.

Written from those documents alone, with another library than the chip's, so that it is also a
second reading of them. The product never imports it.
"""

import hashlib
from typing import Any, Final

import cbor2
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key

from tests.support.authority import encode

NO_HEAD: Final = bytes(32)
"""The head of a record without entries."""

_COORDINATE_BYTES = 32
_HEADER_ALGORITHM, _HEADER_KEY_ID, _HEADER_TYPE = 1, 4, 16
_ES256 = -7
_COSE_SIGN1 = 18


def head(entry: bytes) -> bytes:
    """What the entry after this one names, and the chip if there is none."""
    return hashlib.sha256(entry).digest()


def read_order(order: bytes, order_key: bytes) -> dict[str, Any]:
    """The fields of an order that was signed with this key (SubjectPublicKeyInfo, DER).

    Raises InvalidSignature for another's, AssertionError for another form.
    """
    key_id, fields = _read(order, order_key, "work-order", b"spacegray work order 1")
    assert len(order) <= 512
    assert key_id == hashlib.sha256(order_key).digest()
    return fields


def read_entry(entry: bytes, identity_key: bytes) -> dict[str, Any]:
    """The fields of an entry that the chip with this key (SubjectPublicKeyInfo, DER) signed.

    Raises as `read_order`. Number and chain are not looked at.
    """
    key_id, fields = _read(entry, identity_key, "service-entry", b"spacegray service entry 1")
    assert len(entry) <= 1024
    x, y = identity_key[-2 * _COORDINATE_BYTES : -_COORDINATE_BYTES], identity_key[-32:]
    assert key_id == hashlib.sha256(encode({1: 2, -1: 1, -2: x, -3: y})).digest()
    assert (fields["type"], fields["version"]) == ("service entry", 1)
    return fields


def _read(signed: bytes, spki: bytes, kind: str, external: bytes) -> tuple[bytes, dict[str, Any]]:
    message = cbor2.loads(signed)
    assert message.tag == _COSE_SIGN1
    assert encode(message) == signed
    protected, unprotected, payload, signature = message.value
    header = cbor2.loads(protected)
    assert (unprotected, header[_HEADER_ALGORITHM]) == ({}, _ES256)
    assert header[_HEADER_TYPE] == f"application/x-spacegray-{kind}+cbor"
    key = load_der_public_key(spki)
    assert isinstance(key, ec.EllipticCurvePublicKey)
    r, s = signature[:_COORDINATE_BYTES], signature[_COORDINATE_BYTES:]
    key.verify(
        encode_dss_signature(int.from_bytes(r), int.from_bytes(s)),
        encode(["Signature1", protected, external, payload]),
        ec.ECDSA(SHA256()),
    )
    fields = cbor2.loads(payload)
    assert isinstance(fields, dict)
    assert encode(fields) == payload
    return header[_HEADER_KEY_ID], fields
