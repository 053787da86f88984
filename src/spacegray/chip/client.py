"""The client of a chip's mailbox, for the workstation above it. Synchronous; not for threads.

Trusts the chip, but not that it still runs: everything it says is checked for its form.
"""

import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self, TypeVar

import msgspec

from spacegray.chip.boot_state import Policy
from spacegray.chip.controller import Opened, Verified
from spacegray.chip.messages import (
    DETAIL_LIMIT_CHARACTERS,
    Claimed,
    Front,
    Mode,
    Seal,
    With,
    decode_map,
    encode_map,
)
from spacegray.chip.modules import Module
from spacegray.chip.refusal import BUSY, ChipRefusalError
from spacegray.chip.ssd import Health
from spacegray.errors import SpacegrayError
from spacegray.links import LinkEvent, Status, Target
from spacegray.paths import Slot
from spacegray.sockets import PeerError, close_all, connect_unix, receive_message, send_message

ANSWER_SECONDS: Final = 180.0
"""Longer than the longest thing a chip does (making or closing a disk on a slow host)."""
BUSY_SECONDS: Final = 0.1
"""How soon a chip that has too many messages is asked again."""

_HANDED: Final[dict[Target, tuple[str, ...]]] = {"recovery": ("medium", "port")}
"""Which descriptors a start has besides firmware and variables, if not the disk."""
_Kind = TypeVar("_Kind")


class _Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What a reply to `prepare_start` says."""

    links: tuple[LinkEvent, ...]
    firmware_version: str
    policy: Policy
    slot: Slot
    trying: bool
    secure_boot: bool


@dataclass(kw_only=True)
class Start:
    """What one start of the machine needs. Owns its descriptors; a context manager.

    A descriptor is -1 where this start has none, and after it was closed.
    """

    links: tuple[LinkEvent, ...]
    firmware_version: str
    policy: Policy
    slot: Slot
    trying: bool
    """Whether the system in `slot` is one that has not been up yet."""
    secure_boot: bool
    firmware: int
    """The verified firmware image: sealed, read only."""
    variables: int
    """The fresh variable store, read and write."""
    disk: int = -1
    """A connected vhost-user-blk socket; not in recovery."""
    medium: int = -1
    """The recovery system: sealed, read only; in recovery alone, as is the port."""
    port: int = -1
    """The machine's end of the recovery port, a connected stream socket."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the descriptors; the machine has its own copies."""
        given = (self.firmware, self.variables, self.disk, self.medium, self.port)
        close_all([each for each in given if each >= 0])
        self.firmware = self.variables = self.disk = self.medium = self.port = -1


class Erased(msgspec.Struct, frozen=True, kw_only=True):
    """What an erasure says of itself."""

    receipt: bytes
    """Signed (COSE_Sign1): what was destroyed, where it lay, how surely."""
    milliseconds: float
    """From the chip's reading of the message until the keys were gone."""
    modules: list[Module]
    """The modules as they lay then; what is in them is noise."""


class Restored(msgspec.Struct, frozen=True, kw_only=True):
    """A chip in a new life: its ECID, which stays, and the receipt for all that was."""

    ecid: str
    receipt: bytes


class ChipClient:
    """One connection to a chip's mailbox; a context manager.

    Every method raises SpacegrayError, whose `link` names what broke, when the chip refuses
    (ChipRefusalError, with the protocol's `code`) or is gone. Secrets are given as descriptors
    (a regular file, or the reading end of a pipe whose writer is done) and stay the caller's.
    """

    def __init__(self, mailbox: Path, *, timeout_seconds: float = ANSWER_SECONDS) -> None:
        """Connect to the chip that listens at `mailbox`."""
        self._timeout_seconds = timeout_seconds
        try:
            self._connection = connect_unix(mailbox, timeout_seconds=timeout_seconds)
        except OSError as error:
            raise _gone(error.strerror or str(error)) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Hang up; the chip and a disk it serves go on."""
        self._connection.close()

    def birth(
        self,
        *,
        authority: bytes,
        vendor: bytes,
        seal: Seal = "keyfile",
        passphrase: int | None = None,
    ) -> str:
        """Make the chip; returns its ECID. Nothing can be started on it yet.

        It believes the signing authority with this ticket key and this certificate (both DER).
        `passphrase` is wanted for that seal.
        """
        request = {"op": "birth", "seal": seal, "authority": authority, "vendor": vendor}
        return self._ecid(request, _given(passphrase))

    def adopt_bundle(
        self,
        bundle: int,
        recovery_key: int,
        *,
        authority: bytes,
        vendor: bytes,
        seal: Seal = "keyfile",
        passphrase: int | None = None,
    ) -> str:
        """Make the chip as one that takes over the disk of a bundle; otherwise as `birth`.

        The disk is to be opened once with `adopt` then.
        """
        request = {"op": "adopt_bundle", "seal": seal, "authority": authority, "vendor": vendor}
        return self._ecid(request, (bundle, recovery_key, *_given(passphrase)))

    def unseal(self, passphrase: int) -> None:
        """Open a chip that `needs` its passphrase."""
        self._ask({"op": "unseal"}, (passphrase,))

    def unlock(self, secret: int, *, with_: Claimed = "password", mode: Mode = "normal") -> None:
        """Check a secret and have the disk's key with it; or the firmware password, which counts
        as given until the next start.

        Refused `wrong`, `wait` or `disabled`, the error says what is left and how long to wait.
        """
        self._ask({"op": "unlock", "with": with_, "mode": mode}, (secret,))

    def set_password(self, new: int) -> None:
        """Have a password where there is none."""
        self._ask({"op": "set_password"}, (new,))

    def change_password(
        self, proof: int, new: int, *, with_: With = "password", mode: Mode = "normal"
    ) -> None:
        """Have another password; `proof` is refused as by `unlock`."""
        self._ask({"op": "change_password", "with": with_, "mode": mode}, (proof, new))

    def remove_password(
        self, proof: int, *, with_: With = "password", mode: Mode = "normal"
    ) -> None:
        """Have no password any more; `proof` is refused as by `unlock`."""
        self._ask({"op": "remove_password", "with": with_, "mode": mode}, (proof,))

    def set_firmware_password(self, new: int) -> None:
        """Have a firmware password, or another one.

        Refused `not_recovery` unless recovery was started last, and `unauthorised` before its owner
        proved to be one in it (`unlock` in mode `recovery`).
        """
        self._ask({"op": "set_firmware_password"}, (new,))

    def make_recovery_key(
        self,
        out: int,
        proof: int | None = None,
        *,
        with_: With = "password",
        mode: Mode = "normal",
    ) -> None:
        """Make a recovery key in place of any other and write it, one line, into the pipe `out`.

        `proof` is wanted where there is a password, and is refused as by `unlock`.
        """
        request = {"op": "make_recovery_key", "with": with_, "mode": mode}
        self._ask(request, (out, *_given(proof)))

    def authorise_rollback(
        self, proof: int | None = None, *, with_: With = "password", mode: Mode = "normal"
    ) -> None:
        """Let the disk be opened with `adopt`, once.

        `proof` is wanted where there is a password or recovery key; refused as by `unlock`.
        """
        request = {"op": "authorise_rollback", "with": with_, "mode": mode}
        self._ask(request, _given(proof))

    def export_recovery(self) -> bytes:
        """What a new chip needs to take over the disk, encrypted under the recovery key."""
        return _convert(self._ask({"op": "export_recovery"})[0].get("bundle"), bytes)

    def erase(self) -> Erased:
        """Destroy every key to the disk, whatever state it is in; nothing of it is left."""
        return _convert(self._ask({"op": "erase"})[0], Erased)

    def restore(self, *, authority: bytes, vendor: bytes) -> Restored:
        """Erase, and begin a new life: no system, Full Security, this authority (as at birth)."""
        request = {"op": "restore", "authority": authority, "vendor": vendor}
        return _convert(self._ask(request)[0], Restored)

    def attest(self, nonce: bytes) -> bytes:
        """A statement about the chip, signed (COSE_Sign1), with the asker's `nonce` in it."""
        reply, _ = self._ask({"op": "attest", "nonce": nonce})
        return _convert(reply.get("statement"), bytes)

    def destroy(self) -> None:
        """Destroy the chip, opened or not; nothing can be read again."""
        self._ask({"op": "destroy"})

    def show(self) -> dict[str, Any]:
        """Who the chip is: docs/chip-protocol.md lists the fields."""
        return self._ask({"op": "show"})[0]

    def request_ticket(
        self,
        kernel: int,
        recovery: int,
        *,
        slot: Slot,
        product: str,
        epoch: int,
        system: bytes,
    ) -> bytes:
        """Have the system in `slot` measured; returns the request for a ticket (docs/tickets.md).

        `kernel` and `recovery` are descriptors of the signed kernel images of the system and of
        its recovery system, `system` the root hash of the system volume, `epoch` its security
        epoch. The rest is measured where it lies in the workstation's folder.
        """
        request = {
            "op": "request_ticket",
            "slot": slot,
            "product": product,
            "epoch": epoch,
            "system": system,
        }
        return _convert(self._ask(request, (kernel, recovery))[0].get("request"), bytes)

    def accept_ticket(
        self,
        slot: Slot,
        ticket: bytes,
        *,
        source: str,
        esp: Mapping[str, int | bytes],
        tries: int = 0,
    ) -> None:
        """Have the system that `ticket` names be that of `slot`, which is not the current one.

        Without `tries` it is current from now on, else it is tried that often first. `source` says
        where its firmware is from, `esp` where its boot file system lies: number, start_sector,
        sectors, guid. Refused `ticket`, `other_chip`, `nonce`, `epoch`, `in_use`, `no_ticket`.
        """
        request = {
            "op": "accept_ticket",
            "slot": slot,
            "ticket": ticket,
            "source": source,
            "esp": dict(esp),
            "tries": tries,
        }
        self._ask(request)

    def came_up(self) -> None:
        """Note that the main system is up: one that was tried is current from now on."""
        self._ask({"op": "came_up"})

    def give_up(self) -> None:
        """Drop the system that is tried; harmless where there is none."""
        self._ask({"op": "give_up"})

    def create_disk(self, size_bytes: int) -> None:
        """Make the disk of `size_bytes`, a multiple of 4096, where there is none."""
        self._ask({"op": "create_disk", "size_bytes": size_bytes})

    def erase_disk(self, size_bytes: int) -> None:
        """Make a new empty disk under a new key in place of whatever there is."""
        self._ask({"op": "erase_disk", "size_bytes": size_bytes})

    def open_disk(
        self, front: Front, *, strict: bool = False, adopt: bool = False
    ) -> socket.socket:
        """Have the disk served; the returned connection is the only one to it.

        `strict`: every flush is anchored. `adopt`: in whatever state it is, which needs to have
        been authorised. Call `close_disk` when done, after having closed the connection.
        """
        request = {"op": "open_disk", "front": front, "strict": strict, "adopt": adopt}
        _, descriptors = self._ask(request, expected=1)
        return socket.socket(fileno=descriptors[0])

    def serve_disk(
        self, listener: socket.socket, front: Front = "nbd", *, adopt: bool = False
    ) -> Opened:
        """Have the disk served to everyone who connects to `listener`, until `close_disk`."""
        request = {"op": "open_disk", "front": front, "adopt": adopt}
        return _convert(self._ask(request, (listener.fileno(),))[0], Opened)

    def check_disk(self, *, adopt: bool = False) -> Opened:
        """Open the disk without serving it, for `disk_health` and `verify_disk`."""
        return _convert(self._ask({"op": "open_disk", "adopt": adopt})[0], Opened)

    def disk_health(self) -> Health:
        """How the disk is."""
        return _convert(self._ask({"op": "disk_health"})[0], Health)

    def verify_disk(self, block: int, count: int) -> Verified:
        """Read and authenticate the blocks in use among `count` from `block` on."""
        request = {"op": "verify_disk", "block": block, "count": count}
        return _convert(self._ask(request)[0], Verified)

    def close_disk(self) -> None:
        """Close the disk; harmless when it is not open."""
        self._ask({"op": "close_disk"})

    def prepare_start(self, target: Target = "main", *, strict: bool = False) -> Start:
        """Have everything checked, the disk served, and get what the machine needs.

        `strict`: every flush of the disk is anchored. For a second start call `close_disk` first.
        """
        names = ("firmware", "variables", *_HANDED.get(target, ("disk",)))
        request = {"op": "prepare_start", "target": target, "strict": strict}
        fields, descriptors = self._ask(request, expected=len(names))
        try:
            facts = _convert(fields, _Facts)
        except BaseException:
            close_all(descriptors)
            raise
        given: dict[str, Any] = dict(zip(names, descriptors, strict=True))
        return Start(**msgspec.structs.asdict(facts), **given)

    def report(self, link: str, status: Status, detail: str) -> None:
        """Tell the chip what was seen of one link of this start after its own."""
        detail = detail[:DETAIL_LIMIT_CHARACTERS]
        self._ask({"op": "report", "link": link, "status": status, "detail": detail})

    def _ecid(self, request: dict[str, Any], descriptors: Sequence[int] = ()) -> str:
        return _convert(self._ask(request, descriptors)[0].get("ecid"), str)

    def _ask(
        self, request: dict[str, Any], descriptors: Sequence[int] = (), *, expected: int = 0
    ) -> tuple[dict[str, Any], list[int]]:
        """Ask until the chip is not busy; returns the reply and the descriptors it brought."""
        deadline = time.monotonic() + self._timeout_seconds
        while True:
            try:
                return self._ask_once(request, descriptors, expected)
            except ChipRefusalError as refusal:
                if refusal.code != BUSY or time.monotonic() >= deadline:
                    raise
            time.sleep(BUSY_SECONDS)

    def _ask_once(
        self, request: dict[str, Any], descriptors: Sequence[int], expected: int
    ) -> tuple[dict[str, Any], list[int]]:
        try:
            send_message(self._connection, encode_map(request), descriptors)
            message = receive_message(self._connection)
        except TimeoutError:
            raise _gone("no answer in time") from None
        except (OSError, PeerError) as error:
            raise _gone(str(error)) from None
        if message is None:
            raise _gone("it hung up")
        payload, received = message
        try:
            reply = decode_map(payload)
            if reply.pop("ok", None) is not True:
                raise _refusal(reply)
            if len(received) != expected:
                raise PeerError(f"{len(received)} descriptors instead of {expected}")
        except PeerError as error:
            close_all(received)
            raise _gone(f"a broken answer: {error}") from None
        except BaseException:
            close_all(received)
            raise
        return reply, received


def _given(descriptor: int | None) -> tuple[int, ...]:
    return () if descriptor is None else (descriptor,)


def _refusal(reply: dict[str, Any]) -> ChipRefusalError:
    doing, stopped_by, next_step = (
        str(reply.get(name, "?")) for name in ("doing", "stopped_by", "next_step")
    )
    return ChipRefusalError(
        doing,
        stopped_by,
        next_step,
        code=_plain(reply.get("code"), str),
        link=_plain(reply.get("link"), str),
        left=_plain(reply.get("left"), int),
        wait_seconds=_plain(reply.get("wait_seconds"), int),
    )


def _plain(value: object, kind: type[_Kind]) -> _Kind | None:
    return value if isinstance(value, kind) else None


def _convert(value: object, kind: type[_Kind]) -> _Kind:
    try:
        return msgspec.convert(value, kind, builtin_types=(bytes,))
    except msgspec.ValidationError as error:
        raise _gone(f"a broken answer: {error}") from None


def _gone(stopped_by: str) -> SpacegrayError:
    return SpacegrayError(
        "speaking to the chip", stopped_by, "start the workstation again; see `logs`", link="chip"
    )
