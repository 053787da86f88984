"""The workstation as the faces use it: the command line and the console both."""

import contextlib
import functools
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from spacegray import process, spec
from spacegray.chip.messages import Mode
from spacegray.chip.modules import Modules
from spacegray.errors import SpacegrayError, UsageError
from spacegray.files import locked, make_private
from spacegray.links import Target
from spacegray.machine import external as external_disk
from spacegray.machine.accelerator import choose
from spacegray.paths import Paths, WorkstationPaths
from spacegray.progress import Progress, Silent
from spacegray.workstation import control, create, events, hold, known, state, unlock
from spacegray.workstation.chain import usual_target
from spacegray.workstation.events import Event
from spacegray.workstation.state import ALIVE, UP, Record
from spacegray.workstation.unlock import Answer, Given, Kind, Owner, Standing

START_SECONDS = 600.0
STOP_SECONDS = 90.0
"""How long a guest may take to shut down before its power is cut."""
SUPERVISOR_SECONDS = 15.0
"""How long a supervisor may take to end beyond what its guest was given."""
UNLOCK_SECONDS = 180.0
"""Longer than a chip takes to look at a secret, on a slow host and behind others."""


class Workstation:
    """One existing workstation."""

    def __init__(self, paths: Paths, at: WorkstationPaths, installed: create.Installed) -> None:
        self._paths = paths
        self.at = at
        self.installed = installed

    @functools.cached_property
    def spec(self) -> spec.Spec:
        """What was ordered; raises UsageError where its file is damaged."""
        return spec.load(self.at.spec)

    @property
    def name(self) -> str:
        return self.at.name

    @property
    def empty(self) -> bool:
        """Whether there is nothing to start on its disk."""
        return self.installed.empty or known.read(self.at).life == "erased"

    @classmethod
    def find(cls, paths: Paths, name: str) -> "Workstation":
        """The workstation `name`; raises SpacegrayError when there is none, or no whole one."""
        at = paths.workstation(name)
        installed = create.installed(at)
        if installed is None:
            if (damaged := create.damage(at)) is not None:
                raise damaged
            others = ", ".join(cls.names(paths)) or "none yet"
            raise UsageError(
                f"looking for the workstation {name!r}",
                f"there is none of that name (there are: {others})",
                f"make it with `up {name}` or `create {name}`",
            )
        return cls(paths, at, installed)

    @classmethod
    def to_delete(cls, paths: Paths, name: str) -> "Workstation":
        """The workstation `name`, be it no whole one; raises SpacegrayError when there is none."""
        try:
            return cls.find(paths, name)
        except SpacegrayError:
            at = paths.workstation(name)
            if not create.remains(at):
                raise
            return cls(paths, at, create.Installed(ecid="", edition="", disk_bytes=0))

    @classmethod
    def names(cls, paths: Paths) -> list[str]:
        """The names of all complete workstations, sorted."""
        return sorted(path.parent.name for path in paths.workstations.glob("*/installed.json"))

    # What it is

    def record(self) -> Record:
        """Its state now."""
        return state.read(self.at)

    def show(self) -> dict[str, Any]:
        """All there is to know of it, ready for JSON; keys are documented in docs/show.md."""
        record = self.record()
        return {
            "name": self.name,
            "state": record.state,
            "busy": hold.holder(self.at),
            "reason": record.reason,
            "link": record.link,
            "since": record.since,
            "boot": record.boot,
            "target": record.target,
            "slot": record.slot,
            "trying": record.trying,
            "external": record.external,
            "accelerator": record.accelerator,
            "accelerator_reason": record.accelerator_reason,
            "secure_boot": record.secure_boot,
            "kernel": record.kernel,
            "ecid": self.installed.ecid,
            "needs": record.needs,
            "attempts": record.attempts,
            "attempts_at": record.attempts_at,
            "locked_until": record.locked_until,
            "chip": self._chip(record),
            "edition": self.spec.edition,
            "user": self.spec.user,
            "ordered": msgspec.to_builtins(self.spec),
            "given": record.given,
            "disk": {
                "size_bytes": self.installed.disk_bytes,
                "used_bytes": _allocated(self.at),
                "partitions": self.installed.partitions,
            },
            "root_hash": self.installed.root_hash,
            "ssh_port": record.ssh_port,
            "links": record.links,
            "folder": str(self.at.folder),
            "state_folder": str(self.at.state_folder),
            "run_folder": str(self.at.run),
        }

    def events(self, *, follow: bool = False) -> Iterator[Event]:
        """The event log, and with `follow` all that comes, without end."""
        return events.follow(self.at.events, until=lambda: not follow)

    # What its owner does

    def start(
        self,
        *,
        target: Target | None = None,
        external: Path | None = None,
        owner: Owner | None = None,
        accelerator: str | None = None,
        timeout_seconds: float = START_SECONDS,
        progress: Progress | None = None,
        on_event: Callable[[Event], None] = lambda event: None,
    ) -> None:
        """Power on and wait until it is up; returns at once where it is.

        `target` is what to start, the system on its disk unless it is said; `external` an external
        disk, to start from where that is the target, else plugged in once the system runs. `owner`
        is asked for what the chip needs, and where nothing comes of that, the machine is switched
        off again. Without one it waits for whoever else unlocks it. The time-out counts from the
        unlocking on. Raises SpacegrayError that names the link that broke.
        """
        doing = f"starting {self.name}"
        chosen = target or usual_target(self.installed)
        record = self.record()
        if record.state in ALIVE:
            self._must_be(record, doing, chosen, external)
        if record.state in UP:
            return
        self._must_have(doing, chosen, external)
        if self.record().state not in ALIVE:
            hold.await_free(self.at, doing)
        accelerated = choose(self._paths, accelerator)
        (progress or Silent()).note(f"accelerator: {accelerated.name} ({accelerated.reason})")
        make_private(self.at.run)
        beginning = events.size(self.at.events)
        supervisor = None
        if self.record().state not in ALIVE:
            supervisor = self._launch(accelerator, chosen, external)
        self._await_running(beginning, supervisor, timeout_seconds, on_event, owner)

    def unlock(self, kind: Kind, descriptor: int, mode: Mode = "normal") -> Answer:
        """Give the locked machine one secret: a descriptor, which stays the caller's.

        Raises SpacegrayError where it is not locked, or the chip could not look at it.
        """
        answer, _ = control.ask(
            self.at,
            {"op": "unlock", "kind": kind, "mode": mode},
            (descriptor,),
            timeout_seconds=UNLOCK_SECONDS,
        )
        return msgspec.convert(answer["answer"], Answer)

    def stop(self, *, timeout_seconds: float = STOP_SECONDS) -> bool:
        """Shut down and wait until it is off; returns False where it was not on."""
        if self.record().state not in ALIVE:
            return False
        with contextlib.suppress(SpacegrayError):
            control.ask(self.at, {"op": "stop", "timeout_seconds": timeout_seconds})
        self.await_off(timeout_seconds + SUPERVISOR_SECONDS)
        return True

    def restart(
        self,
        *,
        owner: Owner | None = None,
        accelerator: str | None = None,
        timeout_seconds: float = START_SECONDS,
        progress: Progress | None = None,
        on_event: Callable[[Event], None] = lambda event: None,
    ) -> None:
        """Shut down, then power on."""
        self.stop()
        self.start(
            owner=owner,
            accelerator=accelerator,
            timeout_seconds=timeout_seconds,
            progress=progress,
            on_event=on_event,
        )

    def delete(self) -> bool:
        """Switch it off and remove it, its disk and its chip.

        Returns whether the chip destroyed its keys itself; if not, a TPM may still have something.
        """
        self.stop(timeout_seconds=0)
        hold.await_free(self.at, f"deleting {self.name}")
        with locked(self.at.lock, timeout_seconds=SUPERVISOR_SECONDS) as held:
            if not held:
                raise SpacegrayError(
                    f"deleting {self.name}", "somebody else is at work on it", "try again"
                )
            return create.remove(self.at)

    def screen_socket(self) -> socket.socket:
        """A new connection to its screen, speaking RFB (RFC 6143) without authentication."""
        _, descriptors = control.ask(self.at, {"op": "screen"})
        if len(descriptors) != 1:
            raise SpacegrayError(f"opening the screen of {self.name}", "none came", "try again")
        return socket.socket(fileno=descriptors[0])

    def serial_socket(self) -> socket.socket:
        """A new connection to its serial console: bytes both ways, what was said last at first."""
        _, descriptors = control.ask(self.at, {"op": "serial"})
        if len(descriptors) != 1:
            raise SpacegrayError(
                f"attaching to the serial console of {self.name}", "none came", "try again"
            )
        return socket.socket(fileno=descriptors[0])

    def serial_size(self, rows: int, columns: int) -> None:
        """Say how large the terminal is that is attached; recovery draws itself in that size."""
        control.ask(self.at, {"op": "size", "rows": rows, "columns": columns})

    # How

    def _must_be(self, record: Record, doing: str, target: Target, external: Path | None) -> None:
        """Raise SpacegrayError where the start that there is is another one than is wanted."""
        plugged = None if external is None else str(external.absolute())
        if record.target != target or (plugged is not None and record.external != plugged):
            raise SpacegrayError(
                doing, f"it is on ({record.state})", f"`stop {self.name}` first", link="machine"
            )

    def _must_have(self, doing: str, target: Target, external: Path | None) -> None:
        """Raise SpacegrayError where there is nothing to start."""
        if target == "external" and external is None:
            raise UsageError(doing, "no external disk was given", "name its file or device")
        if target in ("other", "recovery") and external is not None:
            raise UsageError(
                doing,
                "an external disk is plugged in while our own system runs, or started from",
                f"start it without, or from that disk (`start {self.name} --from-external`)",
            )
        if external is not None:
            with external_disk.opened(external, doing):
                pass
        if self.empty and target in ("main", "other"):
            raise SpacegrayError(
                doing,
                "its disk is empty (erased, or an import was not finished)",
                f"`import {self.name} FILE` brings a copy back, `restore {self.name}` makes a new "
                "system",
                link="disk",
            )

    def _launch(
        self, accelerator: str | None, target: Target, external: Path | None
    ) -> "subprocess.Popen[bytes]":
        command = [*process.python("spacegray.workstation.supervisor"), self.name]
        command += ["--target", target]
        if accelerator:
            command += ["--accel", accelerator]
        if external is not None:
            command += ["--external", str(external.absolute())]
        make_private(self.at.logs)
        path = self.at.logs / "supervisor.log"
        try:
            log = path.open("wb")
        except OSError as error:
            raise SpacegrayError(
                f"starting {self.name}",
                f"{path}: {error.strerror}",
                "it writes what happens there: see to that folder, then start it again",
            ) from None
        with log:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=process.minimal_environment(),
                cwd="/",
                start_new_session=True,
            )

    def _await_running(
        self,
        beginning: int,
        supervisor: "subprocess.Popen[bytes] | None",
        timeout_seconds: float,
        on_event: Callable[[Event], None],
        owner: Owner | None,
    ) -> None:
        deadline = time.monotonic() + timeout_seconds
        doing = f"starting {self.name}"

        def over() -> bool:
            nonlocal deadline
            record = self.record()
            if record.state == "locked":
                deadline = time.monotonic() + timeout_seconds
            elif time.monotonic() > deadline:
                raise SpacegrayError(
                    doing,
                    f"it was not up after {timeout_seconds:.0f} s",
                    f"it goes on starting: see `show {self.name}`, or give --timeout",
                )
            ended = supervisor is not None and supervisor.poll() is not None
            return record.state not in ALIVE and (supervisor is None or ended)

        def give() -> None:
            record = self.record()
            if owner is not None and record.state == "locked":
                self._give(doing, owner, record, ours=supervisor is not None)

        give()
        for event in events.follow(self.at.events, start=beginning, until=over):
            on_event(event)
            if event["kind"] == "state" and event["state"] == "locked":
                give()
            if event["kind"] == "state" and event["state"] in UP:
                return
        record = self.record()
        if record.state in UP:
            return
        if record.state == "failed":
            link = f" at the link {record.link!r}" if record.link else ""
            further = record.next_step or f"see `logs {self.name}`"
            stopped_by = record.reason.removesuffix(f"; {further}")
            raise SpacegrayError(doing + link, stopped_by, further, link=record.link)
        hold.await_free(self.at, doing)
        raise SpacegrayError(doing, record.reason or "it was switched off", "start it again")

    def _give(self, doing: str, owner: Owner, record: Record, *, ours: bool) -> None:
        """Have `owner` unlock it; where that fails and the start is `ours`, switch it off again."""
        now = msgspec.convert({"needs": record.needs, "attempts": record.attempts}, Standing)

        def give(given: Given) -> Answer:
            return self.unlock(given.kind, given.descriptor, given.mode)

        try:
            unlock.satisfy(doing, owner, now, give)
        except (SpacegrayError, KeyboardInterrupt) as reason:
            locked_still = self.record().state == "locked"
            if locked_still and ours:
                self.stop(timeout_seconds=0)
            # Else somebody has unlocked or ended it meanwhile: what comes next says which.
            if locked_still or isinstance(reason, KeyboardInterrupt):
                raise

    def _chip(self, record: Record) -> dict[str, Any]:
        """What is known of the chip without starting it."""
        found = known.read(self.at)
        facts: dict[str, Any] = msgspec.to_builtins(found)
        facts["seal"] = facts["seal"] or self.spec.seal
        waits = record.needs if record.state in ALIVE else found.needs()
        return {**facts, "needs": waits}

    def await_off(self, timeout_seconds: float = SUPERVISOR_SECONDS) -> None:
        """Return once it is off; a supervisor that takes longer is killed, which is an error."""
        with locked(self.at.lock, timeout_seconds=timeout_seconds) as held:
            if held:
                return
        record = self.record()
        if record.supervisor is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid_of(record.supervisor), signal.SIGKILL)
        raise SpacegrayError(
            f"stopping {self.name}",
            f"it did not end in {timeout_seconds:.0f} s and was killed",
            f"see `logs {self.name}`",
        )


def _allocated(at: WorkstationPaths) -> int:
    """What the disk takes on the host, in bytes."""
    try:
        return sum(module.allocated_bytes for module in Modules(at.folder).found())
    except OSError:
        return 0
