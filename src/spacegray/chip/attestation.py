"""Statements of a chip, checked: attestations and receipts of an erase.

A statement is a COSE_Sign1 over a map of claims; docs/attestation.md has both, claim by claim.
Nothing of one is returned before its signature, its kind and, if asked, its nonce were right. It
trusts nobody but the key that the caller knows: without one it says only that the statement is
whole and by the key that it names.
"""

import hashlib
from typing import Annotated, Any, Final, TypeVar

import cbor2
import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_public_key,
)

from spacegray import cose
from spacegray.chip.messages import decode_map
from spacegray.cose import Sign1
from spacegray.errors import SpacegrayError
from spacegray.sockets import PeerError

STATEMENT_LIMIT_BYTES: Final = 16 * 1024

ATTESTATION_TYPE: Final = "application/eat+cwt"
ATTESTATION_PROFILE: Final = "urn:uuid:d3ccd656-a3f3-47b1-bb8e-e64356ad43d2"
RECEIPT_TYPE: Final = "application/x-spacegray-receipt+cwt"
RECEIPT_PROFILE: Final = "urn:uuid:5944d792-4254-4fd6-8c26-6f695374aa08"
VAULT_NAME: Final = "spacegray vault"

_CLAIM_KEY: Final = 8
_CLAIM_NONCE: Final = 10
_CLAIM_UEID: Final = 256
_CLAIM_PROFILE: Final = 265
_CLAIM_SOFTWARE_NAME: Final = 270
_CLAIM_SOFTWARE_VERSION: Final = 271
_SEMANTIC_VERSION: Final = 16384
_UEID_RANDOM: Final = b"\x01"
_DOING: Final = "checking the statement"

_NAMES: Final = {_CLAIM_NONCE: "nonce"}
"""Claims with a number that are passed on, and under which name."""

_Count = Annotated[int, msgspec.Meta(ge=0)]
_Digest = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]


class _Statement(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every statement says."""

    identity_key: str
    """The key that signed it, PEM."""
    key_is_known: bool
    """Whether the caller named that key; if not, anybody's chip may have said this."""
    ecid: str
    """The chip's number, as `chip show` has it."""
    lives: _Count
    boundaries: _Count

    def plain(self) -> dict[str, Any]:
        """For JSON: byte strings as hexadecimal digits."""
        return {name: _plain(getattr(self, name)) for name in self.__struct_fields__}


class Attestation(_Statement, frozen=True, kw_only=True):
    """The state of a chip, as docs/attestation.md says it."""

    nonce: bytes
    vault_version: str
    life: str
    seal: str
    root: str
    password_required: bool
    recovery_key: bool
    rollbacks: _Count
    policy: str
    external_boot: bool
    other_systems: bool
    firmware_password: bool
    minimum_epoch: _Count
    authority_key_sha256: _Digest
    vendor_certificate_sha256: _Digest
    authorised_by_firmware: dict[str, Any]
    """The firmware's word, not the vault's."""


class Destroyed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One thing that an erase destroyed."""

    what: str
    place: str
    how: str


class Receipt(_Statement, frozen=True, kw_only=True):
    """What an erase destroyed."""

    destroyed: list[Destroyed]


_Kind = TypeVar("_Kind", bound=_Statement)


def verify(
    statement: bytes, *, key_pem: bytes | None = None, nonce: bytes | None = None
) -> Attestation:
    """The attestation in `statement`.

    `key_pem` is the identity key that it has to be signed with, `nonce` what was asked; what is
    not given is not checked. Raises SpacegrayError saying what is wrong with it.
    """
    sign1 = _parse(statement)
    key = _signer(sign1, key_pem)
    claims = _claims(sign1, ATTESTATION_TYPE, ATTESTATION_PROFILE, key)
    if nonce is not None and claims.get(_CLAIM_NONCE) != nonce:
        raise _wrong("it answers another nonce", "have the chip attest again: this one may be old")
    software = claims.pop(_CLAIM_SOFTWARE_NAME, None), claims.pop(_CLAIM_SOFTWARE_VERSION, None)
    match (*software, claims.get("authorised_by_firmware")):
        case (
            str(name),
            [version, scheme],
            cbor2.CBORTag(tag=24, value=bytes(said)),
        ) if name == VAULT_NAME and scheme == _SEMANTIC_VERSION:
            try:
                claims |= {"vault_version": version, "authorised_by_firmware": decode_map(said)}
            except PeerError:
                raise _strange() from None
        case _:
            raise _strange()
    return _convert(claims, Attestation, key, key_pem is not None)


def verify_receipt(statement: bytes, *, key_pem: bytes | None = None) -> Receipt:
    """The receipt in `statement`; otherwise as `verify`."""
    sign1 = _parse(statement)
    key = _signer(sign1, key_pem)
    claims = _claims(sign1, RECEIPT_TYPE, RECEIPT_PROFILE, key)
    return _convert(claims, Receipt, key, key_pem is not None)


def verify_any(
    statement: bytes, *, key_pem: bytes | None = None, nonce: bytes | None = None
) -> Attestation | Receipt:
    """Whichever of the two `statement` is. With a nonce it has to be an attestation."""
    kind = _parse(statement).header.get(cose.TYPE)
    if kind == RECEIPT_TYPE and nonce is None:
        return verify_receipt(statement, key_pem=key_pem)
    return verify(statement, key_pem=key_pem, nonce=nonce)


def _parse(statement: bytes) -> Sign1:
    """The parts of `statement`; raises SpacegrayError when it is none."""
    if len(statement) > STATEMENT_LIMIT_BYTES:
        raise _strange()
    try:
        return Sign1.parse(statement)
    except ValueError:
        raise _strange() from None


def _signer(sign1: Sign1, key_pem: bytes | None) -> ec.EllipticCurvePublicKey:
    """The key that signed it: that in `key_pem` or, without one, the one it names itself.

    Raises SpacegrayError when another did, or it was changed.
    """
    key = _named_key(sign1) if key_pem is None else _load(key_pem)
    if sign1.header.get(cose.KEY_ID) != _thumbprint(key):
        raise _wrong(
            "another key signed it",
            "compare with the identity key that `spacegray chip show` prints for that chip",
        )
    if not sign1.signed_by(key):
        raise _wrong("its signature does not fit", "get it again: it was changed")
    return key


def _claims(
    sign1: Sign1, media_type: str, profile: str, key: ec.EllipticCurvePublicKey
) -> dict[Any, Any]:
    """What a statement of this kind by `key` says, but for its kind and its key."""
    own = _thumbprint(key)
    if sign1.header.get(cose.TYPE) != media_type:
        raise _wrong(
            f"it is another kind of statement, not {media_type}",
            "give an attestation where one is asked for, a receipt where that is",
        )
    if sign1.header != {
        cose.ALGORITHM: cose.ES256,
        cose.KEY_ID: own,
        cose.TYPE: media_type,
    }:
        raise _strange()
    claims = dict(sign1.content)
    said = [claims.pop(name, None) for name in (_CLAIM_PROFILE, _CLAIM_UEID, _CLAIM_KEY)]
    if said != [profile, _UEID_RANDOM + own, {1: _cose_key(key)}]:
        raise _strange()
    return claims


def _named_key(sign1: Sign1) -> ec.EllipticCurvePublicKey:
    match sign1.content.get(_CLAIM_KEY):
        case {1: {-2: bytes(x), -3: bytes(y)}}:
            try:
                return ec.EllipticCurvePublicNumbers(
                    int.from_bytes(x), int.from_bytes(y), ec.SECP256R1()
                ).public_key()
            except ValueError:
                pass
    raise _strange()


def _convert(
    claims: dict[Any, Any],
    kind: type[_Kind],
    key: ec.EllipticCurvePublicKey,
    known: bool,
) -> _Kind:
    pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    fields = {_NAMES.get(name, name): value for name, value in claims.items()}
    ecid = fields.get("ecid")
    if type(ecid) is not int or not 0 <= ecid < 2**64:
        raise _strange()
    fields |= {"ecid": f"0x{ecid:016x}", "identity_key": pem, "key_is_known": known}
    try:
        return msgspec.convert(fields, kind, builtin_types=(bytes,))
    except (msgspec.ValidationError, TypeError):
        raise _strange() from None


def _load(key_pem: bytes) -> ec.EllipticCurvePublicKey:
    try:
        key = load_pem_public_key(key_pem)
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
        return key
    raise _wrong(
        "the key to check with is no identity key",
        "give the one that `spacegray chip show` prints, as PEM",
    )


def _cose_key(key: ec.EllipticCurvePublicKey) -> dict[int, Any]:
    numbers = key.public_numbers()
    x, y = (number.to_bytes(cose.COORDINATE_BYTES) for number in (numbers.x, numbers.y))
    return {1: 2, -1: 1, -2: x, -3: y}


def _thumbprint(key: ec.EllipticCurvePublicKey) -> bytes:
    return hashlib.sha256(cbor2.dumps(_cose_key(key))).digest()


def _plain(value: Any) -> Any:
    match value:
        case bytes():
            return value.hex()
        case dict():
            return {name: _plain(inner) for name, inner in value.items()}
        case list():
            return [_plain(inner) for inner in value]
        case msgspec.Struct():
            return _plain(msgspec.structs.asdict(value))
    return value


def _wrong(stopped_by: str, next_step: str) -> SpacegrayError:
    return SpacegrayError(_DOING, stopped_by, next_step)


def _strange() -> SpacegrayError:
    return _wrong("it is no statement of a chip", "get it again: it is another file, or damaged")
