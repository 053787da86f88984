"""A plain reader of recovery keys and recovery bundles.

Written from docs/vault-store.md alone, with another library's HPKE, so it checks that document
too. The product never imports it.
"""

import hashlib
import struct
from dataclasses import dataclass
from typing import Any, Final

import cbor2
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
DATA_CHARACTERS: Final = 26
KEY_SIZE_BYTES: Final = 32
HEADER: Final = struct.Struct(">8sHHIQ")
CHECK_SUM_SIZE_BYTES: Final = 32


class BundleError(Exception):
    """It is no bundle, or not this key's."""


@dataclass(frozen=True)
class Bundle:
    """What is in a recovery bundle."""

    ecid: int
    contents: dict[str, Any]


def key_material(text: str) -> bytes:
    """What is derived from, of a recovery key as it is shown."""
    values = bytes(ALPHABET.index(character) for character in text.strip().replace("-", ""))
    for root in (2, 4):
        remainder = 0
        for value in values:
            remainder = _times(remainder, root) ^ value
        if remainder:
            raise BundleError("no recovery key")
    return values[:DATA_CHARACTERS].ljust(KEY_SIZE_BYTES, b"\0")


def open_bundle(text: str, bundle: bytes) -> Bundle:
    """What the recovery key `text` finds in `bundle`."""
    body, check_sum = bundle[:-CHECK_SUM_SIZE_BYTES], bundle[-CHECK_SUM_SIZE_BYTES:]
    if hashlib.sha256(body).digest() != check_sum:
        raise BundleError("the check sum does not fit")
    header, sealed = body[: HEADER.size], body[HEADER.size :]
    magic, version, zero, size, ecid = HEADER.unpack(header)
    if (magic, version, zero) != (b"SGBUNDL\0", 2, 0):
        raise BundleError("not a bundle of version 2")
    derived = HKDF(SHA256(), KEY_SIZE_BYTES, None, b"spacegray recovery bundle key 1")
    key = X25519PrivateKey.from_private_bytes(derived.derive(key_material(text)))
    suite = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
    try:
        plain = suite.decrypt(sealed, key, info=b"spacegray recovery bundle 2" + header)
    except InvalidTag:
        raise BundleError("sealed for another key") from None
    if len(plain) != size:
        raise BundleError("the contents have another size")
    return Bundle(ecid, cbor2.loads(plain))


def _times(left: int, right: int) -> int:
    """The product in the field of 32 elements (x^5 + x^2 + 1)."""
    product = 0
    for bit in range(5):
        if right >> bit & 1:
            product ^= left << bit
    for bit in range(8, 4, -1):
        if product >> bit & 1:
            product ^= 0b100101 << (bit - 5)
    return product
