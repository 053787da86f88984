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
import time
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from spacegray.chip import launch as chips
from spacegray.chip.client import ChipClient
from spacegray.chip.launch import ChipProcess
from spacegray.errors import SpacegrayError
from spacegray.files import locked, make_private
from spacegray.host import Host
from spacegray.machine import board as boards
from spacegray.machine.accelerator import Accelerator, choose
from spacegray.paths import Paths
from spacegray.spec import Spec, load
from spacegray.workstation import create, known, life, unlock, ways_back
from spacegray.workstation.control import ControlServer, Reply
from spacegray.workstation.journal import Journal
from spacegray.workstation.start import Outcome, Start
from spacegray.workstation.streams import exit_status
from spacegray.workstation.unlock import Answer, Standing

STOP_SECONDS = 60.0
"""How long a guest may take to shut down when the supervisor itself is told to end."""
LOCK_SECONDS = 2.0
"""How long the supervisor before this one may take to end after it wrote `off`."""
RESETS_WITHOUT_LOGIN_LIMIT = 5
"""A guest that resets this often without ever coming up is not started again."""
LOCKED_SECONDS: Final = 600.0
"""How long the chip waits for what it needs, before the machine is switched off again."""
ERASED: Final = "erased"


class Supervisor:
    """Drives one workstation from power-on to off, through as many resets as the guest asks."""

    def __init__(self, paths: Paths, name: str, forced: str | None) -> None:
        self._paths = paths
        self._at = paths.workstation(name)
        self._forced = forced
        self._journal = Journal(self._at)
        self._start: Start | None = None
        self._chip: ChipProcess | None = None
        self._gate: asyncio.Future[Outcome | None] | None = None
        """While the chip is locked: how that ended, None for opened."""
        self._guard = asyncio.Lock()
        """One thing at a time is asked of the chip on behalf of others."""
        self._erased = False

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
        except SpacegrayError as refused:
            error = ways_back.explained(self._at, refused)
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
            self._chip = chip
            outcome = Outcome("off", ERASED)
            try:
                outcome = await self._await_unlocked(chip, mailbox) or await self._run_all(
                    spec, board, accelerator, chip, mailbox
                )
            except SpacegrayError:
                if not await self._was_erased():
                    raise
            finally:
                self._chip = None
            return Outcome("off", ERASED) if await self._was_erased() else outcome

    async def _run_all(
        self,
        spec: Spec,
        board: boards.Board,
        accelerator: Accelerator,
        chip: ChipProcess,
        mailbox: ChipClient,
    ) -> Outcome:
        """One start after the other, for as long as the guest only resets."""
        known.note(self._at, mailbox.show())
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
            if outcome.ending != "reset" or self._erased:
                return outcome
            self._journal.note(f"{outcome.reason}: a new start, through the chip")
            mailbox.close_disk()
            self._begin(board, accelerator)

    # While the chip waits for its owner

    async def _await_unlocked(self, chip: ChipProcess, mailbox: ChipClient) -> Outcome | None:
        """Wait until the chip has all that it needs; returns the outcome where it comes to none."""
        standing = unlock.standing(mailbox)
        if not standing.needs:
            return None
        self._gate = asyncio.get_running_loop().create_future()
        ended = asyncio.ensure_future(exit_status(chip.process))
        try:
            self._journal.lock(standing, time.time() + LOCKED_SECONDS)
            await asyncio.wait(
                (self._gate, ended), timeout=LOCKED_SECONDS, return_when=asyncio.FIRST_COMPLETED
            )
            if self._gate.done():
                outcome = self._gate.result()
            elif ended.done():
                raise chip.failure() or SpacegrayError(
                    f"starting {self._at.name}", "the chip was stopped", "see `logs`", link="chip"
                )
            else:
                reason = f"{self._journal.record.reason}, which did not come in "
                outcome = Outcome("off", f"{reason}{LOCKED_SECONDS / 60:.0f} minutes")
        finally:
            ended.cancel()
            self._gate = None
        return outcome

    async def _unlock(self, request: dict[str, Any], descriptors: Sequence[int]) -> Answer:
        """Give the chip what came; it is the chip that judges and counts."""
        kind, mode = request.get("kind"), request.get("mode", "normal")
        doing = f"unlocking {self._at.name}"
        if kind not in unlock.KINDS or mode not in unlock.MODES or len(descriptors) != 1:
            raise SpacegrayError(doing, "no such secret", "give one of those it waits for")
        async with self._guard:
            gate, chip = self._gate, self._chip
            if gate is None or gate.done() or chip is None:
                raise SpacegrayError(doing, "it is not locked", f"see `show {self._at.name}`")

            def give() -> Answer:
                with chip.client() as mailbox:
                    return unlock.unlock(mailbox, kind, descriptors[0], mode)

            answer = await asyncio.to_thread(give)
            self._note_answer(gate, answer)
            return answer

    def _note_answer(self, gate: "asyncio.Future[Outcome | None]", answer: Answer) -> None:
        if not answer.right:
            self._journal.note(f"not unlocked: {answer.stopped_by}")
        if gate.done():
            return
        standing: Standing = answer.standing
        if standing.needs:
            until = self._journal.record.locked_until or time.time()
            self._journal.lock(standing, until)
        else:
            # At once, and not when the waiting ends: who got the answer may look at the state.
            self._journal.unlock()
            gate.set_result(None)

    # The end of all data

    async def _was_erased(self) -> bool:
        """Whether an erasing was why it ended; one that is under way is awaited."""
        async with self._guard:
            return self._erased

    async def _erase(self) -> life.Erasure:
        """Have the chip destroy every key to the disk, then cut the power."""
        doing = f"erasing {self._at.name}"
        async with self._guard:
            chip, installed = self._chip, create.installed(self._at)
            if chip is None or installed is None:
                raise SpacegrayError(doing, "its chip is not open now", "try again")

            def erase() -> life.Erasure:
                with chip.client() as mailbox:
                    return life.erase_with(self._at, installed, mailbox)

            erasure = await asyncio.to_thread(erase)
            self._erased = True
            if self._start is not None:
                self._start.cut(ERASED)
            if self._gate is not None and not self._gate.done():
                self._gate.set_result(Outcome("off", ERASED))
            return erasure

    def _begin(self, board: boards.Board, accelerator: Accelerator) -> None:
        self._journal.begin(
            accelerator=accelerator.name, reason=accelerator.reason, given=board.summary()
        )

    async def _answer(self, request: dict[str, Any], descriptors: Sequence[int]) -> Reply:
        match request.get("op"):
            case "stop":
                await self._stop(float(request.get("timeout_seconds", STOP_SECONDS)))
                return {"ok": True}, []
            case "screen" if self._start is not None:
                screen = await self._start.screen()
                return {"ok": True}, [screen.detach()]
            case "unlock":
                answer = await self._unlock(request, descriptors)
                return {"ok": True, "answer": msgspec.to_builtins(answer)}, []
            case "erase":
                erasure = await self._erase()
                return {"ok": True, "erasure": msgspec.to_builtins(erasure)}, []
            case _:
                raise SpacegrayError("asking the supervisor", "it cannot do that now", "try again")

    async def _stop(self, timeout_seconds: float) -> None:
        if self._gate is not None and not self._gate.done():
            self._gate.set_result(Outcome("off", "switched off while it was locked"))
        elif self._start is not None:
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
