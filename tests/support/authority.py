"""A signing authority for tests, in Python: what `authorityd` does, and what only a forger would.

Written from docs/tickets.md alone, so that it is also a second reading of that document. Its keys
are ordinary objects; nothing here is for anybody's machine.
"""

import functools
import hashlib
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import cbor2
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

COMPONENTS: Final = (
    "firmware",
    "variables",
    "kernel",
    "system",
    "recovery",
    "recovery_kernel",
)
TYPE: Final = "application/x-spacegray-ticket+cbor"
AAD: Final = b"spacegray ticket 1"
PRODUCT: Final = "tiny"
EPOCH: Final = 1_700_000_000

_COORDINATE_BYTES = 32
_HEADER_ALGORITHM, _HEADER_KEY_ID, _HEADER_TYPE = 1, 4, 16
_ES256 = -7
_COSE_SIGN1 = 18
_SPC_INDIRECT_DATA = "2b060104018237020104"
_SPC_PE_IMAGE_DATA = bytes.fromhex("3033060a2b06010401823702010f3025030100a020a21e801c") + (
    "<<<Obsolete>>>".encode("utf-16-be")
)


def encode(value: object) -> bytes:
    """CBOR, in the deterministic form."""
    return cbor2.dumps(value, canonical=True)


def components(seed: str = "one", **changed: bytes) -> dict[str, bytes]:
    """Six digests, the same ones for the same seed."""
    made = {name: hashlib.sha256(f"{seed} {name}".encode()).digest() for name in COMPONENTS}
    return made | changed


def request(ecid: int, nonce: bytes, **changed: object) -> bytes:
    """What a chip asks to be signed; `changed` replaces fields of it."""
    fields: dict[str, object] = {
        "components": components(),
        "ecid": ecid,
        "epoch": EPOCH,
        "nonce": nonce,
        "product": PRODUCT,
        "type": "ticket request",
        "version": 1,
    }
    return encode(fields | changed)


class TestAuthority:
    """An authority with new keys. It signs everything it is asked to, and forgets it."""

    __test__ = False

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.vendor_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.vendor_certificate = _self_signed(self.vendor_key)

    @property
    def ticket_key(self) -> bytes:
        """SubjectPublicKeyInfo, DER: 91 bytes."""
        return self.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    @property
    def vendor(self) -> bytes:
        """The certificate that image signatures lead to, DER."""
        return self.vendor_certificate.public_bytes(Encoding.DER)

    def identity(self) -> "TestAuthority":
        """The same two, as `spacegray.boot.authority.Authority` gives them."""
        return self

    def sign_ticket(self, request: bytes, **changed: object) -> bytes:
        """The ticket for a request. `changed` replaces fields of what is signed, None drops one."""
        fields: dict[str, Any] = cbor2.loads(request)
        fields.pop("type")
        fields = {**fields, "issued": int(time.time()), **changed}
        return self.sign_payload(
            encode({name: value for name, value in fields.items() if value is not None})
        )

    def sign_payload(
        self,
        payload: bytes,
        *,
        aad: bytes = AAD,
        header: Mapping[int, object] | None = None,
        unprotected: Mapping[int, object] | None = None,
    ) -> bytes:
        """Any payload as a COSE_Sign1; `header` replaces members of the protected header."""
        members: dict[int, object] = {
            _HEADER_ALGORITHM: _ES256,
            _HEADER_KEY_ID: hashlib.sha256(self.ticket_key).digest(),
            _HEADER_TYPE: TYPE,
        }
        protected = encode(members | dict(header or {}))
        signature = self.sign(encode(["Signature1", protected, aad, payload]))
        parts = [protected, dict(unprotected or {}), payload, signature]
        return encode(cbor2.CBORTag(_COSE_SIGN1, parts))

    def sign(self, message: bytes) -> bytes:
        """ES256: both numbers with 32 bytes each."""
        numbers = decode_dss_signature(self.key.sign(message, ec.ECDSA(SHA256())))
        return b"".join(number.to_bytes(_COORDINATE_BYTES, "big") for number in numbers)

    def sign_image(self, digest: bytes) -> bytes:
        """PKCS#7 SignedData for an image with this Authenticode digest, DER."""
        sha256 = _der(0x30, bytes.fromhex("0609608648016503040201"), b"\x05\x00")
        indirect = _oid(_SPC_INDIRECT_DATA)
        content = _SPC_PE_IMAGE_DATA + _der(0x30, sha256, _der(0x04, digest))
        content_type = _der(0x30, _oid("2a864886f70d010903"), _der(0x31, indirect))
        message_digest = _der(
            0x30,
            _oid("2a864886f70d010904"),
            _der(0x31, _der(0x04, hashlib.sha256(content).digest())),
        )
        attributes = content_type + message_digest
        signature = self.vendor_key.sign(_der(0x31, attributes), padding.PKCS1v15(), SHA256())
        certificate = self.vendor_certificate
        serial = certificate.serial_number.to_bytes(20, "big").lstrip(b"\0")
        signer = _der(
            0x30,
            _der(0x02, b"\x01"),
            _der(0x30, certificate.issuer.public_bytes(), _der(0x02, serial)),
            sha256,
            _der(0xA0, attributes),
            _der(0x30, _oid("2a864886f70d010101"), b"\x05\x00"),
            _der(0x04, signature),
        )
        signed = _der(
            0x30,
            _der(0x02, b"\x01"),
            _der(0x31, sha256),
            _der(0x30, indirect, _der(0xA0, _der(0x30, content))),
            _der(0xA0, self.vendor),
            _der(0x31, signer),
        )
        return _der(0x30, _oid("2a864886f70d010702"), _der(0xA0, signed))


@functools.cache
def the_authority() -> TestAuthority:
    """One for all tests of this process that do not care which: making RSA keys takes time."""
    return TestAuthority()


@functools.cache
def another_authority() -> TestAuthority:
    """One that nobody pinned."""
    return TestAuthority()


def _self_signed(key: rsa.RSAPrivateKey) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test Vendor")])
    usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING])
    # Seven bits in the first byte and not zero: as long as it says, and positive.
    serial = int.from_bytes(b"\x40" + hashlib.sha256(str(key.key_size).encode()).digest()[:15])
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(datetime(2017, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=False)
        .sign(key, SHA256())
    )


def _der(tag: int, *parts: bytes) -> bytes:
    content = b"".join(parts)
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + content


def _oid(encoded: str) -> bytes:
    return _der(0x06, bytes.fromhex(encoded))
