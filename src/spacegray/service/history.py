"""What was done to a machine, and whether the record of it is whole and true.

The chip remembers the head: the digest of the newest entry. Each entry names the digest of the one
before, so that all of them hang on the chip, those of the chips before it on this machine too.
Nothing of the file is believed that does not.
"""

from typing import Any, Final

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec

from spacegray.chip.client import ServiceRecord
from spacegray.service import record
from spacegray.service.jobs import words
from spacegray.service.record import Entry
from spacegray.spec import Spec, load
from spacegray.workstation import hold, jobs, under_way
from spacegray.workstation.api import Workstation
from spacegray.workstation.unlock import Owner

LOGIC_BOARD: Final = "logic-board"
WRONG_LIMIT: Final = 100
"""Of a file that is all rubbish, not everything that is wrong with it is said."""
_ASIDE: Final = f"record-0x{'[0-9a-f]' * 16}"


class Shown(msgspec.Struct, kw_only=True, frozen=True):
    """An entry as people read it."""

    number: int
    ecid: str
    """Of the chip that signed it."""
    time: int
    """Unix seconds, by the host's clock."""
    job: str
    said: str
    """What was done, as a sentence."""
    by: str
    provider: str = ""
    """The name of the provider, if one did it that is still trusted."""
    fingerprint: str = ""
    """Of that provider's key."""
    order: str = ""
    """The number of the work order."""
    verified: bool
    """Whether it hangs on what the chip remembers, and was signed by its chip."""


class TrustedProvider(msgspec.Struct, kw_only=True, frozen=True):
    """A provider whose work orders the chip takes."""

    name: str
    fingerprint: str


class History(msgspec.Struct, kw_only=True, frozen=True):
    """The record of one machine, verified."""

    name: str
    ecid: str
    verified: bool
    """Whether all of it is true, nothing is missing, and the machine is as it says."""
    wrong: list[str]
    """What is not, a sentence each."""
    notes: list[str]
    entries: list[Shown]
    providers: list[TrustedProvider]


def history(workstation: Workstation, owner: Owner | None = None) -> History:
    """The history of a workstation, on or off; `owner` gives a chip that is off its passphrase.

    Raises SpacegrayError where the chip cannot be asked, or the file not be read.
    """
    at, doing = workstation.at, f"looking into the service record of {workstation.name}"
    asked = hold.any_chip(workstation, doing, "being looked at", owner, locked=True)
    with asked as (mailbox, _):
        kept, shown = mailbox.service(), mailbox.show()
        found, spec = under_way.content(at), load(at.spec)
    judged = judge(found, kept, shown["ecid"], record.identity_key(shown["identity_key"]), spec)
    if shown["put_back"]:
        judged.wrong.append(
            "a part of what the chip keeps was put back to an older day: it may have signed more "
            "than it remembers"
        )
    names = {each.fingerprint: each.name for each in kept.providers}
    asides = sorted(at.service_record.parent.glob(_ASIDE))
    return History(
        name=workstation.name,
        ecid=shown["ecid"],
        verified=not judged.wrong,
        wrong=judged.wrong,
        notes=[
            f"{each}: the record of a chip that was lost; none vouches for it" for each in asides
        ],
        entries=[
            Shown(
                number=entry.number,
                ecid=entry.ecid,
                time=entry.time,
                job=entry.job,
                said=_said(entry),
                by=entry.by,
                provider=names.get(entry.provider, ""),
                fingerprint=entry.provider,
                order=entry.order,
                verified=good,
            )
            for entry, good in zip(judged.entries, judged.verified, strict=True)
        ],
        providers=[
            TrustedProvider(name=each.name, fingerprint=each.fingerprint) for each in kept.providers
        ],
    )


def _said(entry: Entry) -> str:
    if entry.job == LOGIC_BOARD:
        comes = entry.detail.get("new chip") == entry.ecid
        return "logic board in, with this chip" if comes else "logic board out, with this chip"
    return words.done(entry.job, entry.machine("before"), entry.machine("after"))


class Judged:
    """What was found in a record's file."""

    def __init__(self) -> None:
        self.wrong: list[str] = []
        self.entries: list[Entry] = []
        self.verified: list[bool] = []


def judge(
    found: bytes, kept: ServiceRecord, ecid: str, key: ec.EllipticCurvePublicKey, spec: Spec
) -> Judged:
    """Compare a record's file with what its chip, `ecid`, remembers and with the machine."""
    judged = Judged()
    frames, whole = record.split(found)
    for place, frame in enumerate(frames, start=1):
        try:
            judged.entries.append(record.read(frame))
        except ValueError:
            judged.wrong.append(f"what stands in place {place} is no entry: it was changed")
    if not whole:
        judged.wrong.append("the file ends in the middle of an entry")
    signed = _signatures(judged, ecid, key)
    linked = _links(judged)
    hangs = _end(judged, kept)
    for place in reversed(range(len(judged.entries))):
        judged.verified.insert(0, hangs and signed[place])
        hangs = hangs and linked[place]
    _boards(judged, ecid)
    _machine(judged, spec)
    if (more := len(judged.wrong) - WRONG_LIMIT) > 0:
        judged.wrong[WRONG_LIMIT:] = [f"and {more} more things are wrong with it"]
    return judged


def _signatures(judged: Judged, ecid: str, key: ec.EllipticCurvePublicKey) -> list[bool]:
    """Whether each was signed by its chip.

    A chip that is gone names its key in its first entry. That it was that chip's is vouched for by
    the entries after it, not by itself.
    """
    keys = {each.ecid: each.key for each in judged.entries if each.number == 0}
    keys[ecid] = key
    good = []
    for entry in judged.entries:
        signer = keys.get(entry.ecid)
        good.append(signer is not None and entry.signed_by(signer))
        if not good[-1]:
            judged.wrong.append(
                f"entry {entry.number} of the chip {entry.ecid} was not signed by it: it was "
                "changed, or another key signed it"
            )
    return good


def _links(judged: Judged) -> list[bool]:
    """Whether each follows the one before it, the first nothing."""
    good = []
    before: Entry | None = None
    for entry in judged.entries:
        if before is None:
            good.append((entry.number, entry.previous) == (0, record.NOTHING_BEFORE))
            if not good[-1]:
                judged.wrong.append(
                    f"the record begins with entry {entry.number}: what was before it is missing"
                )
        else:
            handed_on = (
                entry.number == 0
                and before.job == LOGIC_BOARD
                and before.detail.get("new chip") == entry.ecid
            )
            next_one = (entry.ecid, entry.number) == (before.ecid, before.number + 1)
            good.append(entry.previous == before.head and (handed_on or next_one))
            if not good[-1]:
                judged.wrong.append(
                    f"entry {entry.number} does not follow entry {before.number}, which stands "
                    "before it: one is missing, was changed or is in another place"
                )
        before = entry
    return good


def _end(judged: Judged, kept: ServiceRecord) -> bool:
    """Whether the last one is the newest that the chip remembers."""
    if not judged.entries:
        if kept.entries:
            judged.wrong.append(f"the chip has signed {kept.entries} entries, and none is here")
        return False
    last = judged.entries[-1]
    if last.head == kept.head and last.number + 1 == kept.entries:
        return True
    judged.wrong.append(
        f"it ends with entry {last.number}, and not with the newest of the {kept.entries} that the "
        "chip has signed: it is older, was cut off, or belongs to another machine"
    )
    return False


def _boards(judged: Judged, ecid: str) -> None:
    """Whether each chip that signed that another takes its place did give way; `ecid` is there."""
    after = [*(each.ecid for each in judged.entries), ecid][1:]
    for entry, there in zip(judged.entries, after, strict=True):
        comes = entry.detail.get("new chip", entry.ecid)
        if entry.job == LOGIC_BOARD and there == entry.ecid != comes:
            judged.wrong.append(
                f"entry {entry.number} says that another chip takes the place of {entry.ecid}, "
                "and that one is still there"
            )


def _machine(judged: Judged, spec: Spec) -> None:
    """Compare what the entries say of the machine with each other, and the last with what it is."""
    before: Entry | None = None
    for entry in judged.entries:
        if before is not None:
            since = f"between entry {before.number} and entry {entry.number}"
            _compare(judged, since, before.machine("after"), entry.machine("before"))
        before = entry
    if before is not None:
        since = f"since entry {before.number}"
        _compare(judged, since, before.machine("after"), jobs.hardware(spec))


def _compare(judged: Judged, when: str, then: dict[str, Any], now: dict[str, Any]) -> None:
    for name in jobs.HARDWARE:
        if then.get(name) != now.get(name):
            judged.wrong.append(
                f"{when} the machine was changed without a record: "
                f"{name} was {then.get(name)} and is {now.get(name)}"
            )
