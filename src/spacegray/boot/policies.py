"""What each setting of startup security means, in words: for command line, console and documents.

The settings themselves are the chip's; nothing here decides. A sentence each, for the owner who
has to choose: what starts then, and what does not.
"""

from typing import Final, Literal

Policy = Literal["full", "medium", "none"]
Switch = Literal["deny", "allow"]

POLICY_NAMES: Final[dict[Policy, str]] = {
    "full": "Full Security",
    "medium": "Medium Security",
    "none": "No Security",
}

POLICIES: Final[dict[Policy, str]] = {
    "full": "Only the system that a ticket of this chip names starts, and no older or other one.",
    "medium": (
        "Any system that a trusted signer ever signed starts: ours, in any version, and others "
        "once other systems are allowed."
    ),
    "none": (
        "Any system starts, signed or not; the machine's firmware is verified all the same, "
        "and so is recovery."
    ),
}

EXTERNAL_BOOT: Final[dict[Switch, str]] = {
    "deny": "An external disk is not there until the operating system runs, so nothing starts "
    "from it.",
    "allow": "The machine may be started from an external disk, with a system that the policy "
    "lets start.",
}

OTHER_SYSTEMS: Final[dict[Switch, str]] = {
    "deny": "Under Medium Security only systems with our own vendor's signature start.",
    "allow": "Under Medium Security systems that Microsoft's UEFI authority signed start too, "
    "such as those of the distributions.",
}

FIRMWARE_PASSWORD: Final[dict[bool, str]] = {
    False: "Whoever is at the machine may start recovery, an external disk or target disk mode.",
    True: "The chip asks for the firmware password before anything but the chosen startup disk: "
    "recovery, an external disk, target disk mode.",
}
