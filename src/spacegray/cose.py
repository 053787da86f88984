"""COSE_Sign1 with ES256 (RFC 9052, RFC 9053), as chips sign what is to be kept: read and checked.

It is taken in one form alone, so that not even how it is packed can be changed unnoticed. Nothing
in it is true before `Sign1.signed_by`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import cbor2
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

ALGORITHM: Final = 1
KEY_ID: Final = 4
TYPE: Final = 16
"""Labels in the protected header."""
ES256: Final = -7
COORDINATE_BYTES: Final = 32
"""Of a point of P-256, and of each half of a signature."""
DEPTH_LIMIT: Final = 4
_TAG: Final = 18


@dataclass(frozen=True)
class Sign1:
    """A COSE_Sign1, taken apart."""

    protected: bytes
    header: Mapping[Any, Any]
    payload: bytes
    content: Mapping[Any, Any]
    signature: bytes

    @classmethod
    def parse(cls, signed: bytes) -> "Sign1":
        """Its parts; raises ValueError where it is none over a map."""
        match decode(signed):
            case cbor2.CBORTag(
                tag=18, value=[bytes(protected), {**extra}, bytes(payload), bytes(signature)]
            ) if not extra and len(signature) == 2 * COORDINATE_BYTES:
                parts = [protected, {}, payload, signature]
                header, content = decode(protected), decode(payload)
                if (
                    cbor2.dumps(cbor2.CBORTag(_TAG, parts)) == signed
                    and isinstance(header, Mapping)
                    and isinstance(content, Mapping)
                ):
                    return cls(protected, header, payload, content, signature)
        raise ValueError("it is no COSE_Sign1 over a map")

    def signed_by(self, key: ec.EllipticCurvePublicKey, external: bytes = b"") -> bool:
        """Whether it was signed with this key, over this external data."""
        r, s = self.signature[:COORDINATE_BYTES], self.signature[COORDINATE_BYTES:]
        signature = encode_dss_signature(int.from_bytes(r), int.from_bytes(s))
        signed = cbor2.dumps(["Signature1", self.protected, external, self.payload])
        try:
            key.verify(signature, signed, ec.ECDSA(SHA256()))
        except InvalidSignature:
            return False
        return True


def decode(data: bytes) -> Any:
    """One CBOR item of definite lengths, not nested deeply, no key twice; raises ValueError."""
    try:
        return cbor2.loads(
            data, max_depth=DEPTH_LIMIT, allow_indefinite=False, allow_duplicate_keys=False
        )
    except (cbor2.CBORError, ValueError, TypeError, RecursionError, MemoryError):
        raise ValueError("it is no CBOR, or none that is taken") from None
