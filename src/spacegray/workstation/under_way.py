"""The job on the repair bench that is not finished: what is written down before it, and its end.

Before the chip is asked to sign a job's entry, a note says which number that entry will have. The
chip's signature is the moment that counts: whoever opens the chip next finds by the note whether
it has the entry. If it has, the job is done, by the words of what was signed; if not, it never was.
The note itself decides nothing: it lies where others may write.
"""

import errno
import hashlib
from typing import Any, Final

import cbor2
import msgspec

from spacegray import spec as specs
from spacegray.chip.client import ChipClient
from spacegray.chip.messages import DIGEST_BYTES
from spacegray.errors import SpacegrayError
from spacegray.files import make_private, read_bounded, sync_folder, write_atomically
from spacegray.paths import WorkstationPaths
from spacegray.workstation import board, create, jobs
from spacegray.workstation.jobs import Job

LENGTH_BYTES: Final = 2
"""Each entry in the record's file follows its length, big-endian."""
RECORD_LIMIT_BYTES: Final = 4 * 1024 * 1024
"""Thousands of entries: no machine is on the bench that often."""
NOTE_LIMIT_BYTES: Final = 4096
"""Far more than a note has."""
_BOARD: Final = Job("logic-board")


class UnderWay(msgspec.Struct, kw_only=True, frozen=True):
    """A job that was begun."""

    job: str
    number: int
    """The number of the entry that the chip was to sign."""


class BoardExchangedError(Exception):
    """The chip that was opened has signed that another takes its place: open that one."""


def begin(at: WorkstationPaths, job: Job, number: int) -> None:
    """Note that the chip is about to sign entry `number`.

    Raises SpacegrayError, also where what it signs could not be filed.
    """
    content(at)
    make_private(at.under_way.parent)
    write_atomically(at.under_way, msgspec.json.encode(UnderWay(job=job.text, number=number)))


def read(at: WorkstationPaths) -> UnderWay | None:
    """The job that is under way; None where none is."""
    try:
        note = read_bounded(at.under_way, NOTE_LIMIT_BYTES)
        return msgspec.json.decode(note, type=UnderWay)
    except (OSError, ValueError, RecursionError):
        return None


def content(at: WorkstationPaths) -> bytes:
    """The record's file; empty where there is none. Raises SpacegrayError."""
    try:
        return read_bounded(at.service_record, RECORD_LIMIT_BYTES)
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise SpacegrayError(
            f"reading {at.service_record}", error.strerror, "put the right one back"
        ) from None


def settle(at: WorkstationPaths, mailbox: ChipClient) -> bool:
    """Finish or withdraw what is under way; returns whether the machine changed.

    The chip is open, the machine off. Raises SpacegrayError, and BoardExchangedError where this
    is not the chip any more; `board.exchange` puts the new one in its place then.
    """
    if at.took_over.exists():
        shown = mailbox.show()
        take_over(at, ecid=shown["ecid"], seal=shown["seal"])
    changed = _go_on(at, mailbox)
    found = read(at)
    if found is None:
        end(at)
        return changed
    shown = mailbox.show()
    if shown["put_back"]:
        # It may have signed more than it remembers: that is no moment to decide.
        return changed
    kept, own = mailbox.service(), shown["ecid"]
    if kept.entries == found.number + 1:
        append(at, kept.last)
        job, detail = spoken(kept.last)
        if detail.get("new chip", own) != own and board.decide(at, kept.head):
            end(at)
            raise BoardExchangedError
        jobs.carry_out(at, job, of_its_day=detail.get("ordered") != "")
        changed = True
    end(at)
    return changed


def _go_on(at: WorkstationPaths, mailbox: ChipClient) -> bool:
    """Have the chip of a new logic board go on with the record; whether it had to."""
    try:
        head = read_bounded(at.continues, DIGEST_BYTES)
        if len(head) != DIGEST_BYTES:
            raise OSError(errno.EINVAL, "it is no record's head")
    except FileNotFoundError:
        return False
    except OSError as error:
        raise SpacegrayError(
            f"reading {at.continues}", error.strerror, f"put {at.state_folder} back as it was"
        ) from None
    shown = mailbox.show()
    if mailbox.service().entries == 0:
        if shown["put_back"]:
            # It signs nothing then, and its owner has to get at it all the same.
            return False
        spec = specs.load(at.spec)
        detail = jobs.detail(
            spec, _BOARD, identity_key=shown["identity_key"], new_chip=shown["ecid"]
        )
        mailbox.record_service(_BOARD.text, detail, continues=head)
    append(at, mailbox.service().last)
    create.note_chip(at, shown["ecid"])
    at.continues.unlink()
    sync_folder(at.state_folder)
    return True


def append(at: WorkstationPaths, entry: bytes) -> None:
    """Have `entry` be the last one in the record's file, durably."""
    make_private(at.service_record.parent)
    framed = len(entry).to_bytes(LENGTH_BYTES) + entry
    before = content(at)
    if not before.endswith(framed):
        write_atomically(at.service_record, before + framed)


def set_aside(at: WorkstationPaths, ecid: str) -> None:
    """The chip `ecid` is lost: its record begins anew with the next, and what there is is kept.

    Nobody can vouch for its end any more, so that no chip goes on with it.
    """
    end(at)
    if at.service_record.exists():
        at.service_record.rename(at.service_record.with_name(f"record-{ecid}"))
        sync_folder(at.service_record.parent)


def take_over(at: WorkstationPaths, *, ecid: str, seal: specs.Seal) -> None:
    """The chip in place has taken the disk over from one that is gone: note down what follows."""
    spec = specs.load(at.spec)
    if spec.seal != seal:
        write_atomically(at.spec, specs.dump(specs.replace(spec, {"seal": seal})).encode())
    before = create.installed(at)
    if before is not None and before.ecid != ecid:
        set_aside(at, before.ecid)
        create.note_chip(at, ecid)
    at.took_over.unlink(missing_ok=True)
    sync_folder(at.state_folder)


def spoken(entry: bytes) -> tuple[Job, dict[str, Any]]:
    """The job and the detail of an entry that the chip itself has just given, so unverified."""
    try:
        said = cbor2.loads(cbor2.loads(entry).value[2])
        return jobs.parse(said["job"]), cbor2.loads(said["detail"])
    except (cbor2.CBORDecodeError, ValueError, TypeError, LookupError, AttributeError):
        digest = hashlib.sha256(entry).hexdigest()
        raise SpacegrayError(
            "finishing what is under way on the repair bench",
            f"the chip signed what this version does not know (entry {digest[:16]})",
            "use the version that began it",
        ) from None


def end(at: WorkstationPaths) -> None:
    """Remove the note: nothing is under way any more."""
    try:
        at.under_way.unlink()
        sync_folder(at.under_way.parent)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise SpacegrayError(
            f"removing {at.under_way}", error.strerror, "see to what lies there"
        ) from None
