"""What each kind of seal holds against, as the chip says it of itself; no claim goes beyond it.

The same table is in docs/threat-model.md, with the tests that attack each cell.
"""

from typing import Final, NamedTuple

from spacegray.chip.messages import Seal

HOLDS: Final = "holds"
FAILS: Final = "does not hold"


class Promise(NamedTuple):
    """One line of the table: an attack, and what each seal does against it."""

    against: str
    keyfile: str
    passphrase: str
    tpm2: str


TABLE: Final = (
    Promise(
        "modules or workstation folder copied, stolen, put back",
        "holds, while the chip's state folder (kept apart) is not taken along",
        HOLDS,
        HOLDS,
    ),
    Promise(
        "the whole home or host disk copied",
        FAILS,
        "the passphrase has to be guessed (Argon2id)",
        HOLDS,
    ),
    Promise(
        "the whole host disk put back to an older day",
        "not noticed",
        "not noticed",
        "noticed (NV counter)",
    ),
    Promise(
        "erase, against copies made before",
        "does not reach them",
        "does not reach them",
        "reaches them (secret in an NV index)",
    ),
    Promise(
        "other users of the host, QEMU taken over by its guest, root in the guest",
        HOLDS,
        HOLDS,
        HOLDS,
    ),
    Promise(
        "root on the host, or its owner's own account, while the machine runs",
        FAILS,
        FAILS,
        FAILS,
    ),
)


def promises(seal: Seal) -> list[dict[str, str]]:
    """The table's column for one seal: a list of `{against, holds}`."""
    return [{"against": each.against, "holds": getattr(each, seal)} for each in TABLE]
