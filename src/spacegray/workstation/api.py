"""The workstation as the faces use it: the command line and the console both."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from spacegray import process, spec
from spacegray.chip.modules import Modules
from spacegray.errors import SpacegrayError, UsageError
from spacegray.files import locked, make_private
from spacegray.machine.accelerator import choose
from spacegray.paths import Paths, WorkstationPaths
from spacegray.progress import Progress, Silent
from spacegray.workstation import control, create, events, hold, state
from spacegray.workstation.events import Event
from spacegray.workstation.state import ALIVE, Record

START_SECONDS = 600.0
STOP_SECONDS = 90.0
"""How long a guest may take to shut down before its power is cut."""
SUPERVISOR_SECONDS = 15.0
"""How long a supervisor may take to end beyond what its guest was given."""


class Workstation:
    """One existing workstation."""

    def __init__(self, paths: Paths, at: WorkstationPaths, installed: create.Installed) -> None:
        self._paths = paths
        self.at = at
        self.installed = installed
        self.spec = spec.load(at.spec)

    @property
    def name(self) -> str:
        return self.at.name

    @classmethod
    def find(cls, paths: Paths, name: str) -> "Workstation":
        """The workstation `name`; raises UsageError when there is none."""
        at = paths.workstation(name)
        installed = create.installed(at)
        if installed is None:
            others = ", ".join(cls.names(paths)) or "none yet"
            raise UsageError(
                f"looking for the workstation {name!r}",
                f"there is none of that name (there are: {others})",
                f"make it with `up {name}` or `create {name}`",
            )
        return cls(paths, at, installed)

    @classmethod
    def names(cls, paths: Paths) -> list[str]:
        """The names of all complete workstations, sorted."""
        return sorted(path.parent.name for path in paths.workstations.glob("*/installed.json"))

    @classmethod
    def all(cls, paths: Paths) -> list["Workstation"]:
        """All complete workstations, sorted by name."""
        return [cls.find(paths, name) for name in cls.names(paths)]

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
            "accelerator": record.accelerator,
            "accelerator_reason": record.accelerator_reason,
            "secure_boot": record.secure_boot,
            "kernel": record.kernel,
            "ecid": self.installed.ecid,
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
        accelerator: str | None = None,
        timeout_seconds: float = START_SECONDS,
        progress: Progress | None = None,
        on_event: Callable[[Event], None] = lambda event: None,
    ) -> None:
        """Power on and wait until its owner can log in; returns at once where it runs.

        Raises SpacegrayError that names the link that broke.
        """
        if self.record().state == "running":
            return
        doing = f"starting {self.name}"
        if self.installed.empty:
            raise SpacegrayError(
                doing,
                "its disk is empty (erased, or an import was not finished)",
                f"`import {self.name} FILE` brings a copy back, or delete it and create it again",
                link="disk",
            )
        if self.record().state not in ALIVE:
            hold.await_free(self.at, doing)
        chosen = choose(self._paths, accelerator)
        (progress or Silent()).note(f"accelerator: {chosen.name} ({chosen.reason})")
        make_private(self.at.run)
        beginning = events.size(self.at.events)
        supervisor = None
        if self.record().state not in ALIVE:
            supervisor = self._launch(accelerator)
        self._await_running(beginning, supervisor, timeout_seconds, on_event)

    def stop(self, *, timeout_seconds: float = STOP_SECONDS) -> bool:
        """Shut down and wait until it is off; returns False where it was not on."""
        if self.record().state not in ALIVE:
            return False
        with contextlib.suppress(SpacegrayError):
            control.ask(self.at, {"op": "stop", "timeout_seconds": timeout_seconds})
        self._await_end(timeout_seconds + SUPERVISOR_SECONDS)
        return True

    def restart(
        self,
        *,
        accelerator: str | None = None,
        timeout_seconds: float = START_SECONDS,
        progress: Progress | None = None,
        on_event: Callable[[Event], None] = lambda event: None,
    ) -> None:
        """Shut down, then power on."""
        self.stop()
        self.start(
            accelerator=accelerator,
            timeout_seconds=timeout_seconds,
            progress=progress,
            on_event=on_event,
        )

    def delete(self) -> None:
        """Switch it off and remove it, its disk and its chip."""
        self.stop(timeout_seconds=0)
        hold.await_free(self.at, f"deleting {self.name}")
        with locked(self.at.lock, timeout_seconds=SUPERVISOR_SECONDS) as held:
            if not held:
                raise SpacegrayError(
                    f"deleting {self.name}", "somebody else is at work on it", "try again"
                )
            create.remove(self.at)

    def screen_socket(self) -> socket.socket:
        """A new connection to its screen, speaking RFB (RFC 6143) without authentication."""
        _, descriptors = control.ask(self.at, {"op": "screen"})
        if len(descriptors) != 1:
            raise SpacegrayError(f"opening the screen of {self.name}", "none came", "try again")
        return socket.socket(fileno=descriptors[0])

    # How

    def _launch(self, accelerator: str | None) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "spacegray.workstation.supervisor", self.name]
        if accelerator:
            command += ["--accel", accelerator]
        make_private(self.at.logs)
        with (self.at.logs / "supervisor.log").open("wb") as log:
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
    ) -> None:
        deadline = time.monotonic() + timeout_seconds
        doing = f"starting {self.name}"

        def over() -> bool:
            if time.monotonic() > deadline:
                raise SpacegrayError(
                    doing,
                    f"it was not up after {timeout_seconds:.0f} s",
                    f"it goes on starting: see `show {self.name}`, or give --timeout",
                )
            ended = supervisor is not None and supervisor.poll() is not None
            return self.record().state not in ALIVE and (supervisor is None or ended)

        for event in events.follow(self.at.events, start=beginning, until=over):
            on_event(event)
            if event["kind"] == "state" and event["state"] == "running":
                return
        record = self.record()
        if record.state == "running":
            return
        if record.state == "failed":
            link = f" at the link {record.link!r}" if record.link else ""
            raise SpacegrayError(
                doing + link, record.reason, f"see `logs {self.name}`", link=record.link
            )
        hold.await_free(self.at, doing)
        raise SpacegrayError(doing, record.reason or "it was switched off", "start it again")

    def _await_end(self, timeout_seconds: float) -> None:
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
