"""The client of a chip's mailbox, for the workstation above it. Synchronous; not for threads.

Trusts the chip, but not that it still runs: everything it says is checked for its form.
"""

import socket
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from spacegray.chip.answers import Erased, Restored, Start, StartFacts
from spacegray.chip.controller import Opened, Verified
from spacegray.chip.mailbox_line import convert, given
from spacegray.chip.messages import DETAIL_LIMIT_CHARACTERS, Front, Seal
from spacegray.chip.owners_calls import OwnersCalls
from spacegray.chip.service_record import Provider, ServiceRecord, Signed
from spacegray.chip.ssd import Health
from spacegray.links import Status, Target
from spacegray.paths import Slot
from spacegray.sockets import close_all

__all__ = ["ChipClient", "Erased", "Provider", "Restored", "ServiceRecord", "Signed", "Start"]

_HANDED: Final[dict[Target, tuple[str, ...]]] = {"recovery": ("medium", "port")}
"""Which descriptors a start has besides firmware and variables, if not the disk."""


class ChipClient(OwnersCalls):
    """One connection to a chip's mailbox; a context manager.

    Every method raises SpacegrayError, whose `link` names what broke, when the chip refuses
    (ChipRefusalError, with the protocol's `code`) or is gone. Secrets are given as descriptors
    (a regular file, or the reading end of a pipe whose writer is done) and stay the caller's.
    """

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
        return self._ecid(request, given(passphrase))

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
        return self._ecid(request, (bundle, recovery_key, *given(passphrase)))

    def export_recovery(self) -> bytes:
        """What a new chip needs to take over the disk, encrypted under the recovery key."""
        return convert(self._ask({"op": "export_recovery"})[0].get("bundle"), bytes)

    def erase(self) -> Erased:
        """Destroy every key to the disk, whatever state it is in; nothing of it is left."""
        return convert(self._ask({"op": "erase"})[0], Erased)

    def restore(self, *, authority: bytes, vendor: bytes) -> Restored:
        """Erase, and begin a new life: no system, Full Security, this authority (as at birth)."""
        request = {"op": "restore", "authority": authority, "vendor": vendor}
        return convert(self._ask(request)[0], Restored)

    def attest(self, nonce: bytes) -> bytes:
        """A statement about the chip, signed (COSE_Sign1), with the asker's `nonce` in it."""
        reply, _ = self._ask({"op": "attest", "nonce": nonce})
        return convert(reply.get("statement"), bytes)

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
        return convert(self._ask(request, (kernel, recovery))[0].get("request"), bytes)

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
        return convert(self._ask(request, (listener.fileno(),))[0], Opened)

    def check_disk(self, *, adopt: bool = False) -> Opened:
        """Open the disk without serving it, for `disk_health` and `verify_disk`."""
        return convert(self._ask({"op": "open_disk", "adopt": adopt})[0], Opened)

    def disk_health(self) -> Health:
        """How the disk is."""
        return convert(self._ask({"op": "disk_health"})[0], Health)

    def verify_disk(self, block: int, count: int) -> Verified:
        """Read and authenticate the blocks in use among `count` from `block` on."""
        request = {"op": "verify_disk", "block": block, "count": count}
        return convert(self._ask(request)[0], Verified)

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
            facts = convert(fields, StartFacts)
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
        return convert(self._ask(request, descriptors)[0].get("ecid"), str)
