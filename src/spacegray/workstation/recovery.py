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
from spacegray.boot.authority import Authority, AuthorityIdentity, embedded
from spacegray.chip import launch as chips
from spacegray.chip import manifest
from spacegray.chip.client import ChipClient
from spacegray.chip.launch import ChipProcess
from spacegray.chip.refusal import ChipRefusalError
from spacegray.errors import SpacegrayError, StoppedError, UsageError
from spacegray.files import make_private, write_atomically
from spacegray.paths import Paths, Slot, WorkstationPaths, other_slot
from spacegray.progress import Progress
from spacegray.system.build import SystemImage, build
from spacegray.workstation import board, create, hold, image, known, under_way, unlock, ways_back
from spacegray.workstation.api import Workstation
from spacegray.workstation.install import Lay, System, install, is_anothers
from spacegray.workstation.unlock import Answer, Given, Kind, Owner, Standing

ACCEPTABLE: Final = (*ways_back.STALE, "adopted", "vault", "corrupt")
"""Why a disk does not open that may open once its owner accepts it as it is."""

_COPIED: Final = ("ssh", "provision")
"""What of the owner's lies beside the chip's own files."""

_STORE: Final = "vault.sealed"
"""There as soon as a chip has keys."""


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
    order is kept unless `replace`. The one that is replaced opens nothing once the new one has
    taken the disk over, and is destroyed then. Raises SpacegrayError: either the old chip and its
    files are as they were, or the error says that the same goes on from there, with `replace`.
    """
    at = workstation.at
    doing = f"bringing {workstation.name} back with {file}"
    with contextlib.ExitStack() as undone:
        bundle = undone.enter_context(_bundle(file, doing))
        undone.enter_context(hold.held(at, doing, f"being brought back with {file}"))
        if board.fresh(at).took_over.exists():
            # Of one that was killed.
            _finish(at)
        spec = specs.replace(workstation.spec, {} if seal is None else {"seal": seal})
        if not replace and _in_order(at):
            raise UsageError(
                doing,
                "its chip is there and in order",
                "give --yes to have it replaced by a new one",
            )
        system = build(spec.edition, mirror=mirror, cache=paths.cache, progress=progress)
        board.discard(board.fresh(at))
        making = _Making(doing, owner, at, file, bundle, spec)
        with _ended_in_order(making), embedded(paths.authority) as authority:
            slot = other_slot(workstation.installed.slot)
            placed = making.run(workstation.installed, slot, system, authority, progress)
            ecid = _finish(at)
            create.note_system(at, slot, placed, in_use=True, ecid=ecid)
        progress.note(f"a new chip has the disk now, ECID {ecid}")
        return ecid


@dataclass
class _Making:
    """The making of a new chip that takes a disk over."""

    doing: str
    owner: Owner
    at: WorkstationPaths
    file: Path
    bundle: int
    """A descriptor of the `file`."""
    spec: specs.Spec
    has_disk: bool = False
    """Whether the disk is the new chip's: the one before opens it no more."""

    @property
    def fresh(self) -> WorkstationPaths:
        """Where it is made."""
        return board.fresh(self.at)

    @property
    def told_tpm(self) -> bool:
        """Whether the TPM may refuse the chip before: it forgets it when it learns of the new."""
        return self.spec.seal == "tpm2" and (self.fresh.state_folder / _STORE).exists()

    def run(
        self,
        installed: create.Installed,
        slot: Slot,
        system: SystemImage,
        authority: Authority,
        progress: Progress,
    ) -> System:
        """Make it, have it take the disk over and start the system in `slot`, not used so far.

        Returns what was installed.
        """
        fresh, spec = self.fresh, self.spec
        make_private(fresh.state_folder)
        make_private(fresh.logs)
        # Whoever destroys a chip that was cut off while it was made goes by this.
        known.note(fresh, {"state": "open", "seal": spec.seal})
        _carry_over(self.doing, self.at, fresh, spec)
        with (
            chips.launch(fresh, new=True, seal=spec.seal, log=fresh.logs / "chip.log") as chip,
            chip.client() as mailbox,
        ):
            self._adopt(mailbox, authority)
            self._take_disk(chip, mailbox)
            known.note(fresh, mailbox.show())
            if ways_back.bundle(self.at) is None:
                ways_back.note_bundle(self.at, ecid=installed.ecid, lives=None, file=self.file)
            lay: Lay = "repair"
            if installed.empty or installed.other or is_anothers(mailbox):
                lay = "nothing"
                progress.note("what is on the disk is none of our systems, and stays as it is")
            placed = install(
                fresh,
                spec,
                system,
                mailbox,
                authority,
                slot=slot,
                lay=lay,
                progress=progress,
            )
            known.note(fresh, mailbox.show())
            return placed

    def _adopt(self, mailbox: ChipClient, authority: Authority) -> None:
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
                identity = authority.identity()
                take = functools.partial(self._take, mailbox, identity, key.descriptor, passphrase)
                last = unlock.attempt(mailbox, take)

    def _take(
        self, mailbox: ChipClient, identity: AuthorityIdentity, key: int, passphrase: int | None
    ) -> None:
        os.lseek(self.bundle, 0, os.SEEK_SET)
        mailbox.adopt_bundle(
            self.bundle,
            key,
            authority=identity.ticket_key,
            vendor=identity.vendor,
            seal=self.spec.seal,
            passphrase=passphrase,
        )

    def _take_disk(self, chip: ChipProcess, mailbox: ChipClient) -> None:
        """Have it take the disk over; where that was interrupted, it is done all the same."""
        try:
            self._have_disk(mailbox)
        except BaseException:
            # In the midst of it nobody can tell whose the disk is.
            with contextlib.suppress(SpacegrayError), chip.client() as another:
                self._have_disk(another)
            raise

    def _have_disk(self, mailbox: ChipClient) -> None:
        mailbox.close_disk()
        if mailbox.show()["adopting"]:
            mailbox.check_disk(adopt=True)
        self.has_disk = True
        write_atomically(self.fresh.took_over, b"")
        mailbox.close_disk()


@contextlib.contextmanager
def _ended_in_order(making: _Making) -> Iterator[None]:
    """However the making of a new chip is cut off, the disk has one chip, and only one.

    Raises StoppedError or SpacegrayError where that is not the chip from before any more: the same
    command goes on from there.
    """
    at, before = making.at, known.read(making.at)
    again = f"`import --recovery {at.name} {making.file} --yes`"
    try:
        yield
    except BaseException as error:
        now = known.read(at)
        if now.life == "erased" and (now.life, now.lives) != (before.life, before.lives):
            # Whoever does that has the new chip destroyed too.
            raise
        if making.has_disk:
            with contextlib.suppress(SpacegrayError):
                # One that was cut off before it could say so has the disk all the same.
                if making.fresh.state_folder.is_dir():
                    write_atomically(making.fresh.took_over, b"")
                _finish(at)
            stood = "the disk has a new chip by now, and perhaps no system to start"
        else:
            refused = making.told_tpm
            board.discard(making.fresh)
            if not refused:
                raise
            stood = "the TPM may refuse the chip from before by now"
        if isinstance(error, KeyboardInterrupt):
            further = f"{again} goes on from there"
            raise StoppedError(making.doing, f"interrupted; {stood}", further) from None
        if isinstance(error, SpacegrayError):
            further = f"{error.next_step}; {stood}: {again} goes on from there"
            raise SpacegrayError(error.doing, error.stopped_by, further, link=error.link) from None
        raise


def _finish(at: WorkstationPaths) -> str:
    """Put the new chip, which has the disk, in the old one's place; returns its ECID."""
    board.exchange(at)
    chip = manifest.read(at.state_folder)
    under_way.take_over(at, ecid=chip.ecid, seal=chip.seal)
    return chip.ecid


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


def _carry_over(
    doing: str, at: WorkstationPaths, fresh: WorkstationPaths, spec: specs.Spec
) -> None:
    """The owner's SSH key goes along; where it is lost the guest is told of a new one."""
    if not at.ssh_key.exists():
        create.write_provision(fresh, spec, None)
        return
    try:
        for name in _COPIED:
            found = at.state_folder / name
            if found.is_dir():
                shutil.copytree(found, fresh.state_folder / name)
            elif found.exists():
                shutil.copy2(found, fresh.state_folder / name)
    except OSError as error:
        raise SpacegrayError(
            doing,
            f"the owner's SSH key could not be copied ({error.strerror or error})",
            "make room on that disk and try again",
        ) from None
