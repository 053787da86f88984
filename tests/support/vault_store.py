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
from typing import Any

import cbor2
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap

STORE_SIZE_BYTES = 16384
HEADER = struct.Struct(">8sHHIQ32s64s")
CHECK_SUM_SIZE_BYTES = 32
TAG_SIZE_BYTES = 16
NONCE = bytes(12)
SLOT = struct.Struct(">8sHHIQQ")
SLOT_SIZE_BYTES = 4096
MAC_SIZE_BYTES = 32

KEY_FILE, PASSPHRASE, TPM = 1, 2, 3
"""Kinds of seals."""
PASSPHRASE_TANGLE = b"spacegray passphrase seal 1".ljust(32, b"\0")


class StoreError(Exception):
    """The folder's store cannot be read with what was given."""


@dataclass(frozen=True)
class Header:
    """What a store says of itself to everybody."""

    seal_kind: int
    ecid: int
    salt: bytes
    parameters: bytes
    contents_size: int


def read_secrets(
    state_folder: Path, *, passphrase: bytes | None = None, password: bytes | None = None
) -> dict[str, bytes]:
    """The chip's secrets by name.

    `sealing_key`, `uid`, `media_key` and `volume_key` are 32 raw bytes, `identity_key` is PKCS#8
    DER. Raises `StoreError` if the store is damaged, its key is
    another's or a secret is missing or wrong, `OSError` if a file is missing.
    """
    store = (state_folder / "vault.sealed").read_bytes()
    key = sealing_key(state_folder, passphrase=passphrase)
    contents = read_contents(store, key)
    names = ("uid", "identity_key", "media_key")
    secrets = {name: contents[name] for name in names}
    return {"sealing_key": key, **secrets, "volume_key": volume_key(contents, password=password)}


def sealing_key(state_folder: Path, *, passphrase: bytes | None = None) -> bytes:
    """What the store is sealed with: from the key file or a passphrase; a TPM's is out of reach."""
    seal = header((state_folder / "vault.sealed").read_bytes())
    if seal.seal_kind == KEY_FILE:
        return (state_folder / "sealing.key").read_bytes()
    if seal.seal_kind != PASSPHRASE or passphrase is None:
        raise StoreError("the sealing key is not in the folder")
    salt, (memory, passes) = seal.parameters[:32], struct.unpack_from(">II", seal.parameters, 32)
    return _argon2(passphrase, salt, memory, passes, PASSPHRASE_TANGLE)


def header(store: bytes) -> Header:
    """The header of a whole store."""
    body, check_sum = store[:-CHECK_SUM_SIZE_BYTES], store[-CHECK_SUM_SIZE_BYTES:]
    if len(store) != STORE_SIZE_BYTES or hashlib.sha256(body).digest() != check_sum:
        raise StoreError("the check sum does not fit")
    magic, version, seal_kind, size, number, salt, parameters = HEADER.unpack_from(body)
    if (magic, version) != (b"SGVAULT\0", 5):
        raise StoreError("not a store of version 5")
    return Header(seal_kind, number, salt, parameters, size)


def read_contents(store: bytes, sealing_key: bytes) -> dict[str, Any]:
    """Everything that is sealed in the bytes of a store, certificates and counters included."""
    seal = header(store)
    sealed = store[HEADER.size :][: seal.contents_size + TAG_SIZE_BYTES]
    key = HKDF(SHA256(), 32, seal.salt, b"spacegray vault store 5").derive(sealing_key)
    try:
        plain = AESGCM(key).decrypt(NONCE, sealed, store[: HEADER.size])
    except InvalidTag:
        raise StoreError("sealed with another key") from None
    contents = cbor2.loads(plain)
    if not isinstance(contents, dict):
        raise StoreError("the contents are no map")
    return contents


def with_contents(store: bytes, sealing_key: bytes, contents: dict[str, Any]) -> bytes:
    """The same store with other contents: what whoever has the sealing key can make of it."""
    magic, version, kind, _, ecid, salt, parameters = HEADER.unpack_from(store)
    plain = cbor2.dumps(contents)
    head = HEADER.pack(magic, version, kind, len(plain), ecid, salt, parameters)
    key = HKDF(SHA256(), 32, salt, b"spacegray vault store 5").derive(sealing_key)
    body = head + AESGCM(key).encrypt(NONCE, plain, head)
    body = body.ljust(STORE_SIZE_BYTES - CHECK_SUM_SIZE_BYTES, b"\0")
    return body + hashlib.sha256(body).digest()


def volume_key(contents: dict[str, Any], *, password: bytes | None = None) -> bytes:
    """The disk's key in a store's contents, whose owner's password may be needed."""
    if not contents["media_key"]:
        raise StoreError("there is no key: the disk was erased")
    try:
        inner = aes_key_unwrap(contents["media_key"], contents["volume_key"])
        return aes_key_unwrap(class_key(contents, password=password), inner)
    except InvalidUnwrap:
        raise StoreError("a key does not unwrap") from None


def class_key(contents: dict[str, Any], *, password: bytes | None = None) -> bytes:
    """The key above the volume key; raises `StoreError` without the right password."""
    uid = contents["uid"]
    if password is None:
        wrapped, key = contents["class_key_by_uid"], _derive(uid, b"spacegray class key 1")
    else:
        wrapped = contents["class_key_by_password"]
        memory, passes = contents["password_memory_kib"], contents["password_passes"]
        tangle = _derive(uid, b"spacegray password 1")
        key = _argon2(password, contents["password_salt"], memory, passes, tangle)
    if not wrapped:
        raise StoreError("the class key is wrapped by something else")
    try:
        return aes_key_unwrap(key, wrapped)
    except InvalidUnwrap:
        raise StoreError("the password is wrong") from None


def is_firmware_password(contents: dict[str, Any], password: bytes) -> bool:
    """Whether this is the firmware password in a store's contents."""
    salt = contents["firmware_password_salt"]
    memory = contents["firmware_password_memory_kib"]
    passes = contents["firmware_password_passes"]
    tangle = _derive(contents["uid"], b"spacegray firmware password 1")
    key = _argon2(password, salt, memory, passes, tangle)
    check = _derive(key, b"spacegray firmware password check 1")
    return hmac.compare_digest(check, contents["firmware_password_check"])


def _derive(key: bytes, info: bytes) -> bytes:
    return HKDF(SHA256(), 32, None, info).derive(key)


def _argon2(secret: bytes, salt: bytes, memory_kib: int, passes: int, tangle: bytes) -> bytes:
    return Argon2id(
        salt=salt,
        length=32,
        iterations=passes,
        lanes=1,
        memory_cost=memory_kib,
        secret=tangle,
    ).derive(secret)


@dataclass(frozen=True)
class Slot:
    """What a whole slot of the anchor file says."""

    number: int
    counter: int
    sequence: int
    anchor: bytes


def read_anchors(state_folder: Path, *, passphrase: bytes | None = None) -> list[Slot]:
    """The whole slots of the anchor file that fit to the store, the newest first."""
    store = (state_folder / "vault.sealed").read_bytes()
    sealed_with = sealing_key(state_folder, passphrase=passphrase)
    salt = read_contents(store, sealed_with)["epoch_salt"]
    info = b"spacegray vault anchor 1" + header(store).ecid.to_bytes(8, "big")
    key = HKDF(SHA256(), 32, salt, info).derive(sealed_with)
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
    return sorted(slots, key=lambda slot: (-slot.counter, -slot.number))
