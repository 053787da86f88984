"""The exchange of one chip for another: with the logic board, or for one from a recovery bundle.

The new chip is born in a state folder beside the old one's. Once the old chip has signed that it
goes (`continues`), or the new one has taken the disk over (`took_over`), a file in the new one's
folder says so. From then on whoever is next to start a chip finishes the exchange: two renamings,
each of which leaves what the next one needs. No chip may run meanwhile.
"""

import contextlib
import os
import shutil
from pathlib import Path

from spacegray.chip import manifest
from spacegray.errors import SpacegrayError
from spacegray.files import sync_folder, write_atomically
from spacegray.paths import WorkstationPaths
from spacegray.workstation import create, ways_back

_NEW, _OLD = create.BESIDE


def fresh(at: WorkstationPaths) -> WorkstationPaths:
    """Where the chip that is to take this one's place is born."""
    return at.beside(_NEW)


def discard(at: WorkstationPaths) -> None:
    """Destroy the chip in a state folder that is nobody's any more, and remove the folder."""
    if at.state_folder.exists():
        create.destroy_chip(at, create.seal_of(at))
        shutil.rmtree(at.state_folder, ignore_errors=True)


def beside(at: WorkstationPaths) -> list[WorkstationPaths]:
    """The chips that there are beside the workstation's own."""
    found = map(at.beside, create.BESIDE)
    return [each for each in found if os.path.lexists(each.state_folder)]


def clear(at: WorkstationPaths) -> list[Path]:
    """Destroy every chip beside the workstation's own, for it may have the key to the same disk.

    Returns the state folders of those that could not be: they stay, so that it can be done again.
    """
    for each in beside(at):
        with contextlib.suppress(OSError):
            if create.destroy_chip(each, create.seal_of(each)):
                shutil.rmtree(each.state_folder)
    return [each.state_folder for each in beside(at)]


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

    With the logic board the disk is the old chip's, and lost with it: it counts as empty.
    """
    new, old = fresh(at), at.beside(_OLD)
    signed = new.continues.exists()
    exchanged = signed or new.took_over.exists()
    if signed:
        installed = create.installed(at)
        if installed is not None and not installed.empty:
            create.note_empty(at, installed, empty=True, other=False)
    if exchanged:
        try:
            if signed:
                ways_back.forget_bundle(at)
            if at.state_folder.exists():
                discard(old)
                at.state_folder.rename(old.state_folder)
            new.state_folder.rename(at.state_folder)
            sync_folder(at.state_folder.parent)
        except OSError as error:
            raise SpacegrayError(
                f"exchanging the chip of {at.name}",
                error.strerror,
                f"see to {at.state_folder.parent}, then try again",
            ) from None
    # Nothing puts the old one back once there is a chip in its place.
    if old.state_folder.exists() and manifest.exists(at.state_folder):
        discard(old)
    return exchanged
