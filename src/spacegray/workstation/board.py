"""The exchange of the logic board: another chip comes in the place of the one there is.

The new chip is born in a state folder beside the old one's. Once the old chip has signed that it
goes, a file in the new one's folder says so (`continues`). From then on whoever is next to start a
chip finishes the exchange: two renamings, each of which leaves what the next one needs. No chip may
run meanwhile.
"""

import shutil

from spacegray import spec as specs
from spacegray.errors import SpacegrayError
from spacegray.files import sync_folder, write_atomically
from spacegray.paths import WorkstationPaths
from spacegray.workstation import create, known, ways_back

_NEW, _OLD = create.BESIDE


def fresh(at: WorkstationPaths) -> WorkstationPaths:
    """Where the chip of a new logic board is born."""
    return at.beside(_NEW)


def discard(at: WorkstationPaths) -> None:
    """Destroy the chip in a state folder that is nobody's any more, and remove the folder."""
    if at.state_folder.exists():
        create.destroy_chip(at, known.read(at).seal or specs.load(at.spec).seal)
        shutil.rmtree(at.state_folder, ignore_errors=True)


def decide(at: WorkstationPaths, head: bytes) -> bool:
    """The old chip has signed, as the entry with this `head`: from now on the new one comes.

    Returns False where there is no new one.
    """
    new = fresh(at)
    if not new.state_folder.is_dir():
        return False
    write_atomically(new.continues, head)
    return True


def exchange(at: WorkstationPaths) -> bool:
    """Finish an exchange that is decided; returns whether there was one. Raises SpacegrayError.

    The disk is the old chip's, and lost with it: it counts as empty.
    """
    new, old = fresh(at), at.beside(_OLD)
    exchanged = new.continues.exists()
    if exchanged:
        installed = create.installed(at)
        if installed is not None and not installed.empty:
            create.note_empty(at, installed, empty=True, other=False)
        try:
            ways_back.forget_bundle(at)
            if at.state_folder.exists():
                discard(old)
                at.state_folder.rename(old.state_folder)
            new.state_folder.rename(at.state_folder)
            sync_folder(at.state_folder.parent)
        except OSError as error:
            raise SpacegrayError(
                f"exchanging the logic board of {at.name}",
                error.strerror,
                f"see to {at.state_folder.parent}, then try again",
            ) from None
    if at.continues.exists():
        discard(old)
    return exchanged
