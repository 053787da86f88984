"""A newer system beside the old, tried, and kept only if it comes up; or the same one anew.

The system in use is never written to. A new one goes into the other slot, gets a ticket that lets
it be tried, and takes over once its owner could have logged in; where it does not come up, the
chip starts the old one, whatever became of the process that updates.
"""

import contextlib
from collections.abc import Callable
from typing import Any, Final, Literal

import msgspec

from spacegray import authenticode, host
from spacegray.boot.authority import embedded
from spacegray.chip.client import ChipClient
from spacegray.chip.images import freeze
from spacegray.errors import SpacegrayError
from spacegray.paths import SLOTS, Paths, Slot, WorkstationPaths, other_slot
from spacegray.progress import Progress
from spacegray.spec import Spec
from spacegray.system.build import SystemImage, build
from spacegray.workstation import create, hold, install
from spacegray.workstation.api import START_SECONDS, Workstation
from spacegray.workstation.events import Event
from spacegray.workstation.state import ALIVE
from spacegray.workstation.unlock import Kind as Secret
from spacegray.workstation.unlock import Nobody, Owner, Standing

TRIES: Final = 2
"""How often a new system is tried: a power cut of the host while it comes up costs one."""

Kind = Literal["current", "updated", "fell_back"]


class Outcome(msgspec.Struct, kw_only=True, frozen=True):
    """What an update came to."""

    kind: Kind
    """There was nothing newer; the new system is in use; it did not come up and the old one is."""
    epoch: int
    """The security epoch of the newest system that there is."""
    before: int
    """That of the system which was in use."""
    reason: str = ""
    """Why the new system did not come up."""


def update(
    paths: Paths,
    workstation: Workstation,
    owner: Owner | None,
    *,
    mirror: str,
    accelerator: str | None = None,
    timeout_seconds: float = START_SECONDS,
    progress: Progress,
    on_event: Callable[[Event], None] = lambda event: None,
) -> Outcome:
    """Build the newest system, try it, and say what came of that; afterwards it is as found.

    A running machine is switched off for it once the system is built; one that is off is started
    and switched off again. `owner` gives what the chip needs. Raises SpacegrayError; the system
    that was in use is in use then, or the new one is still being tried.
    """
    at, spec = workstation.at, workstation.spec
    doing = f"updating {workstation.name}"
    _must_be_ours(workstation, doing)
    was_on = _is_on(workstation, doing)
    system = build(spec.edition, mirror=mirror, cache=paths.cache, progress=progress)
    with hold.any_chip(workstation, doing, "being updated", owner) as (mailbox, _):
        shown = mailbox.show()
    now = shown["slots"].get(shown["current"]) or {}
    before, epoch = int(now.get("epoch", 0)), system.manifest.epoch
    if _is_current(now, system):
        return Outcome(kind="current", epoch=epoch, before=before)
    slot = _free(shown)
    if was_on:
        _have_ready(workstation, owner, doing, shown)
        workstation.stop()
    try:
        with (
            hold.chip(at, doing, "being updated", owner, wants="served") as chip,
            embedded(paths.authority) as authority,
        ):
            placed = install.install(
                at,
                spec,
                system,
                chip.mailbox,
                authority,
                slot=slot,
                tries=TRIES,
                lay="slot",
                progress=progress,
            )
            create.note_system(at, slot, placed, in_use=False)
    except BaseException:
        if was_on:
            with contextlib.suppress(SpacegrayError):
                workstation.start(owner=owner, accelerator=accelerator)
        raise
    progress.note(f"the new system, of epoch {epoch}, is in place beside the old; trying it")
    watched = _Watched(on_event)
    try:
        workstation.start(
            owner=owner,
            accelerator=accelerator,
            timeout_seconds=timeout_seconds,
            progress=progress,
            on_event=watched,
        )
        shown = _asked(workstation, doing, owner)
    finally:
        if not was_on:
            workstation.stop()
    if shown["trying"]:
        raise SpacegrayError(
            doing,
            "the new system is still being tried",
            f"`start {workstation.name}` tries it again; `logs {workstation.name}` says more",
        )
    if shown["current"] == slot:
        create.note_slot(at, slot)
        return Outcome(kind="updated", epoch=epoch, before=before)
    return Outcome(kind="fell_back", epoch=epoch, before=before, reason=watched.failed)


def reinstall(
    paths: Paths,
    workstation: Workstation,
    owner: Owner | None,
    *,
    mirror: str,
    progress: Progress,
) -> bool:
    """Put the newest system in place of the one in use; the data stays.

    Returns whether it is the same one, in use from now on; another has yet to come up, and until
    then the one in use is tried again where it does not. The machine must be off. Raises
    SpacegrayError, and then the old one is in use.
    """
    at, spec = workstation.at, workstation.spec
    doing = f"reinstalling {workstation.name}"
    _must_be_ours(workstation, doing)
    with hold.held(at, doing, "being reinstalled"):
        system = build(spec.edition, mirror=mirror, cache=paths.cache, progress=progress)
    with hold.chip(at, doing, "being reinstalled", owner, wants="served") as chip:
        return _reinstall(paths, at, spec, system, chip.mailbox, progress)


def reinstall_with(
    paths: Paths,
    at: WorkstationPaths,
    spec: Spec,
    mailbox: ChipClient,
    progress: Progress,
) -> bool:
    """The same with a chip at hand, whose disk is unlocked and not open."""
    system = build(spec.edition, mirror=host.mirror(), cache=paths.cache, progress=progress)
    return _reinstall(paths, at, spec, system, mailbox, progress)


def _reinstall(
    paths: Paths,
    at: WorkstationPaths,
    spec: Spec,
    system: SystemImage,
    mailbox: ChipClient,
    progress: Progress,
) -> bool:
    shown = mailbox.show()
    slot, now = _free(shown), shown["slots"].get(shown["current"])
    # One that never came up here takes the place of nothing before it did.
    same = now is None or now["system"] == system.root_hash
    with embedded(paths.authority) as authority:
        placed = install.install(
            at,
            spec,
            system,
            mailbox,
            authority,
            slot=slot,
            tries=0 if same else TRIES,
            lay="repair",
            progress=progress,
        )
    create.note_system(at, slot, placed, in_use=same)
    if same:
        install.forget(mailbox, other_slot(slot), spec.ssd_bytes)
    return same


def _must_be_ours(workstation: Workstation, doing: str) -> None:
    """Raise SpacegrayError where there is no system of ours on the disk."""
    if workstation.empty:
        raise SpacegrayError(
            doing,
            "its disk is empty (erased, or an import was not finished)",
            f"`restore {workstation.name}` makes a new system",
        )
    if workstation.installed.other:
        raise SpacegrayError(
            doing,
            "the system on its disk is another than ours",
            f"have that system do it; `restore {workstation.name}` erases it and makes one of ours",
        )


def _is_on(workstation: Workstation, doing: str) -> bool:
    """Whether its system runs; raises SpacegrayError where it is on in any other way."""
    record = workstation.record()
    if record.state in ALIVE and (record.state, record.target) != ("running", "main"):
        raise SpacegrayError(
            doing,
            f"it is on, but not with its own system up ({record.state})",
            f"wait, or `stop {workstation.name}` first",
        )
    return record.state in ALIVE


def _have_ready(
    workstation: Workstation, owner: Owner | None, doing: str, shown: dict[str, Any]
) -> None:
    """Have the owner give what will be asked for, before a machine is switched off for it."""
    kinds = hold.needs(workstation)
    if shown.get("firmware_password") and "firmware_password" not in kinds:
        kinds = [*kinds, "firmware_password"]
    for kind in kinds:
        with (owner or Nobody()).give(doing, msgspec.convert(kind, Secret), Standing(), None):
            pass


def _free(shown: dict[str, Any]) -> Slot:
    """The slot that is not in use."""
    current = shown["current"]
    return other_slot(current) if current in SLOTS else "a"


def _is_current(now: dict[str, Any], system: SystemImage) -> bool:
    """Whether the slot in use, as the chip shows it, holds this very system and firmware."""
    firmware = freeze(host.ovmf().code)
    firmware.close()
    made = {
        "firmware": firmware.sha256,
        "kernel": authenticode.digest(system.kernel.read_bytes()).hex(),
        "recovery_kernel": authenticode.digest(system.recovery.read_bytes()).hex(),
        "system": system.root_hash,
    }
    return all(now.get(name) == digest for name, digest in made.items())


def _asked(workstation: Workstation, doing: str, owner: Owner | None) -> dict[str, Any]:
    with hold.any_chip(workstation, doing, "being updated", owner) as (mailbox, _):
        return mailbox.show()


class _Watched:
    """Passes events on and remembers why a start failed."""

    def __init__(self, on_event: Callable[[Event], None]) -> None:
        self._on_event = on_event
        self.failed = ""

    def __call__(self, event: Event) -> None:
        if event["kind"] == "link" and event["status"] == "failed":
            self.failed = f"{event['link']}: {event['detail']}"
        self._on_event(event)
