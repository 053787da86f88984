"""What the firmware's subjects share: where the chip's things lie, its two parts, its state.

A chip is `new` while nothing was opened, `sealed` while its vault waits for the passphrase, and
`open` otherwise. Invariant: while it is open, the vault is the one that its manifest was
written for.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from spacegray.chip import manifest
from spacegray.chip.keeping import Kept
from spacegray.chip.manifest import Manifest
from spacegray.chip.refusal import ChipRefusalError
from spacegray.chip.ssd import Ssd
from spacegray.chip.vault import Identity, Vault
from spacegray.links import LinkEvent, Target
from spacegray.paths import Slot, SlotPaths

State = Literal["new", "sealed", "open"]

_WAITS: Final = {
    "new": ("it was not opened", "start the workstation"),
    "sealed": ("it is sealed", "give the passphrase first"),
}


@dataclass(frozen=True)
class Place:
    """Where a chip's things lie, and what it runs."""

    name: str
    state_folder: Path
    folder: Path
    run: Path
    vault_program: Path
    ssd_program: Path

    def slot(self, slot: Slot) -> SlotPaths:
        """The files of the system in this slot."""
        return SlotPaths(self.folder / slot)


@dataclass
class Started:
    """The start of the machine that was prepared last, as far as it was seen."""

    target: Target
    slot: Slot
    trying: bool
    policy: str
    since: float
    """Unix seconds."""
    links: list[LinkEvent]


@dataclass
class Left:
    """The variable store that the machine was given: what it leaves there is looked at later."""

    descriptor: int
    kept: Kept
    """What of the guest's variables was kept before."""
    shim_ran: bool
    """Whether the shim's were placed in it."""

    def close(self) -> None:
        """Let go of the store."""
        os.close(self.descriptor)


@dataclass
class Reply:
    """A successful answer; its descriptors are closed once it was sent."""

    fields: dict[str, Any] = field(default_factory=dict)
    descriptors: list[int] = field(default_factory=list)


Handler = Callable[[Any, list[int]], Reply]
"""Does what a request asks with the descriptors that came along, which stay the caller's."""


class Core:
    """One chip."""

    def __init__(self, place: Place, vault: Vault, disk: Ssd) -> None:
        self.place = place
        self.vault = vault
        self.disk = disk
        self.state: State = "new"
        self.manifest: Manifest | None = None
        """What is remembered; None while nothing was read, and after the chip was destroyed."""
        self.started: Started | None = None
        self.left: Left | None = None
        self._identity: Identity | None = None

    @property
    def remembered(self) -> Manifest:
        """The manifest of an open chip; raises ChipRefusalError while it is not."""
        if self.manifest is None:
            raise self.not_now(f"asking the chip of {self.place.name}")
        return self.manifest

    @property
    def identity(self) -> Identity:
        """The public half of an open vault; raises ChipRefusalError while it is not."""
        if self._identity is None:
            raise self.not_now(f"asking the chip of {self.place.name}")
        return self._identity

    def open(self, passphrase: Sequence[int] = ()) -> None:
        """Open the vault of a chip that was born; raises ChipRefusalError when that fails."""
        remembered = manifest.read(self.place.state_folder)
        self.manifest, self.state = remembered, "sealed"
        ecid = manifest.show_ecid(self.vault.open(passphrase))
        if ecid != remembered.ecid:
            raise ChipRefusalError(
                f"opening the chip of {self.place.name}",
                f"the vault is that of the chip {ecid}, not of {remembered.ecid}",
                "put the chip's state folder back as it was",
                code="corrupt",
            )
        self.now_open(remembered)

    def now_open(self, remembered: Manifest) -> None:
        """The vault is open and has these keys from now on; `remembered` belongs to them."""
        self._identity = self.vault.identity()
        self.manifest = remembered
        self.state = "open"

    def now_unborn(self) -> None:
        """The chip was destroyed."""
        self._identity = self.manifest = None
        self.state = "new"
        self.forget_start()

    def forget_start(self) -> None:
        """Whatever was started is of a life that is over; nothing it left is looked at."""
        self.started = None
        left, self.left = self.left, None
        if left is not None:
            left.close()

    def remember(self, changed: Manifest) -> None:
        """Keep a changed manifest, durably."""
        if changed != self.manifest:
            manifest.write(self.place.state_folder, changed)
            self.manifest = changed

    def not_now(self, doing: str) -> ChipRefusalError:
        """The refusal of what a chip in this state does not do."""
        return ChipRefusalError(doing, *_WAITS.get(self.state, ("", "")), code="state")
