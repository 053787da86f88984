"""The mailbox's messages: what may be asked, byte-exact in docs/chip-protocol.md.

Trusts nobody: a message is taken only if it is one CBOR map of plain values with exactly the
fields of its operation. No tag is decoded, nothing nests deeper than `DEPTH_LIMIT`.
"""

from typing import Annotated, Any, ClassVar, Final, Literal, get_args

import cbor2
import msgspec

from spacegray.sockets import PeerError

DEPTH_LIMIT: Final = 4
DISK_BLOCK_BYTES: Final = 4096
DISK_LEAST_BYTES: Final = 16 * 1024**2
DISK_LIMIT_BYTES: Final = 4 * 1024**4
DISK_LIMIT_BLOCKS: Final = DISK_LIMIT_BYTES // DISK_BLOCK_BYTES
NONCE_LEAST_BYTES: Final = 8
NONCE_LIMIT_BYTES: Final = 64
SOURCE_LIMIT_CHARACTERS: Final = 200

Front = Literal["nbd", "vhost-user-blk"]
"""What a served disk looks like to its user: restoring speaks NBD, the machine vhost-user."""
Seal = Literal["keyfile", "passphrase", "tpm2"]
"""What keeps the vault's store closed while the chip is off."""
With = Literal["password", "recovery_key"]
"""What a secret claims to be."""
Mode = Literal["normal", "recovery"]
"""From where a password is given: at power-on or in recovery; each has tries of its own."""
AttachMode = Literal["open", "format", "adopt"]
"""What the SSD's controller is linked to the vault for."""

Size = Annotated[
    int,
    msgspec.Meta(ge=DISK_LEAST_BYTES, le=DISK_LIMIT_BYTES, multiple_of=DISK_BLOCK_BYTES),
]
Source = Annotated[str, msgspec.Meta(min_length=1, max_length=SOURCE_LIMIT_CHARACTERS)]
Nonce = Annotated[bytes, msgspec.Meta(min_length=NONCE_LEAST_BYTES, max_length=NONCE_LIMIT_BYTES)]

_TAGS: Final = (*range(6), 25, *range(28, 38), 100, 256, *range(258, 262), 1004, 43000, 55799)


class _Request(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, tag_field="op"):
    """One request; `op` names it."""

    descriptors: ClassVar[tuple[int, ...]] = (0,)
    """How many descriptors may come along."""


class _Proven(_Request):
    """A request whose sender proves to be the owner, by a secret in a descriptor."""

    with_: With = msgspec.field(name="with", default="password")
    mode: Mode = "normal"


class Show(_Request, tag="show"):
    """Who is this chip, and how is it."""


class Birth(_Request, tag="birth"):
    """Make the chip; it trusts the firmware found now, which is from `source`.

    Descriptor: the passphrase, if that is the seal.
    """

    source: Source
    seal: Seal
    descriptors: ClassVar = (0, 1)


class AdoptBundle(_Request, tag="adopt_bundle"):
    """Make the chip, and have it take over the disk of another that left a bundle.

    Descriptors: the bundle, the recovery key, the passphrase if that is the seal.
    """

    source: Source
    seal: Seal
    descriptors: ClassVar = (2, 3)


class Unseal(_Request, tag="unseal"):
    """Open the vault. Descriptor: the passphrase."""

    descriptors: ClassVar = (1,)


class Unlock(_Proven, tag="unlock"):
    """Check a secret, and have the disk's key with it. Descriptor: the secret."""

    descriptors: ClassVar = (1,)


class SetPassword(_Request, tag="set_password"):
    """Have a password where there is none. Descriptor: the new one."""

    descriptors: ClassVar = (1,)


class ChangePassword(_Proven, tag="change_password"):
    """Have another password. Descriptors: the proof, the new one."""

    descriptors: ClassVar = (2,)


class RemovePassword(_Proven, tag="remove_password"):
    """Have no password any more. Descriptor: the proof."""

    descriptors: ClassVar = (1,)


class MakeRecoveryKey(_Proven, tag="make_recovery_key"):
    """Make a recovery key in place of any other.

    Descriptors: an empty pipe that it is written into, the proof if there is a password.
    """

    descriptors: ClassVar = (1, 2)


class AuthoriseRollback(_Proven, tag="authorise_rollback"):
    """Let the disk be opened once in whatever state it is.

    Descriptor: the proof, if there is a password or a recovery key.
    """

    descriptors: ClassVar = (0, 1)


class Erase(_Request, tag="erase"):
    """Destroy every key to the disk, at once, whatever state it is in."""


class Restore(_Request, tag="restore"):
    """Erase, and begin a new life under new boot keys.

    With a `source` the firmware found now is trusted from then on.
    """

    source: Source | None = None


class Attest(_Request, tag="attest"):
    """State, signed, what this chip is."""

    nonce: Nonce


class ExportRecovery(_Request, tag="export_recovery"):
    """Hand out what a new chip needs to take over the disk, under the recovery key."""


class Destroy(_Request, tag="destroy"):
    """Destroy the chip, opened or not."""


class SignImage(_Request, tag="sign_image"):
    """Sign the unsigned PE image whose descriptor comes with the message."""

    descriptors: ClassVar = (1,)


class CreateDisk(_Request, tag="create_disk"):
    """Make the disk where there is none."""

    size_bytes: Size


class EraseDisk(_Request, tag="erase_disk"):
    """Make a new empty disk under a new key in place of whatever there is."""

    size_bytes: Size


class OpenDisk(_Request, tag="open_disk"):
    """Open the disk and serve it, on the listening socket that comes with the message.

    Without one the reply brings a connected socket; without a front it is open, not served.
    `adopt`: in whatever state it is, which needs to have been authorised.
    """

    front: Front | None = None
    strict: bool = False
    adopt: bool = False
    descriptors: ClassVar = (0, 1)


class DiskHealth(_Request, tag="disk_health"):
    """How is the disk."""


class VerifyDisk(_Request, tag="verify_disk"):
    """Read and authenticate a part of the open disk, for a fraction of a second."""

    block: Annotated[int, msgspec.Meta(ge=0, le=DISK_LIMIT_BLOCKS)]
    count: Annotated[int, msgspec.Meta(ge=1, le=DISK_LIMIT_BLOCKS)]


class CloseDisk(_Request, tag="close_disk"):
    """Close the disk; everything written is on the host's disk afterwards."""


class PrepareStart(_Request, tag="prepare_start"):
    """Check everything and hand over what the machine needs to start."""

    strict: bool = False


Request = (
    Show
    | Birth
    | AdoptBundle
    | Unseal
    | Unlock
    | SetPassword
    | ChangePassword
    | RemovePassword
    | MakeRecoveryKey
    | AuthoriseRollback
    | Erase
    | Restore
    | Attest
    | ExportRecovery
    | Destroy
    | SignImage
    | CreateDisk
    | EraseDisk
    | OpenDisk
    | DiskHealth
    | VerifyDisk
    | CloseDisk
    | PrepareStart
)

OPERATIONS: Final[dict[str, type[_Request]]] = {
    str(kind.__struct_config__.tag): kind for kind in get_args(Request)
}
"""Every request by its name."""


def decode_map(payload: bytes) -> dict[str, Any]:
    """The CBOR map in `payload`; raises PeerError for everything else."""
    try:
        value = cbor2.loads(
            payload,
            max_depth=DEPTH_LIMIT,
            allow_indefinite=False,
            allow_duplicate_keys=False,
            strict_hashable_types=True,
            semantic_decoders=_NO_TAGS,
            tag_hook=_refuse_tag,
        )
    except (cbor2.CBORError, ValueError, RecursionError, MemoryError):
        raise PeerError("not one CBOR map of plain values") from None
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise PeerError("not one CBOR map of plain values")
    return value


def encode_map(fields: dict[str, Any]) -> bytes:
    """`fields` as one CBOR map."""
    return bytes(cbor2.dumps(fields))


def encode_canonical(fields: dict[str, Any]) -> bytes:
    """`fields` as one CBOR map in the one form that RFC 8949, 4.2.1 calls deterministic."""
    return bytes(cbor2.dumps(fields, canonical=True))


def parse_request(payload: bytes) -> Request:
    """The request in `payload`; raises PeerError when it is none that the chip knows.

    The error does not say what was wrong: who knows the protocol needs no help, and a stranger
    gets none.
    """
    try:
        fields = decode_map(payload)
        return msgspec.convert(fields, Request, builtin_types=(bytes,))  # type: ignore[no-any-return]
    except (PeerError, msgspec.ValidationError):
        raise PeerError("not a request of the chip") from None


def _refuse_tag(*_: Any) -> Any:
    raise ValueError("tags are not part of the protocol")


_NO_TAGS: Final = dict.fromkeys(_TAGS, _refuse_tag)
