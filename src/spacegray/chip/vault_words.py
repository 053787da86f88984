"""The vault's refusals in words: what stopped it, and what to do next."""

from collections.abc import Mapping
from typing import Final

from spacegray.chip.refusal import ChipRefusalError

_BUNDLE: Final = "or make a new chip with `import --recovery`"
WORDS: Final[Mapping[str, tuple[str, str]]] = {
    "unborn": (
        "this chip was never born, or was destroyed",
        "create the workstation again, or put its state folder back",
    ),
    "exists": ("it exists already", "choose another name, or delete that workstation first"),
    "sealed": (
        "its sealing key is missing, or another chip's",
        f"put the chip's state folder back as it was, {_BUNDLE}",
    ),
    "corrupt": (
        "its store is damaged",
        f"put the chip's state folder back from a backup, {_BUNDLE}",
    ),
    "put_back": (
        "the chip's state folder, or a part of it, is older than the chip remembers",
        f"put the newest back, have `ssd accept` take this with the recovery key, {_BUNDLE}",
    ),
    "tpm": (
        "the host's TPM does not do its part",
        f"see to it (`doctor` looks, SPACEGRAY_TPM names another), {_BUNDLE}",
    ),
    "storage": (
        "the host does not keep what the vault writes",
        "make room on the disk under the chip's state folder, or see to that disk",
    ),
    "locked": (
        "the vault has closed, as it cannot know whether its last write was kept",
        "see to the host's disk, then start the workstation again",
    ),
    "attached": ("the disk is in use", "stop what uses it, then try again"),
    "passphrase": ("it needs the passphrase", "give the passphrase of this chip"),
    "password": (
        "the chip is locked",
        "unlock it with the password or the recovery key",
    ),
    "absent": ("there is no such secret to check", "`password set` or `recovery-key` makes one"),
    "secret": (
        "no usable secret was given",
        "give one line of 1 to 1024 bytes, in a file or a pipe whose writer is done",
    ),
    "unauthorised": (
        "its owner has not authorised that",
        "`ssd accept`, or the recovery system, asks the owner first",
    ),
    "ticket": (
        "the ticket is none of this chip's signing authority",
        "run it again; if that authority is gone, `restore` begins anew with another",
    ),
    "other_chip": ("the ticket is another chip's", "run it again: it asks for one of its own"),
    "nonce": ("the ticket answers no open request", "run it again: a ticket is taken once"),
    "epoch": (
        "the system is older than one that was up on this chip",
        "install a newer one: `update`",
    ),
    "in_use": ("the current system is in that slot", "install into the other one"),
    "no_ticket": ("no system on it has a ticket", "`restore` installs one"),
    "external_boot": (
        "starting from outside is not allowed",
        "`security set --external-boot allow` lets the owner allow it",
    ),
    "firmware_password": ("the firmware password is needed first", "give it"),
    "not_recovery": (
        "only the recovery system may change that",
        "`security set` or `recovery` starts it",
    ),
    "not_started": ("the main system was not started", "start it first"),
    "order": (
        "the work order is not taken",
        "`service providers` lists those it trusts; have one of them issue an order",
    ),
    "job": ("the work order is for another job", "do that job, or have an order issued for this"),
    "validity": (
        "the work order is not valid now",
        "see to the host's clock, or have a new order issued",
    ),
    "replayed": ("the work order was used before", "have a new order issued: one is for one job"),
    "full": (
        "the chip remembers no more providers",
        "`service distrust` takes one out that is not needed any more",
    ),
}
"""What stopped it and what to do, for the refusals a user can act upon."""
_PLAIN: Final = (
    "unborn",
    "exists",
    "locked",
    "attached",
    "passphrase",
    "password",
    "absent",
    "unauthorised",
    "other_chip",
    "nonce",
    "epoch",
    "in_use",
    "no_ticket",
    "external_boot",
    "firmware_password",
    "not_recovery",
    "not_started",
    "job",
    "validity",
    "replayed",
    "full",
)
"""Refusals whose details say nothing more."""
ON_THE_HOST: Final = ("tpm", "storage")
"""Refusals of which the vault's last line on standard error says more."""


class VaultRefusalError(ChipRefusalError):
    """The vault answered, and said no; `code` is the protocol's word."""

    def __init__(self, doing: str, code: str, detail: str) -> None:
        stopped_by, next_step = WORDS.get(code, (f"the vault refused ({code})", "see `logs`"))
        if code not in _PLAIN:
            stopped_by = f"{stopped_by}: {detail}"
        super().__init__(doing, stopped_by, next_step, code=code)
