"""The boot chain: its links in order, and the words for what was seen of each.

A link is only ever reported after it was observed, never because time has passed.
"""

from typing import Final, Literal, get_args

import msgspec

Target = Literal["main", "other", "external", "recovery"]
"""What a start is for: our system, another one on the disk, an external disk, recovery."""

TARGETS: Final[tuple[Target, ...]] = get_args(Target)

LINKS: Final = ("chip", "firmware", "disk", "machine", "kernel", "system", "data", "login")
"""Links of our own system, in the order in which power-on passes them."""

_FOREIGN: Final = ("chip", "firmware", "disk", "machine", "kernel")
_CHAINS: Final[dict[Target, tuple[str, ...]]] = {
    "main": LINKS,
    "other": _FOREIGN,
    "external": _FOREIGN,
    "recovery": ("chip", "firmware", "machine", "kernel", "recovery"),
}

MEANING: Final = {
    "chip": "the vault is open and the chip answers",
    "firmware": "firmware and start are those of this chip's ticket, the variables are fresh",
    "disk": "the encrypted disk is served to the machine",
    "machine": "the processor runs",
    "kernel": "Secure Boot accepted the kernel image or loader, and it runs",
    "system": "the sealed system volume is open",
    "data": "the writable data volume is mounted",
    "login": "the guest of this very start answered and lets its owner log in",
    "recovery": "the recovery system of this very start answered",
}

Status = Literal["ok", "failed"]


class LinkEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One observation about one link; `at` is in Unix seconds."""

    link: str
    status: Status
    detail: str
    at: float


def chain(target: Target = "main") -> tuple[str, ...]:
    """The links of a start for `target`, in their order; past the last one it is up."""
    return _CHAINS[target]
