"""The mailbox's messages: what may be asked, byte-exact in docs/chip-protocol.md.

Trusts nobody: a message is taken only if it is one CBOR map of plain values with exactly the
fields of its operation. No tag is decoded, nothing nests deeper than `DEPTH_LIMIT`.
"""

import io
from typing import Annotated, Any, ClassVar, Final, Literal, get_args

import cbor2
import msgspec

from spacegray.links import Status, Target
from spacegray.paths import Slot
from spacegray.sockets import PeerError

DEPTH_LIMIT: Final = 4
DISK_BLOCK_BYTES: Final = 4096
DISK_LEAST_BYTES: Final = 16 * 1024**2
DISK_LIMIT_BYTES: Final = 4 * 1024**4
DISK_LIMIT_BLOCKS: Final = DISK_LIMIT_BYTES // DISK_BLOCK_BYTES
NONCE_LEAST_BYTES: Final = 8
NONCE_LIMIT_BYTES: Final = 64
SOURCE_LIMIT_CHARACTERS: Final = 200
DETAIL_LIMIT_CHARACTERS: Final = 500
TRIES_LIMIT: Final = 8
PUBLIC_KEY_BYTES: Final = 91
"""A SubjectPublicKeyInfo of a P-256 key has this size."""
VENDOR_LIMIT_BYTES: Final = 2048
TICKET_LIMIT_BYTES: Final = 2048
DIGEST_BYTES: Final = 32
GUID_BYTES: Final = 16
PROVIDER_NAME_LIMIT_CHARACTERS: Final = 64
JOB_LIMIT_CHARACTERS: Final = 64
JOB_DETAIL_LIMIT_BYTES: Final = 512
ORDER_LIMIT_BYTES: Final = 1024

Front = Literal["nbd", "vhost-user-blk"]
"""What a served disk looks like to its user: restoring speaks NBD, the machine vhost-user."""
Seal = Literal["keyfile", "passphrase", "tpm2"]
"""What keeps the vault's store closed while the chip is off."""
With = Literal["password", "recovery_key"]
"""What a secret claims to be."""
Claimed = With | Literal["firmware_password"]
"""The same where the firmware password is asked for, too."""
FIRMWARE_PASSWORD: Final = "firmware_password"
Mode = Literal["normal", "recovery"]
"""From where a password is given: at power-on or in recovery; each has tries of its own."""
AttachMode = Literal["open", "format", "adopt"]
"""What the SSD's controller is linked to the vault for."""

Size = Annotated[
    int,
    msgspec.Meta(ge=DISK_LEAST_BYTES, le=DISK_LIMIT_BYTES, multiple_of=DISK_BLOCK_BYTES),
]
Source = Annotated[str, msgspec.Meta(min_length=1, max_length=SOURCE_LIMIT_CHARACTERS)]
Product = Annotated[str, msgspec.Meta(pattern=r"\A[a-z0-9-]{1,32}\Z")]
Detail = Annotated[str, msgspec.Meta(max_length=DETAIL_LIMIT_CHARACTERS)]
Authority = Annotated[bytes, msgspec.Meta(min_length=PUBLIC_KEY_BYTES, max_length=PUBLIC_KEY_BYTES)]
"""The key that signs tickets, SubjectPublicKeyInfo in DER."""
Vendor = Annotated[bytes, msgspec.Meta(min_length=1, max_length=VENDOR_LIMIT_BYTES)]
"""The certificate of the key that signs images, in DER."""
Ticket = Annotated[bytes, msgspec.Meta(min_length=1, max_length=TICKET_LIMIT_BYTES)]
Digest = Annotated[bytes, msgspec.Meta(min_length=DIGEST_BYTES, max_length=DIGEST_BYTES)]
Guid = Annotated[bytes, msgspec.Meta(min_length=GUID_BYTES, max_length=GUID_BYTES)]
ProviderName = Annotated[
    str, msgspec.Meta(pattern=rf"\A[ -~]{{1,{PROVIDER_NAME_LIMIT_CHARACTERS}}}\Z")
]
"""What the owner calls a service provider: printable ASCII."""
ProviderKey = Annotated[
    bytes, msgspec.Meta(min_length=PUBLIC_KEY_BYTES, max_length=PUBLIC_KEY_BYTES)
]
"""The key that signs work orders, SubjectPublicKeyInfo in DER."""
Job = Annotated[str, msgspec.Meta(pattern=rf"\A[a-z0-9 -]{{1,{JOB_LIMIT_CHARACTERS}}}\Z")]
"""What is done to the machine, as a work order names it."""
JobDetail = Annotated[bytes, msgspec.Meta(max_length=JOB_DETAIL_LIMIT_BYTES)]
Order = Annotated[bytes, msgspec.Meta(max_length=ORDER_LIMIT_BYTES)]
Head = Annotated[bytes, msgspec.Meta(max_length=DIGEST_BYTES)]
"""A digest, or empty where there is none."""
Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
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


class _Signed(_Request):
    """A request that begins a life, in which this authority alone is believed."""

    authority: Authority
    vendor: Vendor


class Esp(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a slot's boot file system lies: in sectors of 512 bytes, its GUID as on the disk."""

    number: Annotated[int, msgspec.Meta(ge=1, le=128)]
    start_sector: Count
    sectors: Count
    guid: Guid


class Show(_Request, tag="show"):
    """Who is this chip, and how is it."""


class Birth(_Signed, tag="birth"):
    """Make the chip. Descriptor: the passphrase, if that is the seal."""

    seal: Seal
    descriptors: ClassVar = (0, 1)


class AdoptBundle(_Signed, tag="adopt_bundle"):
    """Make the chip, and have it take over the disk of another that left a bundle.

    Descriptors: the bundle, the recovery key, the passphrase if that is the seal.
    """

    seal: Seal
    descriptors: ClassVar = (2, 3)


class Unseal(_Request, tag="unseal"):
    """Open the vault. Descriptor: the passphrase."""

    descriptors: ClassVar = (1,)


class Unlock(_Request, tag="unlock"):
    """Check a secret, and have what it opens. Descriptor: the secret."""

    with_: Claimed = msgspec.field(name="with", default="password")
    mode: Mode = "normal"
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


class SetFirmwarePassword(_Request, tag="set_firmware_password"):
    """Have a firmware password, or another one. Descriptor: the new one."""

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


class Service(_Request, tag="service"):
    """How long the service record is, how it ends, and whose work orders count."""


class TrustProvider(_Proven, tag="trust_provider", kw_only=True):
    """Take this provider's work orders. Descriptor: the proof, if there is a password."""

    name: ProviderName
    key: ProviderKey
    descriptors: ClassVar = (0, 1)


class DistrustProvider(_Proven, tag="distrust_provider", kw_only=True):
    """Take no more work orders of this key. Descriptor: the proof, if there is a password."""

    fingerprint: Digest
    descriptors: ClassVar = (0, 1)


class RecordService(_Proven, tag="record_service", kw_only=True):
    """Sign the next entry of the service record; a work order that it is done by is spent.

    `continues` is the head of the record of the chip before, for the very first entry.
    Descriptor: the proof, if there is a password and no order.
    """

    job: Job
    detail: JobDetail
    order: Order = b""
    continues: Head = b""
    descriptors: ClassVar = (0, 1)

    def __post_init__(self) -> None:
        """Refuse a head of any other size: Meta knows no `or`."""
        if len(self.continues) not in (0, DIGEST_BYTES):
            raise ValueError("not a head")


class Erase(_Request, tag="erase"):
    """Destroy every key to the disk, at once, whatever state it is in."""


class Restore(_Signed, tag="restore"):
    """Erase, and begin a new life: no system, the strictest policy, perhaps another authority."""


class Attest(_Request, tag="attest"):
    """State, signed, what this chip is."""

    nonce: Nonce


class ExportRecovery(_Request, tag="export_recovery"):
    """Hand out what a new chip needs to take over the disk, under the recovery key."""


class Destroy(_Request, tag="destroy"):
    """Destroy the chip, opened or not."""


class RequestTicket(_Request, tag="request_ticket"):
    """Measure the system that lies in `slot` and ask for a ticket for it.

    Descriptors: its signed kernel image, the signed kernel image of its recovery system.
    """

    slot: Slot
    product: Product
    epoch: Count
    system: Digest
    descriptors: ClassVar = (2,)


class AcceptTicket(_Request, tag="accept_ticket"):
    """Take the answer: the system in `slot` is current, or with `tries` it is tried so often."""

    slot: Slot
    ticket: Ticket
    source: Source
    esp: Esp
    tries: Annotated[int, msgspec.Meta(ge=0, le=TRIES_LIMIT)] = 0


class CameUp(_Request, tag="came_up"):
    """The system that was started is up."""


class GiveUp(_Request, tag="give_up"):
    """The system that is tried does not come up."""


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

    target: Target = "main"
    strict: bool = False


class Report(_Request, tag="report"):
    """What was seen of one link of this start after the chip's own."""

    link: Annotated[str, msgspec.Meta(pattern=r"\A[a-z]{1,16}\Z")]
    status: Status
    detail: Detail


Request = (
    Show
    | Birth
    | AdoptBundle
    | Unseal
    | Unlock
    | SetPassword
    | ChangePassword
    | RemovePassword
    | SetFirmwarePassword
    | MakeRecoveryKey
    | AuthoriseRollback
    | Service
    | TrustProvider
    | DistrustProvider
    | RecordService
    | Erase
    | Restore
    | Attest
    | ExportRecovery
    | Destroy
    | RequestTicket
    | AcceptTicket
    | CameUp
    | GiveUp
    | CreateDisk
    | EraseDisk
    | OpenDisk
    | DiskHealth
    | VerifyDisk
    | CloseDisk
    | PrepareStart
    | Report
)

OPERATIONS: Final[dict[str, type[_Request]]] = {
    str(kind.__struct_config__.tag): kind for kind in get_args(Request)
}
"""Every request by its name."""


def decode_plain(payload: bytes) -> Any:
    """The one CBOR item of plain values that `payload` is; raises PeerError for all else."""
    content = io.BytesIO(payload)
    try:
        value = cbor2.CBORDecoder(
            content,
            max_depth=DEPTH_LIMIT,
            allow_indefinite=False,
            allow_duplicate_keys=False,
            strict_hashable_types=True,
            semantic_decoders=_NO_TAGS,
            tag_hook=_refuse_tag,
        ).decode()
    except (cbor2.CBORError, ValueError, RecursionError, MemoryError):
        raise PeerError("not one CBOR item of plain values") from None
    if content.tell() != len(payload):
        raise PeerError("not one CBOR item of plain values")
    return value


def decode_map(payload: bytes) -> dict[str, Any]:
    """The one CBOR map that `payload` is; raises PeerError for everything else."""
    value = decode_plain(payload)
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
