"""The workstation held while it is off, for work on its disk: nobody starts it meanwhile.

The lock is the one that a supervisor holds while the machine is on. A note beside it says what
it is held for, so that whoever finds it taken can be told.
"""

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from spacegray import host, process
from spacegray.chip import launch as chips
from spacegray.chip.client import ChipClient
from spacegray.chip.launch import ChipProcess
from spacegray.errors import SpacegrayError
from spacegray.files import locked, make_private, write_atomically
from spacegray.paths import WorkstationPaths
from spacegray.workstation import board, known, state, under_way, unlock, ways_back
from spacegray.workstation.unlock import Answer, Given, Owner

if TYPE_CHECKING:
    from spacegray.workstation.api import Workstation

TURN_SECONDS = 2.0
"""How long to wait for whoever is just about to let go."""
_POLL_SECONDS = 0.05


Wants = Literal["nothing", "chip", "disk", "served"]
"""What of a chip is to be open: it may stay sealed, it is open, the disk may be opened too, or also
be served to something else than its own system (over NBD)."""
_WAYS: Final[dict[Wants, unlock.Way]] = {"chip": "chip", "disk": "disk", "served": "other"}


class Holder(msgspec.Struct, kw_only=True, frozen=True):
    """Who holds it: a process, and what for, as the end of a sentence about the workstation."""

    process: str
    purpose: str


@dataclass(frozen=True)
class Chip:
    """The chip of a machine that is off, and a connection to it."""

    process: ChipProcess
    mailbox: ChipClient


def holder(at: WorkstationPaths) -> str | None:
    """What a machine that is off is held for just now; None where it is free."""
    try:
        found = msgspec.json.decode(at.holder.read_bytes(), type=Holder)
    except (OSError, msgspec.DecodeError):
        return None
    return found.purpose if process.alive(found.process) else None


def await_free(at: WorkstationPaths, doing: str) -> None:
    """Return once nobody holds it; raises SpacegrayError that says what for it is held."""
    deadline = time.monotonic() + TURN_SECONDS
    while (purpose := holder(at)) is not None:
        if time.monotonic() > deadline:
            raise SpacegrayError(doing, f"it is {purpose}", "end that first, or wait for its end")
        time.sleep(_POLL_SECONDS)


@contextlib.contextmanager
def held(at: WorkstationPaths, doing: str, purpose: str) -> Iterator[None]:
    """Hold the workstation; raises SpacegrayError while it is on or held by somebody else."""
    if state.read(at).state in state.ALIVE:
        raise SpacegrayError(doing, "it is on", f"`stop {at.name}` first")
    make_private(at.run)
    await_free(at, doing)
    with locked(at.lock, timeout_seconds=TURN_SECONDS) as free:
        if not free:
            await_free(at, doing)
            raise SpacegrayError(doing, "somebody else is at work on it", "try again later")
        identity = process.identity(os.getpid())
        assert identity is not None, "this process exists"
        note = Holder(process=identity, purpose=purpose)
        write_atomically(at.holder, msgspec.json.encode(note))
        try:
            yield
        finally:
            at.holder.unlink(missing_ok=True)


@contextlib.contextmanager
def chip(
    at: WorkstationPaths,
    doing: str,
    purpose: str,
    owner: Owner | None = None,
    *,
    wants: Wants = "disk",
    settled: bool = True,
) -> Iterator[Chip]:
    """The chip of a machine that is off, held meanwhile; nothing of the disk is open yet.

    `owner` gives the chip what it needs for what is wanted. Raises SpacegrayError, with the way
    back where the chip or the disk is not usable.
    """
    with (
        held(at, doing, purpose),
        opened_chip(at, doing, owner, wants=wants, settled=settled) as found,
    ):
        yield found


@contextlib.contextmanager
def opened_chip(
    at: WorkstationPaths,
    doing: str,
    owner: Owner | None = None,
    *,
    wants: Wants = "disk",
    settled: bool = True,
) -> Iterator[Chip]:
    """The same, of a machine that is held already.

    With `settled` a job on the repair bench that was cut off is finished or withdrawn first.
    """
    with contextlib.ExitStack() as opened:
        opened.enter_context(_unless_erased(at, doing))
        with contextlib.nullcontext() if settled else contextlib.suppress(SpacegrayError):
            exchange_board(at)
        found = opened.enter_context(running_chip(at))
        if wants != "nothing":
            open_to(found.mailbox, doing, owner, wants)
            if settled:
                try:
                    under_way.settle(at, found.mailbox)
                except under_way.BoardExchangedError:
                    opened.close()
                    again = opened_chip(at, doing, owner, wants=wants)
                    found = opened.enter_context(again)
        yield found


def open_to(mailbox: ChipClient, doing: str, owner: Owner | None, wants: Wants) -> None:
    """Have `owner` give a chip what it needs for what is wanted. Raises what the owner raises."""
    way = _WAYS[wants]

    def give(given: Given) -> Answer:
        return unlock.unlock(mailbox, given.kind, given.descriptor, given.mode, way)

    unlock.satisfy(doing, owner or unlock.Nobody(), unlock.standing(mailbox, way), give)


def exchange_board(at: WorkstationPaths) -> None:
    """Finish an exchange of the logic board; raises SpacegrayError, also where nobody may look."""
    try:
        board.exchange(at)
    except OSError as error:
        raise SpacegrayError(
            f"opening the state folder of {at.name}",
            f"{error.filename or at.state_folder}: {error.strerror}",
            f"`sudo chown -R {host.user()} {at.state_folder}`, if it is that user's",
            link="chip",
        ) from None


@contextlib.contextmanager
def any_chip(
    workstation: "Workstation",
    doing: str,
    purpose: str,
    owner: Owner | None = None,
    *,
    wants: Wants = "chip",
    locked: bool = False,
) -> Iterator[tuple[ChipClient, bool]]:
    """A connection to the chip, the machine on or off; and whether it was off.

    Then the chip is started for this alone. A machine that is locked is refused unless `locked`.
    """
    at = workstation.at
    record = workstation.record()
    if record.state == "locked" and not locked:
        raise SpacegrayError(
            doing, f"it is locked, {record.reason}", f"`start {at.name}` asks for that"
        )
    if record.state in state.ALIVE or holder(at) is not None:
        with _unless_erased(at, doing), ChipClient(at.mailbox) as mailbox:
            try:
                yield mailbox, False
            finally:
                _note(at, mailbox)
    else:
        with chip(at, doing, purpose, owner, wants=wants) as found:
            yield found.mailbox, True


def needs(workstation: "Workstation") -> list[str]:
    """What the next power-on of the workstation will ask for, as far as that is known now."""
    if workstation.record().state in state.ALIVE:
        with contextlib.suppress(SpacegrayError), ChipClient(workstation.at.mailbox) as mailbox:
            return known.note(workstation.at, mailbox.show()).needs()
    return known.read(workstation.at).needs()


@contextlib.contextmanager
def running_chip(at: WorkstationPaths) -> Iterator[Chip]:
    """The chip, started for this alone and noted down at the end, as it is: it may be sealed."""
    make_private(at.logs)
    try:
        with (
            chips.launch(at, log=at.logs / "chip.log") as running,
            running.client() as mailbox,
        ):
            try:
                yield Chip(running, mailbox)
            finally:
                _note(at, mailbox)
    except SpacegrayError as error:
        raise ways_back.explained(at, error) from None


@contextlib.contextmanager
def _unless_erased(at: WorkstationPaths, doing: str) -> Iterator[None]:
    """Say so where the chip was erased by somebody else, whatever else failed for that reason."""
    before = known.version(at)
    try:
        yield
    except (SpacegrayError, OSError):
        if known.read(at).life != "erased" or known.version(at) == before:
            raise
        raise SpacegrayError(
            doing, "it was erased meanwhile", f"`restore {at.name}` makes a new system"
        ) from None


def _note(at: WorkstationPaths, mailbox: ChipClient) -> None:
    with contextlib.suppress(SpacegrayError):
        known.note(at, mailbox.show())
