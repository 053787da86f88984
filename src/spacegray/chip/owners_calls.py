"""The client's half for the owner's secrets, and for what only an owner may have: service.

Secrets are given as descriptors (a regular file, or the reading end of a pipe whose writer is done)
and stay the caller's.
"""

from spacegray.chip.mailbox_line import MailboxLine, convert, given
from spacegray.chip.messages import Claimed, Mode, With
from spacegray.chip.service_record import ServiceRecord, Signed


class OwnersCalls(MailboxLine):
    """What is asked with the owner's secrets."""

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
        self._ask(request, (out, *given(proof)))

    def authorise_rollback(
        self, proof: int | None = None, *, with_: With = "password", mode: Mode = "normal"
    ) -> None:
        """Let the disk be opened with `adopt`, once.

        `proof` is wanted where there is a password or recovery key; refused as by `unlock`.
        """
        request = {"op": "authorise_rollback", "with": with_, "mode": mode}
        self._ask(request, given(proof))

    def service(self) -> ServiceRecord:
        """How the service record ends, and whose work orders count."""
        return convert(self._ask({"op": "service"})[0], ServiceRecord)

    def trust_provider(
        self,
        name: str,
        key: bytes,
        owner: int | None = None,
        *,
        with_: With = "password",
        mode: Mode = "normal",
    ) -> None:
        """Take the work orders of the provider with this key (SubjectPublicKeyInfo, DER).

        `owner` is the proof where there is a password, refused as by `unlock`. Refused `full` where
        as many are trusted as the chip remembers.
        """
        request = {"op": "trust_provider", "name": name, "key": key, "with": with_, "mode": mode}
        self._ask(request, given(owner))

    def distrust_provider(
        self,
        fingerprint: bytes,
        owner: int | None = None,
        *,
        with_: With = "password",
        mode: Mode = "normal",
    ) -> None:
        """Take no more work orders of the key with this SHA-256; `owner` as for trusting.

        Refused `absent` where no such key is trusted.
        """
        request = {
            "op": "distrust_provider",
            "fingerprint": fingerprint,
            "with": with_,
            "mode": mode,
        }
        self._ask(request, given(owner))

    def record_service(
        self,
        job: str,
        detail: bytes,
        *,
        order: bytes = b"",
        continues: bytes = b"",
        owner: int | None = None,
        with_: With = "password",
        mode: Mode = "normal",
    ) -> Signed:
        """Have the next entry of the service record signed; `order` is spent by it.

        `detail` is a CBOR map of what was and what is. `continues`, for the very first entry, is
        the head of the record of the chip before. `owner` is the proof where there is a password
        and no order, refused as by `unlock`. An order is refused `order`, `other_chip`, `job`,
        `validity` or `replayed`; the job of a machine that is on `state`.
        """
        request = {
            "op": "record_service",
            "job": job,
            "detail": detail,
            "order": order,
            "continues": continues,
            "with": with_,
            "mode": mode,
        }
        return convert(self._ask(request, given(owner))[0], Signed)
