"""What the vault says of starts: the rules, the systems in its slots, and what is to start.

Read from its answers and nothing more: who may change what is the vault's to say
(docs/vault-protocol.md). What is kept of a ticket (docs/tickets.md) is read strictly, because the
firmware builds on it what the machine may start.
"""

from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec

from spacegray.chip.messages import decode_map, encode_canonical
from spacegray.links import Target
from spacegray.paths import SLOTS, Slot
from spacegray.sockets import PeerError

Policy = Literal["full", "medium", "none"]
"""Which of the systems on the internal disk may start."""
COMPONENTS: Final = (
    "firmware",
    "variables",
    "kernel",
    "system",
    "recovery",
    "recovery_kernel",
)
"""The parts of a system that a ticket names, each by a SHA-256 digest."""

_Kind = TypeVar("_Kind")
_Count = Annotated[int, msgspec.Meta(ge=0)]
_Digest = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]


class Components(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A SHA-256 digest of each part of a system."""

    firmware: _Digest
    variables: _Digest
    kernel: _Digest
    system: _Digest
    recovery: _Digest
    recovery_kernel: _Digest


class Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the vault keeps of a ticket; `issued` in seconds since 1970."""

    product: str
    epoch: _Count
    issued: _Count
    components: Components


class Boot(msgspec.Struct, frozen=True, kw_only=True):
    """What decides what starts.

    `current`: the slot that starts, empty while there is no system. `trying`: the other one is
    tried, `tries_left` times more. `target`: what was started last, empty if nothing.
    `owner_present`: the owner proved to be one in the recovery system since. `variables`: SHA-256
    of the guest's variables that are kept, empty if none.
    """

    policy: Policy
    external_boot: bool
    other_systems: bool
    firmware_password: bool
    firmware_password_given: bool
    minimum_epoch: _Count
    slots: dict[Slot, Entry | None]
    current: Slot | Literal[""]
    trying: bool
    tries_left: _Count
    target: Target | Literal[""]
    owner_present: bool
    variables: bytes


class Started(msgspec.Struct, frozen=True, kw_only=True):
    """What is to start now, and by which rules."""

    slot: Slot
    entry: Entry
    trying: bool
    policy: Policy
    external_boot: bool
    other_systems: bool
    variables: bytes


def read_boot(reply: dict[str, Any]) -> Boot:
    """The answer to `boot`; raises PeerError for another one."""
    slots = {slot: _entry(reply.get(f"slot_{slot}")) for slot in SLOTS}
    return _convert(reply | {"slots": slots}, Boot)


def read_started(reply: dict[str, Any]) -> Started:
    """The answer to `begin_start`; raises PeerError for another one."""
    return _convert(reply | {"entry": _entry(reply.get("entry"))}, Started)


def _entry(encoded: object) -> Entry | None:
    match encoded:
        case b"":
            return None
        case bytes():
            fields = decode_map(encoded)
            # In its one form alone, with nothing after it.
            if encode_canonical(fields) == encoded:
                return _convert(fields, Entry)
    raise PeerError("no ticket")


def _convert(value: dict[str, Any], kind: type[_Kind]) -> _Kind:
    try:
        return msgspec.convert(value, kind, builtin_types=(bytes,))
    except (msgspec.ValidationError, TypeError):
        raise PeerError("fields that are none") from None
