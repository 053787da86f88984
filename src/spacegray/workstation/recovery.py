"""The owner's ways back: the bundle for a new chip, and an older disk accepted on purpose."""

import contextlib
import functools
import os
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from spacegray import spec as specs
from spacegray.boot.authority import Authority, embedded
from spacegray.chip import launch as chips
from spacegray.chip.client import ChipClient
from spacegray.chip.refusal import ChipRefusalError
from spacegray.errors import SpacegrayError, UsageError
from spacegray.files import make_private, sync_folder, write_atomically
from spacegray.paths import Paths, WorkstationPaths, other_slot
from spacegray.progress import Progress
from spacegray.system.build import SystemImage, build
from spacegray.workstation import create, hold, image, known, under_way, unlock, ways_back
from spacegray.workstation.api import Workstation
from spacegray.workstation.install import Lay, System, install, is_anothers
from spacegray.workstation.unlock import Answer, Given, Kind, Owner, Standing

ACCEPTABLE: Final = (*ways_back.STALE, "adopted", "vault", "corrupt")
"""Why a disk does not open that may open once its owner accepts it as it is."""

_COPIED: Final = ("ssh", "provision")
"""What of the owner's lies beside the chip's own files."""


def export(workstation: Workstation, owner: Owner, file: Path, *, replace: bool) -> None:
    """Write the recovery bundle, which opens with the recovery key alone, into `file` (0600)."""
    doing = f"exporting the recovery bundle of {workstation.name} to {file}"
    file = file.absolute()
    image.may_write(file, doing, replace=replace)
    if not os.access(file.parent, os.W_OK | os.X_OK):
        raise image.unwritable(file, doing, PermissionError())
    with hold.any_chip(workstation, doing, "being exported", owner, wants="disk") as (mailbox, _):
        shown = mailbox.show()
        ways_back.must_have_disk(workstation.at, doing, shown)
        if not shown["recovery_key"]:
            raise SpacegrayError(
                doing,
                "it has no recovery key, with which alone a bundle opens",
                f"`recovery-key {workstation.name}` makes one",
            )
        bundle = mailbox.export_recovery()
    write_atomically(file, bundle)
    ways_back.note_bundle(workstation.at, ecid=shown["ecid"], lives=shown["lives"], file=file)


def accept(workstation: Workstation, owner: Owner) -> bool:
    """Take the disk as it is for the newest: an authorised rollback, which the chip counts.

    Returns whether all of that state was there; `ssd verify` names what is not.
    """
    doing = f"accepting the disk of {workstation.name}"
    with hold.chip(workstation.at, doing, "being accepted", owner, wants="chip") as chip:
        mailbox = chip.mailbox
        shown = mailbox.show()
        ways_back.must_have_disk(workstation.at, doing, shown)
        # Nothing can be checked against a chip's state that was put back, but for the recovery key.
        by_password = shown["password"] and not shown["put_back"]
        kind: Kind = "password" if by_password else "recovery_key"

        def unlock_(given: Given) -> None:
            mailbox.unlock(given.descriptor, with_=given.proof, mode=given.mode)

        def authorise(given: Given) -> None:
            mailbox.authorise_rollback(given.descriptor, with_=given.proof, mode=given.mode)

        if shown["needs"]:
            unlock.prove(doing, owner, mailbox, kind, unlock_)
        if _is_newest(mailbox):
            raise SpacegrayError(
                doing, "it is the newest, as the chip remembers it", "there is nothing to accept"
            )
        if shown["password"] or shown["recovery_key"]:
            unlock.prove(doing, owner, mailbox, kind, authorise)
        else:
            mailbox.authorise_rollback()
        opened = mailbox.check_disk(adopt=True)
        mailbox.close_disk()
        return not opened.incomplete


def _is_newest(mailbox: ChipClient) -> bool:
    try:
        mailbox.check_disk()
    except ChipRefusalError as refusal:
        if refusal.code not in ACCEPTABLE:
            raise
        return False
    mailbox.close_disk()
    return True


def import_(
    paths: Paths,
    workstation: Workstation,
    owner: Owner,
    file: Path,
    *,
    mirror: str,
    seal: specs.Seal | None,
    replace: bool,
    progress: Progress,
) -> str:
    """Make a new chip for the disk in the workstation's folder, from a bundle; returns its ECID.

    The machine must be off. The new chip trusts nothing that it finds: a system is put anew beside
    the one on the disk, whose data stays; another system's disk is left as it is. A chip that is in
    order is kept unless `replace`; the one that is replaced is destroyed, once the new one has
    opened the disk. Raises SpacegrayError, and then the old chip and its files are as they were.
    """
    at, spec = workstation.at, workstation.spec
    doing = f"bringing {workstation.name} back with {file}"
    wanted = specs.replace(spec, {} if seal is None else {"seal": seal})
    fresh, old = at.beside("new"), at.beside("old")
    with contextlib.ExitStack() as undone:
        bundle = undone.enter_context(_bundle(file, doing))
        undone.enter_context(hold.held(at, doing, f"being brought back with {file}"))
        if not replace and _in_order(at):
            raise UsageError(
                doing,
                "its chip is there and in order",
                "give --yes to have it replaced by a new one",
            )
        system = build(spec.edition, mirror=mirror, cache=paths.cache, progress=progress)
        _discard(fresh, wanted.seal)
        with contextlib.ExitStack() as failed:
            failed.callback(_discard, fresh, wanted.seal)
            with embedded(paths.authority) as authority:
                made = _Making(doing, owner, fresh, bundle, wanted, authority)
                ecid, placed = made.run(workstation, system, progress)
            _carry_over(at, fresh, spec)
            failed.pop_all()
        progress.note(f"a new chip has the disk now, ECID {ecid}")
        _discard(old, spec.seal)
        if at.state_folder.exists():
            at.state_folder.rename(old.state_folder)
        fresh.state_folder.rename(at.state_folder)
        sync_folder(at.state_folder.parent)
        if wanted != spec:
            write_atomically(at.spec, specs.dump(wanted).encode())
        under_way.set_aside(at, workstation.installed.ecid)
        slot = other_slot(workstation.installed.slot)
        create.note_system(at, slot, placed, in_use=True, ecid=ecid)
        _discard(old, known.read(old).seal or spec.seal)
        return ecid


@dataclass(frozen=True)
class _Making:
    """The making of a new chip that takes a disk over."""

    doing: str
    owner: Owner
    fresh: WorkstationPaths
    bundle: int
    spec: specs.Spec
    authority: Authority

    def run(
        self, workstation: Workstation, system: SystemImage, progress: Progress
    ) -> tuple[str, System]:
        """Make it, have it open the disk and start the system in the slot not used so far.

        Returns its ECID and what was installed.
        """
        fresh, spec = self.fresh, self.spec
        make_private(fresh.state_folder)
        make_private(fresh.logs)
        with (
            chips.launch(fresh, new=True, seal=spec.seal, log=fresh.logs / "chip.log") as chip,
            chip.client() as mailbox,
        ):
            self._adopt(mailbox)
            mailbox.check_disk(adopt=True)
            mailbox.close_disk()
            lay: Lay = "repair"
            installed = workstation.installed
            if installed.empty or installed.other or is_anothers(mailbox):
                lay = "nothing"
                progress.note("what is on the disk is none of our systems, and stays as it is")
            placed = install(
                fresh,
                spec,
                system,
                mailbox,
                self.authority,
                slot=other_slot(installed.slot),
                lay=lay,
                progress=progress,
            )
            shown = mailbox.show()
            known.note(fresh, shown)
            return str(shown["ecid"]), placed

    def _adopt(self, mailbox: ChipClient) -> None:
        last: Answer | None = None
        while last is None or not last.right:
            with contextlib.ExitStack() as given:
                key = given.enter_context(
                    self.owner.give(self.doing, "recovery_key", Standing(), last)
                )
                passphrase = None
                if self.spec.seal == "passphrase":
                    new = given.enter_context(self.owner.new(self.doing, "passphrase"))
                    passphrase = new.descriptor
                take = functools.partial(self._take, mailbox, key.descriptor, passphrase)
                last = unlock.attempt(mailbox, take)

    def _take(self, mailbox: ChipClient, key: int, passphrase: int | None) -> None:
        os.lseek(self.bundle, 0, os.SEEK_SET)
        identity = self.authority.identity()
        mailbox.adopt_bundle(
            self.bundle,
            key,
            authority=identity.ticket_key,
            vendor=identity.vendor,
            seal=self.spec.seal,
            passphrase=passphrase,
        )


@contextlib.contextmanager
def _bundle(file: Path, doing: str) -> Iterator[int]:
    """A descriptor of the bundle's file; raises UsageError where it is none."""
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise UsageError(
            doing, error.strerror, "give the path of a bundle that this user may read"
        ) from None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise UsageError(doing, "it is no file", "give the path of a bundle")
        yield descriptor
    finally:
        os.close(descriptor)


def _in_order(at: WorkstationPaths) -> bool:
    """Whether there is a chip that opens, or would with its passphrase."""
    if not at.state_folder.is_dir():
        return False
    try:
        with hold.running_chip(at):
            return True
    except SpacegrayError:
        return False


def _carry_over(at: WorkstationPaths, fresh: WorkstationPaths, spec: specs.Spec) -> None:
    """The owner's SSH key goes along; where it is lost the guest is told of a new one."""
    if at.ssh_key.exists():
        for name in _COPIED:
            found = at.state_folder / name
            if found.is_dir():
                shutil.copytree(found, fresh.state_folder / name)
            elif found.exists():
                shutil.copy2(found, fresh.state_folder / name)
    else:
        create.write_provision(fresh, spec, None)


def _discard(at: WorkstationPaths, seal: specs.Seal) -> None:
    """Destroy the chip in a state folder that is nobody's any more, and remove the folder."""
    create.destroy_chip(at, seal)
    shutil.rmtree(at.state_folder, ignore_errors=True)
