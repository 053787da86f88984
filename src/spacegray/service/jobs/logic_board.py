"""The exchange of the logic board, and with it of the chip: the disk is lost, the record goes on.

The old chip signs that it goes and which one comes; the new one's first entry continues from there.
Between the two the workstation always has one chip or the other (`workstation.board`). Once the new
one is in place its disk counts as empty: should this be cut off then, `restore` does the rest.
"""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from spacegray import spec as specs
from spacegray.boot.authority import embedded
from spacegray.chip import launch as chips
from spacegray.chip.refusal import ChipRefusalError
from spacegray.errors import SpacegrayError
from spacegray.files import make_private
from spacegray.paths import Paths, WorkstationPaths
from spacegray.progress import Progress
from spacegray.service import orders
from spacegray.service.jobs import bench, words
from spacegray.service.jobs.bench import Signing
from spacegray.spec import Seal, Spec
from spacegray.system.build import build
from spacegray.workstation import board, create, hold, image, known, life, under_way, ways_back
from spacegray.workstation.api import Workstation
from spacegray.workstation.jobs import Job
from spacegray.workstation.unlock import Owner, Standing

JOB: Final = Job("logic-board")


def perform(
    paths: Paths,
    workstation: Workstation,
    owner: Owner,
    *,
    order: bytes = b"",
    mirror: str,
    password_hash: str,
    progress: Progress,
    backup: Path | None = None,
    replace: bool = False,
) -> str:
    """Exchange it, and put a new system onto the empty disk; returns the new chip's ECID.

    `password_hash` is the new first user's, in crypt(5) form. The plain disk is copied into the
    image `backup` before, which is kept if it exists, unless `replace`. Raises SpacegrayError.
    """
    with bench.told_if_signed(workstation.name, JOB) as signing:
        if backup is None:
            kept: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
        else:
            kept = _kept(workstation, owner, order, backup, replace, signing, progress)
        with kept:
            return _exchange(
                paths, workstation, owner, order, mirror, password_hash, signing, progress
            )


def _exchange(
    paths: Paths,
    workstation: Workstation,
    owner: Owner,
    order: bytes,
    mirror: str,
    password_hash: str,
    signing: Signing,
    progress: Progress,
) -> str:
    at = workstation.at
    doing = words.doing(workstation.name, JOB)
    with hold.held(at, doing, bench.PURPOSE):
        spec, shown = _look(at, doing, owner, order)
        system = build(spec.edition, mirror=mirror, cache=paths.cache, progress=progress)
        new = board.fresh(at)
        board.discard(new)
        with contextlib.ExitStack() as undone:
            undone.callback(_discard_if_nobodys, at, new)
            ecid = _born(paths, new, shown["seal"], doing, owner)
            _carry_over(at, new, doing)
            with hold.opened_chip(at, doing, owner, wants="chip") as chip:
                bench.sign(at, chip.mailbox, spec, JOB, owner, signing, order=order, new_chip=ecid)
                with contextlib.suppress(under_way.BoardExchangedError):
                    under_way.settle(at, chip.mailbox)
        with (
            hold.opened_chip(at, doing, owner, wants="chip") as chip,
            embedded(paths.authority) as authority,
        ):
            found = str(chip.mailbox.show()["ecid"])
            if found != ecid:
                raise SpacegrayError(
                    doing, f"the chip is still {found}", f"see `service history {at.name}`"
                )
            progress.note(f"a new logic board with a new chip, ECID {ecid}; the disk is empty")
            life.lay_anew(at, spec, system, chip.mailbox, authority, ecid, password_hash, progress)
    return ecid


def _look(
    at: WorkstationPaths, doing: str, owner: Owner, order: bytes
) -> tuple[Spec, dict[str, Any]]:
    """The spec, and what the chip says; raises SpacegrayError where it will not sign.

    First of all, what may be under way decides which chip is this machine's.
    """
    with hold.opened_chip(at, doing, owner, wants="chip") as chip:
        spec, shown = specs.load(at.spec), chip.mailbox.show()
        trusted = chip.mailbox.service().providers
    _must_decide(at, doing, put_back=shown["put_back"])
    if order:
        orders.foresee(order, doing, ecid=shown["ecid"], job=JOB, trusted=trusted)
    return spec, shown


@contextlib.contextmanager
def _kept(
    workstation: Workstation,
    owner: Owner,
    order: bytes,
    to: Path,
    replace: bool,
    signing: Signing,
    progress: Progress,
) -> Iterator[None]:
    """The plain disk copied before; the copy goes again where the chip did not sign.

    But for one that replaced another: nothing would be left of either.
    """
    at, doing = workstation.at, words.doing(workstation.name, JOB)
    with hold.held(at, doing, bench.PURPOSE):
        _look(at, doing, owner, order)
    installed = create.installed(at)
    if installed is not None and installed.empty:
        # Above all where this job was cut off before: the copy made then is the only one.
        raise SpacegrayError(doing, "there is nothing on its disk to keep", "leave --backup away")
    existed = to.exists()
    image.export(
        workstation, to, image.format_of(to), owner=owner, replace=replace, progress=progress
    )
    try:
        progress.note(f"the disk of {at.name} is kept in {to}: keep it as you would the machine")
        yield
    except BaseException:
        if not signing.possible and not existed:
            with contextlib.suppress(OSError):
                to.unlink()
                progress.note(f"the disk of {at.name} is as it was; its copy {to} is removed")
        raise


def _must_decide(at: WorkstationPaths, doing: str, *, put_back: bool) -> None:
    """Raise SpacegrayError where the chip can sign nothing: a new one may wait for its word."""
    if put_back:
        error = ChipRefusalError(
            doing, "some of the chip's state is older than the rest", "", code="put_back"
        )
        raise ways_back.explained(at, error)


def _born(paths: Paths, new: WorkstationPaths, seal: Seal, doing: str, owner: Owner) -> str:
    """Have the new board's chip be born, sealed as the old one is; returns its ECID."""
    make_private(new.state_folder)
    make_private(new.logs)
    with contextlib.ExitStack() as given:
        passphrase = None
        if seal == "passphrase":
            same = given.enter_context(owner.give(doing, "passphrase", Standing(), None))
            passphrase = same.descriptor
        authority = given.enter_context(embedded(paths.authority)).identity()
        chip = given.enter_context(
            chips.launch(new, new=True, seal=seal, log=new.logs / "chip.log")
        )
        mailbox = given.enter_context(chip.client())
        ecid = mailbox.birth(
            authority=authority.ticket_key,
            vendor=authority.vendor,
            seal=seal,
            passphrase=passphrase,
        )
        known.note(new, mailbox.show())
        return ecid


def _carry_over(at: WorkstationPaths, new: WorkstationPaths, doing: str) -> None:
    """The owner's log-in, which is no chip's: a copy of the disk brought back knows it."""
    try:
        if at.ssh_key.exists():
            shutil.copytree(at.ssh_key.parent, new.ssh_key.parent)
    except OSError as error:
        raise SpacegrayError(
            doing,
            f"the owner's SSH key could not be copied ({error.strerror or error})",
            "make room on that disk and try again",
        ) from None


def _discard_if_nobodys(at: WorkstationPaths, new: WorkstationPaths) -> None:
    """A new chip is nobody's, unless the old one has signed that it comes.

    While the job is under way it may have: whoever opens the old one next finds out.
    """
    if not new.continues.exists() and under_way.read(at) is None:
        board.discard(new)
