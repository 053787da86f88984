"""The end of all that is on a disk, at once, and the new life after it."""

import contextlib
import itertools
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from spacegray.boot.authority import Authority, embedded
from spacegray.chip.client import ChipClient
from spacegray.chip.modules import Modules
from spacegray.errors import SpacegrayError
from spacegray.files import make_private, write_atomically
from spacegray.paths import Paths, WorkstationPaths
from spacegray.progress import Progress
from spacegray.spec import Spec
from spacegray.system.build import SystemImage, build
from spacegray.workstation import board, control, create, hold, known, seizing, ways_back
from spacegray.workstation.api import Workstation
from spacegray.workstation.install import install
from spacegray.workstation.state import ALIVE
from spacegray.workstation.unlock import Owner

ERASE_SECONDS: Final = 180.0
"""Longer than a chip on a slow host takes, behind whatever it does just now."""


class Erasure(msgspec.Struct, kw_only=True, frozen=True):
    """What an erasing came to."""

    receipt: bytes
    """Signed by the chip: what was destroyed, where it lay, how surely."""
    saved: str | None
    """Where the receipt was written to; None where that failed."""
    milliseconds: float
    """What it took in the chip."""


def erase(workstation: Workstation, owner: Owner | None = None) -> Erasure:
    """Destroy every key to the disk, the machine on or off; afterwards it is off.

    What is left is a chip that was erased and no disk; `import` and `restore` make a new one.
    `owner` gives the passphrase of a chip that is sealed with one and waits for it. Whoever holds
    the machine for something else loses it.
    """
    at = workstation.at
    doing = f"erasing {workstation.name}"
    if workstation.record().state in ALIVE:
        _unseal(at, doing, owner)
        answer, _ = control.ask(at, {"op": "erase"}, timeout_seconds=ERASE_SECONDS)
        workstation.await_off()
        erasure = msgspec.convert(answer["erasure"], Erasure)
    else:
        # Whatever else is unfinished or at work: nothing stands in the way of an erasing.
        with seizing.seized(at, doing, "being erased", owner) as mailbox:
            erasure = erase_with(at, workstation.installed, mailbox)
    if board.beside(at):
        with contextlib.suppress(SpacegrayError), hold.held(at, doing, "being erased"):
            board.clear(at)
        _must_be_alone(at, doing)
    return erasure


def _must_be_alone(at: WorkstationPaths, doing: str) -> None:
    """Raise SpacegrayError where there is still a chip beside the own, which is erased.

    It was to take its place, or had it, when that was cut off, and may have the same keys.
    """
    for each in board.beside(at):
        raise SpacegrayError(
            doing,
            f"its own keys are destroyed, but not those of the chip in {each.state_folder}",
            f"see that the TPM is there and nobody at work on it, then `erase {at.name}` again; or "
            "remove that folder and all copies of it",
        )


def _unseal(at: WorkstationPaths, doing: str, owner: Owner | None) -> None:
    """Have `owner` open the chip of a machine that waits for its passphrase.

    Not through the supervisor, which would go on to start it.
    """
    try:
        mailbox = ChipClient(at.mailbox)
    except SpacegrayError:
        return  # It ends, or is about to begin: the supervisor says so.
    with mailbox:
        hold.open_to(mailbox, doing, owner, "chip")


def erase_with(at: WorkstationPaths, installed: create.Installed, mailbox: ChipClient) -> Erasure:
    """The same with a chip at hand. What comes after the chip's own part fails silently:
    the disk may be full, and a start finds out by itself that there is nothing.
    """
    erased = mailbox.erase()
    Modules(at.folder).remove()
    saved: list[Path] = []
    steps: tuple[Callable[[], object], ...] = (
        # First: whoever held the machine looks there for why the chip is gone.
        lambda: known.note(at, mailbox.show(), touch=True),
        lambda: saved.append(_keep(at, erased.receipt)),
        lambda: create.note_empty(at, installed, empty=True),
        lambda: ways_back.forget_bundle(at),
    )
    for step in steps:
        with contextlib.suppress(SpacegrayError, OSError):
            step()
    return Erasure(
        receipt=erased.receipt,
        saved=str(saved[0]) if saved else None,
        milliseconds=erased.milliseconds,
    )


def restore(
    paths: Paths,
    workstation: Workstation,
    owner: Owner | None,
    *,
    mirror: str,
    password_hash: str,
    progress: Progress,
) -> None:
    """Erase, begin a new life under new keys, and put a new system onto the disk; it must be off.

    `password_hash` is the new first user's. The chip stays itself: its ECID and identity; startup
    security is Full again, its firmware password gone. The system image comes from the cache, or
    is built first. Raises SpacegrayError; what was begun is finished by restoring again.
    """
    at, spec = workstation.at, workstation.spec
    doing = f"restoring {workstation.name}"
    with hold.held(at, doing, "being restored"):
        system = build(spec.edition, mirror=mirror, cache=paths.cache, progress=progress)
    with hold.held(at, doing, "being restored"), contextlib.ExitStack() as afterwards:
        chip = hold.opened_chip(at, doing, owner, wants="chip")
        with chip as opened, embedded(paths.authority) as authority:
            mailbox, identity = opened.mailbox, authority.identity()
            create.note_empty(at, workstation.installed, empty=True, other=False)
            ways_back.forget_bundle(at)
            restored = mailbox.restore(authority=identity.ticket_key, vendor=identity.vendor)
            # Whatever comes of the rest; and no two chips run at once.
            afterwards.callback(board.clear, at)
            ecid, receipt = restored.ecid, _keep(at, restored.receipt)
            progress.note(f"the chip begins a new life, ECID {ecid}; its receipt: {receipt}")
            lay_anew(at, spec, system, mailbox, authority, ecid, password_hash, progress)
    _must_be_alone(at, doing)


def lay_anew(
    at: WorkstationPaths,
    spec: Spec,
    system: SystemImage,
    mailbox: ChipClient,
    authority: Authority,
    ecid: str,
    password_hash: str,
    progress: Progress,
) -> None:
    """Make an empty disk and put `system` onto it; the chip `ecid` has none in any slot."""
    mailbox.erase_disk(spec.ssd_bytes)
    create.write_provision(at, spec, password_hash)
    placed = install(at, spec, system, mailbox, authority, slot="a", lay="disk", progress=progress)
    shutil.rmtree(at.slot("b").folder, ignore_errors=True)
    create.finish(at, ecid, spec, "a", placed)


def _keep(at: WorkstationPaths, receipt: bytes) -> Path:
    """Write a receipt into the workstation's folder, beside any other; returns where."""
    now = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    folder = make_private(at.receipts)
    for number in itertools.count(1):
        path = folder / f"erased-{now}{'' if number == 1 else f'-{number}'}.cose"
        try:
            path.touch(mode=0o600, exist_ok=False)
            break
        except FileExistsError:
            continue
        except OSError as error:
            raise SpacegrayError(
                f"writing {path}", error.strerror, "see to that folder, then try again"
            ) from None
    try:
        write_atomically(path, receipt)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return path
