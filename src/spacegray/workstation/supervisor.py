"""The one process that owns a running workstation.

It holds the workstation's lock while it lives, starts the chip and the machine as its
children, writes state and events, and serves the control socket. Its children die with it
(PDEATHSIG): there is never a machine without its supervisor.

Entry: `python -m spacegray.workstation.supervisor NAME [--accel kvm|tcg]`, detached by
`launch`; it reports through the state file and the event log only.
"""

import argparse
import asyncio
import signal
import sys
from typing import Any

from spacegray.chip import launch as chips
from spacegray.errors import SpacegrayError
from spacegray.files import locked, make_private
from spacegray.host import Host
from spacegray.machine import board as boards
from spacegray.machine.accelerator import Accelerator, choose
from spacegray.paths import Paths
from spacegray.spec import Spec, load
from spacegray.workstation.control import ControlServer, Reply
from spacegray.workstation.journal import Journal
from spacegray.workstation.start import Outcome, Start

STOP_SECONDS = 60.0
"""How long a guest may take to shut down when the supervisor itself is told to end."""
LOCK_SECONDS = 2.0
"""How long the supervisor before this one may take to end after it wrote `off`."""
RESETS_WITHOUT_LOGIN_LIMIT = 5
"""A guest that resets this often without ever coming up is not started again."""


class Supervisor:
    """Drives one workstation from power-on to off, through as many resets as the guest asks."""

    def __init__(self, paths: Paths, name: str, forced: str | None) -> None:
        self._paths = paths
        self._at = paths.workstation(name)
        self._forced = forced
        self._journal = Journal(self._at)
        self._start: Start | None = None

    async def run(self) -> None:
        """Power on; returns when the machine is off or failed, which the journal then says."""
        spec = load(self._at.spec)
        accelerator = choose(self._paths, self._forced)
        board = boards.scale(spec, Host.current(), accelerator)
        self._begin(board, accelerator)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._told_to_end)
        server = ControlServer(self._at, self._answer)
        try:
            outcome = await self._with_chip(spec, board, accelerator)
        except SpacegrayError as error:
            link = error.link or "chip"
            self._journal.link(link, "failed", error.stopped_by)
            outcome = Outcome("failed", f"{error.stopped_by}; {error.next_step}", link)
        finally:
            server.close()
            self._at.control.unlink(missing_ok=True)
        # Only now, with the chip gone and its disk closed: `off` means that all is written.
        self._journal.change(
            "off" if outcome.ending == "off" else "failed", outcome.reason, link=outcome.link
        )

    async def _with_chip(
        self, spec: Spec, board: boards.Board, accelerator: Accelerator
    ) -> Outcome:
        with (
            chips.launch(self._at, log=self._at.logs / "chip.log") as chip,
            chip.client() as mailbox,
        ):
            resets = 0
            while True:
                provision = self._at.provision
                self._start = Start(
                    self._at,
                    spec,
                    chip,
                    mailbox,
                    accelerator,
                    self._journal,
                    provision=provision.read_bytes() if provision.exists() else None,
                )
                outcome = await self._start.run(board)
                resets = 0 if self._journal.record.state == "running" else resets + 1
                if outcome.ending == "reset" and resets >= RESETS_WITHOUT_LOGIN_LIMIT:
                    reason = f"it restarted {resets} times without coming up"
                    return Outcome("failed", reason, "login")
                if outcome.ending != "reset":
                    return outcome
                self._journal.note(f"{outcome.reason}: a new start, through the chip")
                mailbox.close_disk()
                self._begin(board, accelerator)

    def _begin(self, board: boards.Board, accelerator: Accelerator) -> None:
        self._journal.begin(
            accelerator=accelerator.name, reason=accelerator.reason, given=board.summary()
        )

    async def _answer(self, request: dict[str, Any]) -> Reply:
        match request.get("op"):
            case "stop":
                await self._stop(float(request.get("timeout_seconds", STOP_SECONDS)))
                return {"ok": True}, []
            case "screen" if self._start is not None:
                screen = await self._start.screen()
                return {"ok": True}, [screen.detach()]
            case _:
                raise SpacegrayError("asking the supervisor", "it cannot do that now", "try again")

    async def _stop(self, timeout_seconds: float) -> None:
        if self._start is not None:
            self._journal.change("stopping", "its owner asked for it")
            await self._start.stop(timeout_seconds)

    def _told_to_end(self) -> None:
        self._ending = asyncio.get_running_loop().create_task(self._stop(STOP_SECONDS))


def main() -> int:
    """Run the supervisor of one workstation."""
    parser = argparse.ArgumentParser(prog="spacegray-supervisor")
    parser.add_argument("name")
    parser.add_argument("--accel", choices=("kvm", "tcg"))
    arguments = parser.parse_args()
    paths = Paths.current()
    at = paths.workstation(arguments.name)
    make_private(at.run)
    with locked(at.lock, timeout_seconds=LOCK_SECONDS) as held:
        if not held:
            print("another supervisor is at work", file=sys.stderr)
            return 1
        asyncio.run(Supervisor(paths, arguments.name, arguments.accel).run())
    return 0


if __name__ == "__main__":
    sys.exit(main())
