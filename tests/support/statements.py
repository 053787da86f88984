"""Statements as docs/attestation.md describes them, made in a few lines of Python.

Tests make with it what a vault never would: statements that are signed and still wrong. The
product never imports it.
"""

import hashlib
from typing import Any, Final

import cbor2
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

ATTESTATION: Final = (
    "application/eat+cwt",
    "urn:uuid:d3ccd656-a3f3-47b1-bb8e-e64356ad43d2",
)
RECEIPT: Final = (
    "application/x-spacegray-receipt+cwt",
    "urn:uuid:5944d792-4254-4fd6-8c26-6f695374aa08",
)


class Signer:
    """An identity key outside of any vault."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        numbers = self.key.public_key().public_numbers()
        self.cose_key = {1: 2, -1: 1, -2: numbers.x.to_bytes(32), -3: numbers.y.to_bytes(32)}
        self.thumbprint = hashlib.sha256(cbor2.dumps(self.cose_key)).digest()
        self.pem = self.key.public_key().public_bytes(
            Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
        )

    def header(self, kind: tuple[str, str]) -> dict[int, Any]:
        """The protected header of a statement of this kind."""
        return {1: -7, 4: self.thumbprint, 16: kind[0]}

    def claims(self, kind: tuple[str, str]) -> dict[int | str, Any]:
        """All claims of a statement of this kind, each with some right value."""
        common: dict[int | str, Any] = {
            8: {1: self.cose_key},
            256: b"\x01" + self.thumbprint,
            265: kind[1],
            "ecid": 0x0123456789ABCDEF,
            "lives": 1,
            "boundaries": 7,
        }
        if kind == RECEIPT:
            return common | {"destroyed": [{"what": "a key", "place": "a file", "how": "wiped"}]}
        return common | {
            10: b"12345678",
            270: "spacegray vault",
            271: ["1.2.3", 16384],
            "life": "in use",
            "seal": "keyfile",
            "root": "software",
            "password_required": True,
            "recovery_key": False,
            "rollbacks": 2,
            "policy": "full",
            "external_boot": False,
            "other_systems": False,
            "firmware_password": False,
            "minimum_epoch": 0,
            "authority_key_sha256": bytes(32),
            "vendor_certificate_sha256": bytes(32),
            "authorised_by_firmware": cbor2.CBORTag(24, cbor2.dumps({"chip_firmware": "1"})),
        }

    def sign(self, header: Any, claims: Any) -> bytes:
        """A COSE_Sign1 over whatever it is."""
        protected, payload = cbor2.dumps(header), cbor2.dumps(claims)
        signed = cbor2.dumps(["Signature1", protected, b"", payload])
        r, s = decode_dss_signature(self.key.sign(signed, ec.ECDSA(SHA256())))
        signature = r.to_bytes(32) + s.to_bytes(32)
        return cbor2.dumps(cbor2.CBORTag(18, [protected, {}, payload, signature]))

    def statement(self, kind: tuple[str, str], **changes: Any) -> bytes:
        """A statement of this kind; `changes` replaces claims by name."""
        return self.sign(self.header(kind), self.claims(kind) | changes)
