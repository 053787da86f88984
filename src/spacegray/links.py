"""The boot chain: its links in order, and the words for what was seen of each.

A link is only ever reported after it was observed, never because time has passed.
"""

from typing import Final, Literal

import msgspec

LINKS: Final = ("chip", "firmware", "disk", "machine", "kernel", "system", "data", "login")
"""Links in the order in which power-on passes them."""

MEANING: Final = {
    "chip": "the vault is open and the chip answers",
    "firmware": "the firmware image is the one the chip remembers, the variables are fresh",
    "disk": "the encrypted disk is served to the machine",
    "machine": "the processor runs",
    "kernel": "Secure Boot accepted the signed kernel image and the kernel runs",
    "system": "the sealed system volume is open",
    "data": "the writable data volume is mounted",
    "login": "the guest of this very start answered and lets its owner log in",
}

Status = Literal["ok", "failed"]


class LinkEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One observation about one link; `at` is in Unix seconds."""

    link: str
    status: Status
    detail: str
    at: float
