"""The ways back for an owner, named where one is needed: a lock without them is a trap.

The chip says what is wrong; only the workstation's folder knows whether a recovery bundle was ever
made, and so what is left to do about it.
"""

import time
from pathlib import Path
from typing import Any, Final

import msgspec

from spacegray.chip.refusal import ChipRefusalError
from spacegray.errors import SpacegrayError
from spacegray.files import write_atomically
from spacegray.paths import WorkstationPaths

LOST: Final = ("unborn", "sealed", "corrupt", "tpm")
"""The chip's own state is gone or of no use."""
STALE: Final = ("stale", "put_back")
"""The disk, or the chip's own state, is sound, but not the newest."""


class BundleNote(msgspec.Struct, kw_only=True, frozen=True):
    """A recovery bundle that was made: of which chip and life, when, and where it was written."""

    ecid: str
    lives: int | None
    made: float
    """Unix seconds."""
    file: str


def note_bundle(at: WorkstationPaths, *, ecid: str, lives: int | None, file: Path) -> None:
    """Remember that a bundle was made just now."""
    note = BundleNote(ecid=ecid, lives=lives, made=round(time.time(), 3), file=str(file))
    write_atomically(at.bundle_note, msgspec.json.encode(note))


def forget_bundle(at: WorkstationPaths) -> None:
    """The disk got another key: no bundle made so far opens it."""
    at.bundle_note.unlink(missing_ok=True)


def bundle(at: WorkstationPaths) -> BundleNote | None:
    """The bundle that was made last for the disk that there is, if any was."""
    try:
        return msgspec.json.decode(at.bundle_note.read_bytes(), type=BundleNote)
    except (OSError, msgspec.DecodeError):
        return None


def explained(at: WorkstationPaths, error: SpacegrayError) -> SpacegrayError:
    """The same error with the way back as its next step, where there is one."""
    code = error.code if isinstance(error, ChipRefusalError) else None
    if code == "put_back":
        next_step = accepting(at.name)
    elif code in STALE:
        next_step = (
            f"put the newest back; or, if this is a backup that you want, `ssd accept {at.name}` "
            "takes it, with the password or recovery key if there is one"
        )
    elif code in LOST:
        next_step = _without_its_state(at, code)
    elif code == "no_ticket" and bundle(at) is not None:
        next_step = (
            f"`import --recovery {at.name} FILE --yes` puts one beside what is on the disk, with "
            f"the bundle and the recovery key; `restore {at.name}` erases the disk and installs one"
        )
    else:
        return error
    return ChipRefusalError(error.doing, error.stopped_by, next_step, code=code, link=error.link)


def accepting(name: str) -> str:
    """What to do where the chip's own state was put back: no password counts then."""
    return (
        f"put the newest back; or, if this is a backup that you want, `ssd accept {name} "
        "--recovery-key-file FILE` takes it (without a file where there is no recovery key)"
    )


def must_have_disk(at: WorkstationPaths, doing: str, shown: dict[str, Any]) -> None:
    """Raise SpacegrayError where a chip that says this was erased, and nothing begun since."""
    if shown["life"] == "erased":
        raise SpacegrayError(
            doing,
            "it was erased: there is no disk",
            f"`restore {at.name}` makes a new system, `import {at.name} FILE` brings a copy back",
        )


def advice(at: WorkstationPaths) -> str:
    """What to do while all is well, so that there is a way back when it is not."""
    return (
        f"keep a way back: `recovery-key {at.name}` makes a recovery key, then "
        f"`export --recovery {at.name} FILE` a bundle; keep both away from this host"
    )


def _without_its_state(at: WorkstationPaths, code: str | None) -> str:
    first = (
        "see that the TPM is there and may be used"
        if code == "tpm"
        else f"put {at.state_folder} back from a backup"
    )
    made = bundle(at)
    if made is None:
        return (
            f"{first}; no recovery bundle was ever made of it, so that without that nobody can "
            f"read its disk again (`delete {at.name}`, then create it anew)"
        )
    day = time.strftime("%Y-%m-%d", time.localtime(made.made))
    return (
        f"{first}; or `import --recovery {at.name} FILE` makes a new chip for its disk, from the "
        f"bundle of {day} (written to {made.file}) and the recovery key"
    )
