"""The end of all that is on a disk, at once, and the new life after it."""

import contextlib
import shutil
import time
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
from spacegray.workstation import control, create, hold, known, ways_back
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
    `owner` gives the passphrase of a machine that is off, where the chip is sealed with one.
    """
    at = workstation.at
    if workstation.record().state in ALIVE:
        answer, _ = control.ask(at, {"op": "erase"}, timeout_seconds=ERASE_SECONDS)
        workstation.await_off()
        return msgspec.convert(answer["erasure"], Erasure)
    doing = f"erasing {workstation.name}"
    # Whatever else is unfinished: nothing stands in the way of an erasing.
    with hold.chip(at, doing, "being erased", owner, wants="chip", settled=False) as chip:
        return erase_with(at, workstation.installed, chip.mailbox)


def erase_with(at: WorkstationPaths, installed: create.Installed, mailbox: ChipClient) -> Erasure:
    """The same with a chip at hand. What comes after the chip's own part fails silently:
    the disk may be full, and a start finds out by itself that there is nothing.
    """
    erased = mailbox.erase()
    Modules(at.folder).remove()
    saved: Path | None = None
    with contextlib.suppress(SpacegrayError):
        ways_back.forget_bundle(at)
        create.note_empty(at, installed, empty=True)
        known.note(at, mailbox.show())
        saved = _keep(at, erased.receipt)
    return Erasure(
        receipt=erased.receipt,
        saved=None if saved is None else str(saved),
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
    with (
        hold.chip(at, doing, "being restored", owner, wants="chip") as chip,
        embedded(paths.authority) as authority,
    ):
        mailbox, identity = chip.mailbox, authority.identity()
        create.note_empty(at, workstation.installed, empty=True, other=False)
        ways_back.forget_bundle(at)
        restored = mailbox.restore(authority=identity.ticket_key, vendor=identity.vendor)
        ecid, receipt = restored.ecid, _keep(at, restored.receipt)
        progress.note(f"the chip begins a new life, ECID {ecid}; its receipt: {receipt}")
        lay_anew(at, spec, system, mailbox, authority, ecid, password_hash, progress)


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
    """Write a receipt into the workstation's folder; returns where."""
    now = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    path = make_private(at.receipts) / f"erased-{now}.cose"
    write_atomically(path, receipt)
    return path
