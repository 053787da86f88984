"""The client of the vault: asks, and links the SSD's controller to it.

docs/vault-protocol.md has the operations. No key ever comes back over its link (`vault_link`): the
volume key goes over a pair of its own from the vault to the SSD's controller, and no end of that
pair stays here. Secrets of people are descriptors that are passed on and never read. Signatures,
certificates, statements and bundles are public.
"""

import os
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import msgspec

from spacegray.chip.boot_state import Boot, Policy, Started, read_boot, read_started
from spacegray.chip.messages import AttachMode, Mode, Seal, With
from spacegray.chip.service_record import ServiceRecord, Signed, read_record, read_signed
from spacegray.chip.vault_link import VaultLink, broken, read_bytes
from spacegray.chip.vault_words import VaultRefusalError
from spacegray.links import Target
from spacegray.paths import Slot
from spacegray.sockets import PeerError

__all__ = ["BUDGETS", "Budget", "Identity", "Status", "Vault", "VaultRefusalError"]

BUNDLE_LIMIT_BYTES: Final = 32 * 1024
BUDGETS: Final = ("password", "recovery", "recovery_key", "firmware_password")
"""What is counted apart: the password, the same in recovery, the recovery key, and the firmware's.
"""

_ECID_LIMIT: Final = 2**64
_Kind = TypeVar("_Kind")


@dataclass(frozen=True)
class Identity:
    """The public half of the vault; keys and certificates are DER.

    `vendor` is the signing authority's certificate, that images of the vendor lead to.
    """

    ecid: int
    identity_public_key: bytes
    pk: bytes
    kek: bytes
    vendor: bytes


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """The tries of one kind: wrong ones, those left, and when the next is looked at."""

    failures: int
    left: int
    wait_seconds: int


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """How an open vault is; `life` is `in use`, `locked out` or `erased`.

    `put_back`: a part of the state folder is older than the rest. `adopting`: the disk has to be
    opened with `adopt` first, which is authorised.
    """

    ecid: int
    life: str
    lives: int
    seal: Seal
    root: str
    password: bool
    recovery_key: bool
    unlocked: bool
    rollbacks: int
    boundaries: int
    policy: str
    put_back: bool
    adopting: bool
    attempts: dict[str, Budget]


class Vault(VaultLink):
    """A running vault of one chip."""

    def birth(
        self, seal: Seal, authority: bytes, vendor: bytes, passphrase: Sequence[int] = ()
    ) -> int:
        """Make the keys; returns the ECID. `passphrase`: its descriptor, if that is the seal.

        The signing authority with the ticket key `authority` and the certificate `vendor` (both
        DER) counts until a `restore`. Raises VaultRefusalError `exists`.
        """
        request = {"op": "birth", "seal": seal, "authority": authority, "vendor": vendor}
        return _ecid(self._ask("making the keys", request, passphrase))

    def adopt_bundle(
        self, seal: Seal, authority: bytes, vendor: bytes, secrets: Sequence[int]
    ) -> int:
        """Make the keys, that of the disk from a bundle; returns the ECID.

        `secrets`: descriptors of the bundle, of the recovery key, and of the passphrase if that
        is the seal; otherwise as `birth`. Raises VaultRefusalError `wrong` when bundle and key do
        not fit.
        """
        doing = "taking over the disk of another chip"
        request = {"op": "adopt_bundle", "seal": seal, "authority": authority, "vendor": vendor}
        return _ecid(self._ask(doing, request, secrets))

    def open(self, passphrase: Sequence[int] = ()) -> int:
        """Unseal the keys; returns the ECID. `passphrase` as at birth.

        Raises VaultRefusalError `unborn`, `sealed`, `corrupt`, `put_back`, `tpm`, or `passphrase`
        when that is needed or wrong.
        """
        return _ecid(self._ask("opening the vault", {"op": "open"}, passphrase))

    def identity(self) -> Identity:
        """The public keys and the certificates that the firmware is to trust."""
        reply = self._ask("reading the chip's identity", {"op": "identity"})
        return Identity(
            _ecid(reply),
            *(read_bytes(reply, name) for name in ("identity_public_key", "pk", "kek", "vendor")),
        )

    def status(self) -> Status:
        """How it is, now."""
        reply = self._ask("asking the vault how it is", {"op": "status"})
        attempts = {
            name: {
                field: reply.get(f"{name}_{field}")
                for field in ("failures", "left", "wait_seconds")
            }
            for name in BUDGETS
        }
        try:
            return msgspec.convert(reply | {"attempts": attempts}, Status)
        except msgspec.ValidationError:
            raise broken("status") from None

    def unlock(self, with_: With, mode: Mode, secret: int) -> None:
        """Check a secret and have the disk's key with it.

        Raises VaultRefusalError `wrong` (a try was charged), `wait`, `disabled`, `absent`.
        """
        self._prove("unlock", f"checking the {with_.replace('_', ' ')}", with_, mode, (secret,))

    def set_password(self, new: int) -> None:
        """Have a password; raises VaultRefusalError `exists` where there is one."""
        self._ask("setting the password", {"op": "set_password"}, (new,))

    def change_password(self, with_: With, mode: Mode, proof: int, new: int) -> None:
        """Have another password; refused like `unlock`."""
        self._prove("change_password", "changing the password", with_, mode, (proof, new))

    def remove_password(self, with_: With, mode: Mode, proof: int) -> None:
        """Have no password any more; refused like `unlock`."""
        self._prove("remove_password", "removing the password", with_, mode, (proof,))

    def make_recovery_key(self, with_: With, mode: Mode, descriptors: Sequence[int]) -> None:
        """Make a recovery key and write it into the first of the descriptors, an empty pipe.

        The second is the proof, where there is a password; refused like `unlock`.
        """
        self._prove("make_recovery_key", "making a recovery key", with_, mode, descriptors)

    def authorise_rollback(self, with_: With, mode: Mode, proof: Sequence[int]) -> None:
        """Let one `attach_ssd` adopt; refused like `unlock`."""
        self._prove("authorise_rollback", "authorising an older disk", with_, mode, proof)

    def service(self) -> ServiceRecord:
        """How the service record ends, and whose work orders count."""
        reply = self._ask("reading the service record's end", {"op": "service"})
        return _read(reply, read_record, "service record")

    def trust_provider(
        self, name: str, key: bytes, with_: With, mode: Mode, proof: Sequence[int]
    ) -> None:
        """Take the work orders of this key (SubjectPublicKeyInfo, DER).

        Raises VaultRefusalError `full`, or what `unlock` raises.
        """
        fields = {"name": name, "key": key}
        self._prove("trust_provider", "trusting a provider", with_, mode, proof, **fields)

    def distrust_provider(
        self, fingerprint: bytes, with_: With, mode: Mode, proof: Sequence[int]
    ) -> None:
        """Take no more work orders of the key with this SHA-256; refused like `unlock`."""
        doing = "trusting a provider no more"
        self._prove("distrust_provider", doing, with_, mode, proof, fingerprint=fingerprint)

    def record_service(
        self,
        job: str,
        detail: bytes,
        at: int,
        *,
        order: bytes,
        continues: bytes,
        with_: With,
        mode: Mode,
        proof: Sequence[int],
    ) -> Signed:
        """Sign the next entry of the service record; the order, if there is one, is spent.

        `at` is the host's time in Unix seconds, `continues` the head of the record of the chip
        before. Raises VaultRefusalError `order`, `other_chip`, `job`, `validity`, `replayed`,
        `put_back`, or what `unlock` raises.
        """
        fields = {
            "job": job,
            "detail": detail,
            "time": at,
            "order": order,
            "continues": continues,
        }
        reply = self._prove("record_service", "recording service", with_, mode, proof, **fields)
        return _read(reply, read_signed, "entry of the service record")

    def boot(self) -> Boot:
        """What decides what starts, now."""
        reply = self._ask("asking what may start", {"op": "boot"})
        return _read(reply, read_boot, "state of starts")

    def request_ticket(self, product: str, epoch: int, components: Mapping[str, bytes]) -> bytes:
        """The request for a ticket for a system, in place of any earlier one (docs/tickets.md).

        `components` are the SHA-256 digests of its parts, by the names in
        `boot_state.COMPONENTS`.
        """
        request = {"op": "request_ticket", "product": product, "epoch": epoch, **components}
        return read_bytes(self._ask("asking for a ticket", request), "request")

    def accept_ticket(self, slot: Slot, ticket: bytes, tries: int = 0) -> None:
        """Have the system that `ticket` names be that of `slot`, which is not the current one.

        With 0 `tries` it is the current one from now on, else it is tried that often. The request
        is over whatever comes of it. Raises VaultRefusalError `ticket`, `other_chip`, `nonce`,
        `epoch`, `in_use`, and `no_ticket` for a try with nothing to fall back to.
        """
        request = {"op": "accept_ticket", "slot": slot, "ticket": ticket, "tries": tries}
        self._ask("taking a ticket", request)

    def begin_start(self, target: Target) -> Started:
        """Begin a start of the machine; a system that is tried is charged a try first.

        Raises VaultRefusalError `no_ticket`, `external_boot`, `firmware_password`; the start
        before is over then, too.
        """
        reply = self._ask("beginning a start", {"op": "begin_start", "target": target})
        return _read(reply, read_started, "state of starts")

    def came_up(self) -> None:
        """Note that the main system is up: one that was tried is the current one from now on.

        Raises VaultRefusalError `not_started`.
        """
        self._ask("noting that the system is up", {"op": "came_up"})

    def give_up(self) -> None:
        """Drop the system that is tried, if there is one."""
        self._ask("giving a system up", {"op": "give_up"})

    def check_firmware_password(self, secret: int) -> None:
        """Have the firmware password count as given for the next start; refused like `unlock`."""
        request = {"op": "check_firmware_password"}
        self._ask("checking the firmware password", request, (secret,))

    def set_policy(self, policy: Policy, *, external_boot: bool, other_systems: bool) -> None:
        """Have other rules for what may start.

        Raises VaultRefusalError `not_recovery` unless the recovery system was started last, and
        `unauthorised` before the owner proved to be one in it (`unlock` in mode `recovery`).
        """
        request = {
            "op": "set_policy",
            "policy": policy,
            "external_boot": external_boot,
            "other_systems": other_systems,
        }
        self._ask("changing what may start", request)

    def set_firmware_password(self, new: int) -> None:
        """Have a firmware password, or another one; refused like `set_policy`."""
        self._ask("setting the firmware password", {"op": "set_firmware_password"}, (new,))

    def remove_firmware_password(self) -> None:
        """Have no firmware password any more; refused like `set_policy`, or `absent`."""
        self._ask("removing the firmware password", {"op": "remove_firmware_password"})

    def keep_variables(self, digest: bytes) -> None:
        """Remember the SHA-256 of the guest's variables that are kept."""
        self._ask("keeping variables", {"op": "keep_variables", "digest": digest})

    def attach_ssd(self, mode: AttachMode) -> int:
        """Open a link to the vault for the SSD's controller, which may have the key over it.

        `format` replaces the disk's key and forgets its anchor first: what was written is lost
        for good. `adopt` takes the disk in whatever state it is. Returns the descriptor of the
        link's other end, to be given away and closed. Raises VaultRefusalError `attached` while an
        earlier controller has its link, `password` while locked, `unauthorised`.
        """
        doing = "erasing the disk's key" if mode == "format" else "giving the disk its key"
        far_end, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with far_end, ours:
            self._ask(doing, {"op": "attach_ssd", "mode": mode}, (ours.fileno(),))
            return far_end.detach()

    def erase(self) -> bytes:
        """Destroy every key to the disk; returns the receipt (COSE_Sign1)."""
        return read_bytes(self._ask("erasing the disk's keys", {"op": "erase"}), "receipt")

    def restore(self, authority: bytes, vendor: bytes) -> bytes:
        """Erase, and begin a new life; returns the receipt.

        It begins with new certificates, this authority (as at `birth`), the strictest rules, no
        firmware password and no system; only the minimum epoch stays.
        """
        request = {"op": "restore", "authority": authority, "vendor": vendor}
        return read_bytes(self._ask("restoring the chip", request), "receipt")

    def attest(self, nonce: bytes, software: bytes) -> bytes:
        """A signed statement (COSE_Sign1): what the vault knows, and the CBOR map `software`."""
        request = {"op": "attest", "nonce": nonce, "software": software}
        return read_bytes(self._ask("making a statement", request), "statement")

    def export_recovery(self) -> bytes:
        """What a new chip needs to take over the disk, encrypted under the recovery key."""
        doing = "exporting a recovery bundle"
        bundle = os.memfd_create("bundle", os.MFD_CLOEXEC)
        with open(bundle, "rb") as file:
            self._ask(doing, {"op": "export_recovery"}, (bundle,))
            file.seek(0)
            content = file.read(BUNDLE_LIMIT_BYTES + 1)
        if not 0 < len(content) <= BUNDLE_LIMIT_BYTES:
            raise broken("bundle")
        return content

    def destroy(self) -> None:
        """Destroy the chip, opened or not; it is unborn afterwards."""
        self._ask("destroying the chip", {"op": "destroy"})


def _ecid(reply: dict[str, Any]) -> int:
    value = reply.get("ecid")
    if not isinstance(value, int) or not 0 <= value < _ECID_LIMIT:
        raise broken("ecid")
    return value


def _read(reply: dict[str, Any], read: Callable[[dict[str, Any]], _Kind], what: str) -> _Kind:
    try:
        return read(reply)
    except PeerError:
        raise broken(what) from None
