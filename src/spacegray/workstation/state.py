"""The lifecycle of a workstation and the one file that remembers it.

States: off, starting, locked (its chip waits for a secret), running, recovery (the recovery system
runs in its place), stopping, failed. Only the supervisor writes the file, and the file names the
supervisor and the boot of the host: where that process is gone, so is the machine (its children die
with it), whatever the file says.
"""

from typing import Any, Literal

import msgspec

from spacegray import process
from spacegray.files import write_atomically
from spacegray.links import Target
from spacegray.paths import WorkstationPaths

State = Literal["off", "starting", "locked", "running", "recovery", "stopping", "failed"]

ALIVE: tuple[State, ...] = ("starting", "locked", "running", "recovery", "stopping")
UP: tuple[State, ...] = ("running", "recovery")
"""What a start comes to."""


class Record(msgspec.Struct, kw_only=True):
    """What is known of the workstation's present or last start."""

    state: State = "off"
    reason: str = ""
    link: str | None = None
    """The link of the boot chain that broke, in the state failed."""
    next_step: str = ""
    """What its owner does about that; the end of `reason`."""
    boot: int = 0
    """How many starts there have been."""
    since: float = 0.0
    """Unix seconds at which this state began."""
    supervisor: str | None = None
    host_boot: str = ""
    accelerator: str | None = None
    accelerator_reason: str = ""
    given: dict[str, Any] = {}
    target: Target = "main"
    """What the start is for."""
    slot: str | None = None
    """Which of the two systems on the disk, or whose recovery, it started; None until it did."""
    trying: bool = False
    """Whether that one is new and has yet to come up once."""
    policy: str | None = None
    """The security policy under which it started."""
    external: str | None = None
    """The external disk that is plugged in, or will be."""
    secure_boot: bool | None = None
    kernel: str | None = None
    ssh_port: int | None = None
    links: list[dict[str, Any]] = []
    needs: list[str] = []
    """What the chip waits for, in the state locked."""
    attempts: dict[str, Any] = {}
    """How many tries there are, as of the last one; the keys are those of `Standing`."""
    attempts_at: float | None = None
    """Unix seconds at which that was so: a wait goes on from then."""
    locked_until: float | None = None
    """Unix seconds at which a locked machine switches itself off."""


def read(paths: WorkstationPaths) -> Record:
    """The state as it truly is: a record of a supervisor that is gone is corrected."""
    try:
        record = msgspec.json.decode(paths.state.read_bytes(), type=Record)
    except FileNotFoundError:
        return Record()
    except (OSError, msgspec.DecodeError):
        return Record(state="failed", reason="the state file could not be read")
    if record.state not in ALIVE:
        return record
    if record.host_boot != process.boot_id():
        return _lost(record, "off", "the host was restarted while it was on")
    if record.supervisor is None or not process.alive(record.supervisor):
        return _lost(record, "failed", "its supervisor was killed; to the guest, a power cut")
    return record


def write(paths: WorkstationPaths, record: Record) -> None:
    """Replace the state file, durably."""
    write_atomically(paths.state, msgspec.json.encode(record) + b"\n")


def _lost(record: Record, state: State, reason: str) -> Record:
    return msgspec.structs.replace(
        record,
        state=state,
        reason=reason,
        supervisor=None,
        secure_boot=None,
        ssh_port=None,
        needs=[],
        attempts={},
        attempts_at=None,
        locked_until=None,
    )
