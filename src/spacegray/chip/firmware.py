"""The chip's state machine: opened or new, it gives each request to who knows its subject.

Invariants: it answers only what its state allows, and only once the vault is the one its
manifest was written for; nothing reaches the machine that was not frozen first and compared
then; when one of its parts dies it says so once and ends, for half a chip is none.
"""

from collections.abc import Callable
from typing import Final

from spacegray.chip import messages
from spacegray.chip.access import Access
from spacegray.chip.core import Core, Handler, Place, Reply
from spacegray.chip.disks import Disks
from spacegray.chip.life import Life
from spacegray.chip.part import Part, Watcher
from spacegray.chip.servicing import Servicing
from spacegray.chip.showing import Showing
from spacegray.chip.ssd import Ssd
from spacegray.chip.starting import Starting
from spacegray.chip.tickets import Tickets
from spacegray.chip.tpm import Tpm
from spacegray.chip.vault import Vault, VaultRefusalError
from spacegray.chip.vouching import Vouching
from spacegray.errors import SpacegrayError
from spacegray.sockets import PeerError

ANSWERED: Final[dict[str, tuple[type, ...]]] = {
    "new": (messages.Show, messages.Birth, messages.AdoptBundle, messages.Destroy),
    "sealed": (messages.Show, messages.Unseal, messages.Destroy),
}
"""What is answered while the chip is not open; everything else only then."""


class Firmware:
    """One running chip."""

    def __init__(self, place: Place, watcher: Watcher, tpm: Tpm | None = None) -> None:
        """Start the vault, with `tpm` where the seal needs it; nothing is opened yet.

        Raises SpacegrayError.
        """
        self._place = place
        self.failure: SpacegrayError | None = None
        """Why the chip must end or did not end well: a part died or did not stop in order."""
        self._vault = Vault(
            place.vault_program,
            place.state_folder,
            tpm=tpm,
            watcher=watcher,
            ended=self._part_ended("the vault", "chip"),
        )
        self._disk = Ssd(
            place.folder,
            place.run,
            program=place.ssd_program,
            attach=self._vault.attach_ssd,
            watcher=watcher,
            ended=self._part_ended("the disk's controller", "disk"),
        )
        self._core = Core(place, self._vault, self._disk)
        self._handlers: dict[type, Handler] = {}
        self._starting = Starting(self._core, watcher)
        for subject in (
            Showing(self._core),
            Life(self._core),
            Access(self._core),
            Servicing(self._core),
            Vouching(self._core),
            Tickets(self._core),
            Disks(self._core, self._starting),
            self._starting,
        ):
            self._handlers |= subject.handlers

    def open(self) -> None:
        """Open a chip that was born; it stays sealed where its passphrase is needed.

        Raises SpacegrayError, link `chip`, when it does not open.
        """
        try:
            self._core.open()
        except VaultRefusalError as refusal:
            if refusal.code != "passphrase":
                raise

    def answer(self, request: messages.Request, descriptors: list[int]) -> Reply:
        """Do what is asked; `descriptors` came along and stay the caller's.

        Raises SpacegrayError when it cannot be done, PeerError for descriptors it did not want.
        """
        if len(descriptors) not in request.descriptors:
            numbers = " or ".join(map(str, request.descriptors))
            raise PeerError(f"{numbers} descriptors belong to this operation")
        state = self._core.state
        if state in ANSWERED and type(request) not in ANSWERED[state]:
            raise self._core.not_now(f"asking the chip of {self._place.name}")
        return self._handlers[type(request)](request, descriptors)

    def stop(self) -> None:
        """Close the disk and the vault; `failure` says if that went wrong."""
        try:
            for stop in (self._disk.stop, self._starting.machine_off):
                try:
                    stop()
                except SpacegrayError as error:
                    self.failure = self.failure or error
        finally:
            self._vault.stop()

    def _part_ended(self, name: str, link: str) -> Callable[[Part], None]:
        def ended(part: Part) -> None:
            self.failure = self.failure or SpacegrayError(
                f"running the chip of {self._place.name}",
                f"{name} died ({part.last_words()})",
                "start the workstation again",
                link=link,
            )

        return ended
