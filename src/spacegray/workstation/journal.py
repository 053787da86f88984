"""What the supervisor writes down: the state file and the event log, always together."""

import os
import time
from typing import Any

import msgspec

from spacegray import process
from spacegray.links import LinkEvent, Status, Target
from spacegray.paths import WorkstationPaths
from spacegray.workstation import state
from spacegray.workstation.events import EventLog
from spacegray.workstation.state import Record, State
from spacegray.workstation.unlock import WORDS, Standing


class Journal:
    """The one writer of a workstation's record while its supervisor lives."""

    def __init__(self, paths: WorkstationPaths) -> None:
        self._paths = paths
        self._log = EventLog(paths.events)
        self._powered_on = 0.0
        self.record: Record = state.read(paths)

    def begin(
        self,
        *,
        accelerator: str,
        reason: str,
        given: dict[str, Any],
        target: Target = "main",
        external: str | None = None,
    ) -> None:
        """A new start: the number of starts goes up, nothing of the last one remains."""
        self._log.rotate()
        self._powered_on = time.time()
        self.record = Record(
            state="starting",
            boot=self.record.boot + 1,
            since=self._powered_on,
            supervisor=process.identity(os.getpid()),
            host_boot=process.boot_id(),
            accelerator=accelerator,
            accelerator_reason=reason,
            given=given,
            target=target,
            external=external,
        )
        state.write(self._paths, self.record)
        self._log.write("state", state="starting", reason="", boot=self.record.boot, target=target)

    def judged(self, *, slot: str, trying: bool, policy: str) -> None:
        """What the chip lets start."""
        self.record = msgspec.structs.replace(self.record, slot=slot, trying=trying, policy=policy)

    def serviced(self, given: dict[str, Any]) -> None:
        """What the machine is given after a job on the repair bench was finished."""
        self.record = msgspec.structs.replace(self.record, given=given)
        self.note("a job on the repair bench that was cut off is finished")

    def change(
        self, to: State, reason: str = "", *, link: str | None = None, next_step: str = ""
    ) -> None:
        """Enter the state `to`; of a failure `reason` ends with its `next_step`."""
        over = to in ("off", "failed")
        self.record = msgspec.structs.replace(
            self.record,
            state=to,
            reason=reason,
            link=link,
            next_step=next_step,
            since=time.time(),
            supervisor=None if over else self.record.supervisor,
            secure_boot=None if over else self.record.secure_boot,
            ssh_port=None if over else self.record.ssh_port,
            needs=[],
            attempts={},
            attempts_at=None,
            locked_until=None,
        )
        state.write(self._paths, self.record)
        self._log.write("state", state=to, reason=reason, link=link, boot=self.record.boot)

    def lock(self, standing: Standing, until: float) -> None:
        """The chip waits for what `standing` says, until the Unix second `until`."""
        told = self.record.state == "locked" and self.record.needs == list(standing.needs)
        self.record = msgspec.structs.replace(
            self.record,
            state="locked",
            reason=f"waiting for the {WORDS[standing.needs[0]]}",
            since=self.record.since if self.record.state == "locked" else time.time(),
            needs=list(standing.needs),
            attempts=msgspec.to_builtins(standing.attempts),
            attempts_at=time.time(),
            locked_until=until,
        )
        state.write(self._paths, self.record)
        if not told:
            self._log.write(
                "state", state="locked", reason=self.record.reason, boot=self.record.boot
            )

    def unlock(self) -> None:
        """The chip has got what it waited for: from now on the start is timed."""
        self._powered_on = time.time()
        self.change("starting")

    def link(self, link: str, status: Status, detail: str, *, at: float | None = None) -> None:
        """An observation about a link of the boot chain."""
        moment = time.time() if at is None else at
        event = LinkEvent(link=link, status=status, detail=detail, at=round(moment, 3))
        seconds = round(moment - self._powered_on, 3)
        entry = {**msgspec.structs.asdict(event), "seconds": seconds}
        self.record.links.append(entry)
        self._log.write("link", **{key: entry[key] for key in entry if key != "at"})
        state.write(self._paths, self.record)

    def ready(self, *, secure_boot: bool, kernel: str, ssh_port: int | None = None) -> None:
        """What the guest of this start said of itself, and where it is to be reached, if it is."""
        self.record = msgspec.structs.replace(
            self.record, secure_boot=secure_boot, kernel=kernel, ssh_port=ssh_port
        )

    def note(self, text: str) -> None:
        """One line worth keeping."""
        self._log.write("note", text=text)
