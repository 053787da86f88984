"""What the chip says of itself: plainly, and signed."""

from typing import Any

from spacegray.workstation import hold
from spacegray.workstation.api import Workstation
from spacegray.workstation.unlock import Owner


def show(workstation: Workstation) -> dict[str, Any]:
    """Who the chip is, how it is, what holds against whom; docs/show.md lists the keys.

    Asks for nothing: of a chip that is sealed less is known.
    """
    doing = f"asking the chip of {workstation.name}"
    with hold.any_chip(
        workstation, doing, "being asked who it is", wants="nothing", locked=True
    ) as (mailbox, _):
        return mailbox.show()


def attest(workstation: Workstation, owner: Owner, nonce: bytes) -> tuple[bytes, str]:
    """The chip's signed statement about itself, with the asker's `nonce` in it.

    Returns also the key that it is signed with (PEM).
    """
    doing = f"asking the chip of {workstation.name} for a statement"
    with hold.any_chip(workstation, doing, "making a statement", owner, locked=True) as (
        mailbox,
        _,
    ):
        return mailbox.attest(nonce), mailbox.show()["identity_key"]
