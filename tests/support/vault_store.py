"""A plain reader of the vault's store and anchor file: state folder in, secrets out.

Written from docs/vault-store.md alone, in another language and with another library than the
vault, so it checks that document too. Tests use it as the planted control: only who knows the
secrets can look for them everywhere else. The product never imports it.
"""

import hashlib
import hmac
import struct
from dataclasses import dataclass
from pathlib import Path

import cbor2
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

HEADER = struct.Struct(">8sHHIQ32s")
CHECK_SUM_SIZE_BYTES = 32
NONCE = bytes(12)
SLOT = struct.Struct(">8sHHIQQ")
SLOT_SIZE_BYTES = 4096
MAC_SIZE_BYTES = 32


class StoreError(Exception):
    """The folder's store cannot be read with the folder's key."""


def read_secrets(state_folder: Path) -> dict[str, bytes]:
    """The chip's secrets by name.

    `sealing_key` and `volume_key` are 32 raw bytes, `identity_key` and `boot_signing_key` PKCS#8
    DER. Raises `StoreError` if the store is damaged or its key is another's, `OSError` if a file
    is missing.
    """
    sealing_key = (state_folder / "sealing.key").read_bytes()
    contents = read_contents((state_folder / "vault.sealed").read_bytes(), sealing_key)
    secrets = {name: contents[name] for name in ("identity_key", "boot_signing_key", "volume_key")}
    return {"sealing_key": sealing_key, **secrets}


def read_contents(store: bytes, sealing_key: bytes) -> dict[str, bytes]:
    """Everything that is sealed in the bytes of a store, certificates included."""
    body, check_sum = store[:-CHECK_SUM_SIZE_BYTES], store[-CHECK_SUM_SIZE_BYTES:]
    if len(body) < HEADER.size or hashlib.sha256(body).digest() != check_sum:
        raise StoreError("the check sum does not fit")
    magic, version, seal_kind, contents_size, _ecid, salt = HEADER.unpack_from(body)
    if (magic, version, seal_kind) != (b"SGVAULT\0", 2, 1):
        raise StoreError("not a store of version 2 under a key file")
    header, sealed = body[: HEADER.size], body[HEADER.size :]
    key = HKDF(SHA256(), 32, salt, b"spacegray vault store 2").derive(sealing_key)
    try:
        plain = AESGCM(key).decrypt(NONCE, sealed, header)
    except InvalidTag:
        raise StoreError("sealed with another key") from None
    if len(plain) != contents_size:
        raise StoreError("the contents have another size")
    contents = cbor2.loads(plain)
    if not isinstance(contents, dict):
        raise StoreError("the contents are no map")
    return contents


def ecid(store: bytes) -> int:
    """The chip's number in a store's header."""
    number = HEADER.unpack_from(store)[4]
    if not isinstance(number, int):
        raise StoreError("the header has no number")
    return number


@dataclass(frozen=True)
class Slot:
    """What a whole slot of the anchor file says."""

    number: int
    counter: int
    sequence: int
    anchor: bytes


def read_anchors(state_folder: Path) -> list[Slot]:
    """The whole slots of the anchor file, the newest first; empty when it is damaged."""
    store = (state_folder / "vault.sealed").read_bytes()
    sealing_key = (state_folder / "sealing.key").read_bytes()
    salt = read_contents(store, sealing_key)["anchor_salt"]
    info = b"spacegray vault anchor 1" + ecid(store).to_bytes(8, "big")
    key = HKDF(SHA256(), 32, salt, info).derive(sealing_key)
    content = (state_folder / "anchor").read_bytes()
    if len(content) != 2 * SLOT_SIZE_BYTES:
        return []
    slots = []
    for number in range(2):
        raw = content[number * SLOT_SIZE_BYTES :][:SLOT_SIZE_BYTES]
        body, mac = raw[:-MAC_SIZE_BYTES], raw[-MAC_SIZE_BYTES:]
        magic, version, size, own_number, counter, sequence = SLOT.unpack_from(body)
        right = hmac.compare_digest(hmac.digest(key, body, "sha256"), mac)
        if right and (magic, version, own_number) == (b"SGANCHR\0", 1, number):
            anchor = body[SLOT.size : SLOT.size + size]
            slots.append(Slot(number, counter, sequence, anchor))
    return sorted(slots, key=lambda slot: -slot.counter)
