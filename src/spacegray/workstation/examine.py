"""What is on the disk against what the chip's ticket names, for whoever asks why it did not start.

The disk is opened for it, so the machine is off and the disk unlocked.
"""

from spacegray.boot import examine
from spacegray.chip.client import ChipClient
from spacegray.errors import SpacegrayError
from spacegray.paths import Slot
from spacegray.system import layout
from spacegray.workstation.create import Installed
from spacegray.workstation.install import opened


def kernel(mailbox: ChipClient, installed: Installed, slot: Slot | None = None) -> str:
    """The sentence on a refused kernel image: which one was expected, and which was found.

    It is that of the slot in use unless another is given. Says so where the disk cannot be looked
    at; raises nothing.
    """
    try:
        expected, found = _look(mailbox, installed, slot)
    except (SpacegrayError, KeyError, ValueError) as error:
        return f"the kernel image could not be looked at ({error})"
    if found == expected:
        return f"the kernel image is the one that the ticket names, SHA-256 {found}"
    return f"expected SHA-256 {expected}, found {found}"


def is_named(mailbox: ChipClient, installed: Installed) -> bool:
    """Whether the kernel image in the slot in use is the one that the chip's ticket names."""
    try:
        expected, found = _look(mailbox, installed, None)
    except (KeyError, ValueError):
        return False
    return expected == found


def _look(mailbox: ChipClient, installed: Installed, slot: Slot | None) -> tuple[str, str]:
    """The digest in the ticket, and that on the disk or the words for what is there instead.

    Raises SpacegrayError, and KeyError or ValueError where there is no such slot.
    """
    shown = mailbox.show()
    which = slot or shown["current"]
    expected = shown["slots"][which]
    place = layout.slot_partitions(which, installed.disk_bytes)[0]
    with opened(mailbox) as disk:
        try:
            found = examine.kernel_digest(disk.read, place.start, place.size).hex()
        except examine.NotFoundError as error:
            found = str(error)
    return expected["kernel"] if expected else "none", found
