"""The mailbox's messages: what may be asked, byte-exact in docs/chip-protocol.md.

Trusts nobody: a message is taken only if it is one CBOR map of plain values with exactly the
fields of its operation. No tag is decoded, nothing nests deeper than `DEPTH_LIMIT`.
"""

from typing import Annotated, Any, Final, Literal

import cbor2
import msgspec

from spacegray.sockets import PeerError

DEPTH_LIMIT: Final = 4
DISK_BLOCK_BYTES: Final = 4096
DISK_LEAST_BYTES: Final = 16 * 1024**2
DISK_LIMIT_BYTES: Final = 4 * 1024**4
DISK_LIMIT_BLOCKS: Final = DISK_LIMIT_BYTES // DISK_BLOCK_BYTES

Front = Literal["nbd", "vhost-user-blk"]
"""What a served disk looks like to its user: restoring speaks NBD, the machine vhost-user."""

Size = Annotated[
    int,
    msgspec.Meta(ge=DISK_LEAST_BYTES, le=DISK_LIMIT_BYTES, multiple_of=DISK_BLOCK_BYTES),
]

_TAGS: Final = (*range(6), 25, *range(28, 38), 100, 256, *range(258, 262), 1004, 43000, 55799)


class _Request(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, tag_field="op"):
    """One request; `op` names it."""


class Show(_Request, tag="show"):
    """Who is this chip."""


class SignImage(_Request, tag="sign_image"):
    """Sign the unsigned PE image whose descriptor comes with the message."""


class CreateDisk(_Request, tag="create_disk"):
    """Make the disk where there is none."""

    size_bytes: Size


class EraseDisk(_Request, tag="erase_disk"):
    """Make a new empty disk under a new key in place of whatever there is."""

    size_bytes: Size


class OpenDisk(_Request, tag="open_disk"):
    """Open the disk and serve it, on the listening socket that comes with the message.

    Without one the reply brings a connected socket; without a front it is open, not served.
    """

    front: Front | None = None
    strict: bool = False


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
    | SignImage
    | CreateDisk
    | EraseDisk
    | OpenDisk
    | DiskHealth
    | VerifyDisk
    | CloseDisk
    | PrepareStart
)

OPERATIONS: Final = (
    "show",
    "sign_image",
    "create_disk",
    "erase_disk",
    "open_disk",
    "disk_health",
    "verify_disk",
    "close_disk",
    "prepare_start",
)


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


def parse_request(payload: bytes) -> Request:
    """The request in `payload`; raises PeerError when it is none that the chip knows."""
    fields = decode_map(payload)
    if fields.get("op") not in OPERATIONS:
        raise PeerError("no operation of the chip")
    try:
        return msgspec.convert(fields, Request)  # type: ignore[no-any-return]
    except msgspec.ValidationError as error:
        raise PeerError(f"wrong fields: {error}") from None


def _refuse_tag(*_: Any) -> Any:
    raise ValueError("tags are not part of the protocol")


_NO_TAGS: Final = dict.fromkeys(_TAGS, _refuse_tag)
