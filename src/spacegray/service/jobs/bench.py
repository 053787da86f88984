"""A job done on a workstation: signed by its chip first, then carried out.

In this order: a note of what is under way, the chip's signature, which spends the work order, the
entry in the record's file, the change of the machine, the end of the note. Cut off anywhere, it is
finished or withdrawn by whoever opens the chip next (`workstation.under_way`).
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from spacegray import spec as specs
from spacegray.catalog import order as ordering
from spacegray.chip.client import ChipClient
from spacegray.chip.refusal import ChipRefusalError
from spacegray.errors import SpacegrayError, StoppedError, UsageError
from spacegray.paths import WorkstationPaths
from spacegray.service import record
from spacegray.service.jobs import words
from spacegray.service.record import Entry
from spacegray.spec import Spec
from spacegray.workstation import hold, jobs, under_way, unlock
from spacegray.workstation.api import Workstation
from spacegray.workstation.jobs import Job
from spacegray.workstation.state import ALIVE
from spacegray.workstation.unlock import Given, Owner

PURPOSE: Final = "on the repair bench"


@dataclass
class Signing:
    """What is known of an entry that a chip is asked for."""

    possible: bool = False
    """Whether the chip has signed it, or may have: the job is done then, or will be."""


@contextlib.contextmanager
def told_if_signed(name: str, job: Job) -> Iterator[Signing]:
    """Ctrl-C once the chip may have signed: doing the job again would not be going on with it."""
    signing = Signing()
    try:
        yield signing
    except KeyboardInterrupt:
        if not signing.possible:
            raise
        left = words.left(name, job)
        raise StoppedError(words.doing(name, job), "interrupted", left) from None


def must_be_off(workstation: Workstation, job: Job) -> None:
    """Raise SpacegrayError while the machine is on."""
    if workstation.record().state in ALIVE:
        raise SpacegrayError(
            words.doing(workstation.name, job), "it is on", f"`stop {workstation.name}` first"
        )


def perform(workstation: Workstation, job: Job, owner: Owner, *, order: bytes = b"") -> Entry:
    """Do any job but that of the logic board; returns the chip's entry of it.

    Without a work order it is the owner's own doing, who proves to be one where there is a
    password. Raises SpacegrayError; then nothing changed, unless it says so.
    """
    at, name = workstation.at, workstation.name
    doing = words.doing(name, job)
    with (
        told_if_signed(name, job) as signing,
        hold.chip(at, doing, PURPOSE, owner, wants="chip") as chip,
    ):
        spec = specs.load(at.spec)
        words.must_change(name, spec, job)
        sign(at, chip.mailbox, spec, job, owner, signing, order=order)
        under_way.settle(at, chip.mailbox)
        return record.read(chip.mailbox.service().last)


def sign(
    at: WorkstationPaths,
    mailbox: ChipClient,
    spec: Spec,
    job: Job,
    owner: Owner,
    signing: Signing,
    *,
    order: bytes,
    new_chip: str | None = None,
) -> None:
    """Have the chip sign the job's entry; what is under way is noted then, and not settled.

    Where the chip refuses, nothing is under way any more, and the refusal is raised. Where this is
    interrupted while the chip may sign, the note is left to whoever opens the chip next.
    """
    doing = words.doing(at.name, job)
    shown, entries = mailbox.show(), mailbox.service().entries
    key = shown["identity_key"] if entries == 0 else None
    detail = jobs.detail(
        spec,
        job,
        identity_key=key,
        new_chip=new_chip,
        of_its_day=_is_of_its_day(jobs.changed(spec, job)),
    )

    def act(mailbox: ChipClient, given: Given | None) -> None:
        signing.possible = True
        try:
            if given is None:
                mailbox.record_service(job.text, detail, order=order)
            else:
                mailbox.record_service(
                    job.text, detail, owner=given.descriptor, with_=given.proof, mode=given.mode
                )
        except ChipRefusalError as refusal:
            # The owner may be asked again, and leave it.
            signing.possible = refusal.code not in unlock.ANSWERS
            raise

    try:
        under_way.begin(at, job, entries)
        if order:
            act(mailbox, None)
        else:
            unlock.prove_if_locked(doing, owner, mailbox, act)
    except SpacegrayError:
        # Whatever went wrong, the chip knows whether it signed.
        with contextlib.suppress(SpacegrayError, under_way.BoardExchangedError):
            signing.possible = under_way.settle(at, mailbox)
        raise
    except BaseException:
        # The connection may be cut off. A chip whose state was put back may have signed before.
        if not signing.possible and not shown["put_back"]:
            with contextlib.suppress(SpacegrayError):
                under_way.end(at)
        raise


def _is_of_its_day(spec: Spec) -> bool:
    """Whether a machine that bears the day of its order is one that could be had on it."""
    try:
        ordering.check(spec, source="of the machine")
    except UsageError:
        return False
    return True
