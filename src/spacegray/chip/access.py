"""Passwords and recovery: passed on to the vault, which alone judges; refusals put into words.

Secrets are descriptors that are never read here. Whoever gave a wrong one is told how many
tries are left and how long the next one has to wait, as the vault counts them.
"""

import contextlib
from collections.abc import Iterator
from typing import Final

from spacegray.chip import messages
from spacegray.chip.core import Core, Handler, Reply
from spacegray.chip.messages import Claimed, Mode
from spacegray.chip.refusal import ChipRefusalError
from spacegray.chip.vault import Status, Vault, VaultRefusalError

_COUNTED: Final = ("wrong", "wait", "disabled")
_UNITS: Final = ((3600, "hour"), (60, "minute"), (1, "second"))
_NAMES: Final = {
    "password": "password",
    "recovery": "password in recovery mode",
    "recovery_key": "recovery key",
    "firmware_password": "firmware password",
}


class Access:
    """Answers whatever is about the owner's secrets."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self.handlers: dict[type, Handler] = {
            messages.Unseal: self._unseal,
            messages.Unlock: self._unlock,
            messages.SetPassword: self._set_password,
            messages.ChangePassword: self._change_password,
            messages.RemovePassword: self._remove_password,
            messages.SetFirmwarePassword: self._set_firmware_password,
            messages.MakeRecoveryKey: self._make_recovery_key,
            messages.AuthoriseRollback: self._authorise_rollback,
            messages.ExportRecovery: self._export_recovery,
        }

    def _unseal(self, _: messages.Unseal, descriptors: list[int]) -> Reply:
        if self._core.state == "open":
            raise ChipRefusalError("opening the vault", "it is open", "go on", code="state")
        try:
            self._core.open(descriptors)
        except VaultRefusalError as refusal:
            if refusal.code != "passphrase":
                raise
            raise ChipRefusalError(
                refusal.doing, "this is not the passphrase", "try again", code=refusal.code
            ) from None
        return Reply()

    def _unlock(self, request: messages.Unlock, descriptors: list[int]) -> Reply:
        vault = self._core.vault
        with counted(vault, request.with_, request.mode):
            if request.with_ == "firmware_password":
                vault.check_firmware_password(descriptors[0])
            else:
                vault.unlock(request.with_, request.mode, descriptors[0])
        return Reply()

    def _set_password(self, _: messages.SetPassword, descriptors: list[int]) -> Reply:
        try:
            self._core.vault.set_password(descriptors[0])
        except VaultRefusalError as refusal:
            if refusal.code != "exists":
                raise
            raise ChipRefusalError(
                refusal.doing, "there is one", "`password change` changes it", code=refusal.code
            ) from None
        return Reply()

    def _change_password(self, request: messages.ChangePassword, descriptors: list[int]) -> Reply:
        with counted(self._core.vault, request.with_, request.mode):
            self._core.vault.change_password(request.with_, request.mode, *descriptors)
        return Reply()

    def _remove_password(self, request: messages.RemovePassword, descriptors: list[int]) -> Reply:
        with counted(self._core.vault, request.with_, request.mode):
            self._core.vault.remove_password(request.with_, request.mode, descriptors[0])
        return Reply()

    def _set_firmware_password(
        self, _: messages.SetFirmwarePassword, descriptors: list[int]
    ) -> Reply:
        with counted(self._core.vault, "password", "recovery"):
            self._core.vault.set_firmware_password(descriptors[0])
        return Reply()

    def _make_recovery_key(
        self, request: messages.MakeRecoveryKey, descriptors: list[int]
    ) -> Reply:
        with counted(self._core.vault, request.with_, request.mode):
            self._core.vault.make_recovery_key(request.with_, request.mode, descriptors)
        return Reply()

    def _authorise_rollback(
        self, request: messages.AuthoriseRollback, descriptors: list[int]
    ) -> Reply:
        with counted(self._core.vault, request.with_, request.mode):
            self._core.vault.authorise_rollback(request.with_, request.mode, descriptors)
        return Reply()

    def _export_recovery(self, _: messages.ExportRecovery, __: list[int]) -> Reply:
        return Reply({"bundle": self._core.vault.export_recovery()})


@contextlib.contextmanager
def counted(vault: Vault, with_: Claimed, mode: Mode) -> Iterator[None]:
    """Say of a secret that `vault` refuses what its counters say."""
    try:
        yield
    except VaultRefusalError as refusal:
        if refusal.code in _COUNTED:
            raise explain(refusal, vault.status(), with_, mode) from None
        if refusal.code != "unauthorised":
            raise
        raise ChipRefusalError(
            refusal.doing,
            "its owner has to prove to be one",
            "give the password or the recovery key",
            code=refusal.code,
        ) from None


def explain(
    refusal: VaultRefusalError, status: Status, with_: Claimed, mode: Mode
) -> ChipRefusalError:
    """The refusal of a secret in words: what is left, and when the next one is looked at."""
    budget = _budget(with_, mode)
    tries, name = status.attempts[budget], _NAMES[budget]
    left = f"{tries.left} {'try is' if tries.left == 1 else 'tries are'} left"
    again = f"try again in {duration(tries.wait_seconds)}" if tries.wait_seconds else "try again"
    if refusal.code == "disabled":
        words = f"all tries of the {name} are spent", _other_way(status, budget)
    elif refusal.code == "wait":
        words = f"it waits after wrong ones, and has not looked at this {name}; {left}", again
    elif tries.left == 0:
        words = f"this is not the {name}, and it was the last try", _other_way(status, budget)
    else:
        words = f"this is not the {name}; {left}", again
    return ChipRefusalError(
        refusal.doing,
        *words,
        code=refusal.code,
        left=tries.left,
        wait_seconds=tries.wait_seconds,
    )


def duration(seconds: int) -> str:
    """A time in the two largest units that it has: `1 hour 5 minutes`, `45 seconds`."""
    words = []
    for size, unit in _UNITS:
        count, seconds = divmod(seconds, size)
        if count:
            words.append(f"{count} {unit}{'' if count == 1 else 's'}")
    return " ".join(words[:2]) or "0 seconds"


def _budget(with_: Claimed, mode: Mode) -> str:
    if with_ != "password":
        return with_
    return "recovery" if mode == "recovery" else "password"


def _other_way(status: Status, spent: str) -> str:
    """What an owner may still try whose tries of one kind are spent."""
    if spent == messages.FIRMWARE_PASSWORD:
        return "only `restore`, which erases the disk, makes the chip forget it; `start` goes on"
    ways = []
    if status.password and spent != "password" and status.attempts["password"].left:
        ways.append("the password")
    if status.password and spent != "recovery" and status.attempts["recovery"].left:
        ways.append("the password with `--recovery-mode`")
    if status.recovery_key and spent != "recovery_key" and status.attempts["recovery_key"].left:
        ways.append("the recovery key (`--recovery-key-file`)")
    if ways:
        return f"give {' or '.join(ways)}"
    return "nothing opens this disk any more: `erase` or `restore`"
