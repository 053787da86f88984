"""What the chip's answers hold: a start and its descriptors, an erasure, a new life."""

from dataclasses import dataclass
from typing import Self

import msgspec

from spacegray.chip.boot_state import Policy
from spacegray.chip.modules import Module
from spacegray.links import LinkEvent
from spacegray.paths import Slot
from spacegray.sockets import close_all


class StartFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a reply to `prepare_start` says."""

    links: tuple[LinkEvent, ...]
    firmware_version: str
    policy: Policy
    slot: Slot
    trying: bool
    secure_boot: bool


@dataclass(kw_only=True)
class Start:
    """What one start of the machine needs. Owns its descriptors; a context manager.

    A descriptor is -1 where this start has none, and after it was closed.
    """

    links: tuple[LinkEvent, ...]
    firmware_version: str
    policy: Policy
    slot: Slot
    trying: bool
    """Whether the system in `slot` is one that has not been up yet."""
    secure_boot: bool
    firmware: int
    """The verified firmware image: sealed, read only."""
    variables: int
    """The fresh variable store, read and write."""
    disk: int = -1
    """A connected vhost-user-blk socket; not in recovery."""
    medium: int = -1
    """The recovery system: sealed, read only; in recovery alone, as is the port."""
    port: int = -1
    """The machine's end of the recovery port, a connected stream socket."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the descriptors; the machine has its own copies."""
        given = (self.firmware, self.variables, self.disk, self.medium, self.port)
        close_all([each for each in given if each >= 0])
        self.firmware = self.variables = self.disk = self.medium = self.port = -1


class Erased(msgspec.Struct, frozen=True, kw_only=True):
    """What an erasure says of itself."""

    receipt: bytes
    """Signed (COSE_Sign1): what was destroyed, where it lay, how surely."""
    milliseconds: float
    """From the chip's reading of the message until the keys were gone."""
    modules: list[Module]
    """The modules as they lay then; what is in them is noise."""


class Restored(msgspec.Struct, frozen=True, kw_only=True):
    """A chip in a new life: its ECID, which stays, and the receipt for all that was."""

    ecid: str
    receipt: bytes
