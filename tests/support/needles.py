"""The forms in which a secret could lie about: what to look for, given the secret.

A key is as good in hex, in base64 or expanded: a cipher in use keeps its round keys, in the order
of FIPS 197 or turned around for decryption and for the processor's byte order, long after the
program has forgotten the key itself.
"""

import base64
from collections.abc import Iterator

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_der_private_key

WORD_BYTES = 4
ROUND_KEY_BYTES = 16
PEM_PART = slice(100, 164)
"""A part of a private key's PEM that no other has: the beginning says only what it is."""

Needles = dict[str, bytes]


def of_key(name: str, key: bytes) -> Needles:
    """Of a secret of 16 or 32 bytes that may be an AES key."""
    return {**of_bytes(name, key), **dict(_schedule(name, key))}


def of_bytes(name: str, secret: bytes) -> Needles:
    """Of any secret bytes."""
    return {
        name: secret,
        f"{name}, turned": secret[::-1],
        f"{name}, hex": secret.hex().encode(),
        f"{name}, HEX": secret.hex().upper().encode(),
        # Without what depends on the bytes beside it.
        f"{name}, base64": base64.b64encode(secret).rstrip(b"=")[:-1],
    }


def of_private_key(name: str, pkcs8: bytes) -> Needles:
    """Of a private key in PKCS#8 DER: each of its secret numbers, in either byte order."""
    key = load_der_private_key(pkcs8, None)
    if isinstance(key, EllipticCurvePrivateKey):
        numbers = {"d": key.private_numbers().private_value}
    else:
        assert isinstance(key, RSAPrivateKey)
        private = key.private_numbers()
        numbers = {"p": private.p, "q": private.q, "d": private.d}
    found = {f"{name}, PEM": base64.b64encode(pkcs8)[PEM_PART]}
    for letter, number in numbers.items():
        length = (number.bit_length() + 7) // 8
        found[f"{name} {letter}, big endian"] = number.to_bytes(length, "big")
        found[f"{name} {letter}, little endian"] = number.to_bytes(length, "little")
    return found


def of_text(name: str, text: str) -> Needles:
    """Of a password: as programs keep text."""
    return {
        f"{name}, UTF-8": text.encode(),
        f"{name}, UTF-16": text.encode("utf-16-le"),
        f"{name}, UTF-16, big endian": text.encode("utf-16-be"),
        f"{name}, UTF-32": text.encode("utf-32-le"),
        f"{name}, base64": base64.b64encode(text.encode()).rstrip(b"=")[:-1],
    }


def _schedule(name: str, key: bytes) -> Iterator[tuple[str, bytes]]:
    """A round key from the middle of the key's schedule: whoever has the schedule has it.

    Both ways of the cipher (FIPS 197, 5.2 and the equivalent inverse cipher of 5.3.5), each with
    its words as they are, each word turned, and all turned.
    """
    keys = expand(key)
    middle = len(keys) // 2
    for way, round_key in (("encrypting", keys[middle]), ("decrypting", _inverse(keys[middle]))):
        words = [round_key[at : at + WORD_BYTES] for at in range(0, ROUND_KEY_BYTES, WORD_BYTES)]
        yield f"{name}, schedule for {way}", round_key
        yield f"{name}, schedule for {way}, words turned", b"".join(word[::-1] for word in words)
        yield f"{name}, schedule for {way}, turned", round_key[::-1]


def expand(key: bytes) -> list[bytes]:
    """The round keys of an AES key of 16 or 32 bytes (FIPS 197, 5.2)."""
    length = len(key) // WORD_BYTES
    words = [key[at : at + WORD_BYTES] for at in range(0, len(key), WORD_BYTES)]
    constant = 1
    while len(words) < 4 * (length + 7):
        word = words[-1]
        if len(words) % length == 0:
            word = bytes(_SBOX[byte] for byte in word[1:] + word[:1])
            word = bytes([word[0] ^ constant]) + word[1:]
            constant = _times(constant, 2)
        elif length > 6 and len(words) % length == 4:
            word = bytes(_SBOX[byte] for byte in word)
        words.append(bytes(a ^ b for a, b in zip(words[-length], word, strict=True)))
    return [b"".join(words[at : at + 4]) for at in range(0, len(words), 4)]


def _inverse(round_key: bytes) -> bytes:
    """InvMixColumns (FIPS 197, 5.3.3)."""
    mixed = bytearray()
    for at in range(0, ROUND_KEY_BYTES, WORD_BYTES):
        column = round_key[at : at + WORD_BYTES]
        for row in range(WORD_BYTES):
            factors = (14, 11, 13, 9)
            terms = (_times(column[(row + k) % 4], factors[k]) for k in range(4))
            value = 0
            for term in terms:
                value ^= term
            mixed.append(value)
    return bytes(mixed)


def _times(a: int, b: int) -> int:
    """Multiplication in AES's field."""
    product = 0
    while b:
        product ^= a if b & 1 else 0
        a = a << 1 ^ (0x11B if a & 0x80 else 0)
        b >>= 1
    return product


def _sbox() -> bytes:
    """The S-box (FIPS 197, 5.1.1): the inverse, then an affine map."""
    table = bytearray(256)
    for value in range(256):
        inverse = next((x for x in range(256) if _times(value, x) == 1), 0)
        bits = 0x63
        for turn in range(5):
            bits ^= (inverse << turn | inverse >> (8 - turn)) & 0xFF
        table[value] = bits
    return bytes(table)


_SBOX = _sbox()
