"""The one process that owns a running workstation.

It holds the workstation's lock while it lives, starts the chip and the machine as its
children, writes state and events, and serves the control socket. Its children die with it
(PDEATHSIG): there is never a machine without its supervisor.

Entry: `python -m spacegray.workstation.supervisor NAME [--accel kvm|tcg] [--target TARGET]
[--external FILE]`, detached by `api`; it reports through the state file and the event log only.
"""

import argparse
import asyncio
import contextlib
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from spacegray.chip import launch as chips
from spacegray.chip.client import ChipClient
from spacegray.chip.launch import ChipProcess
from spacegray.errors import SpacegrayError
from spacegray.files import locked, make_private
from spacegray.host import Host
from spacegray.links import TARGETS, Target, chain
from spacegray.machine import board as boards
from spacegray.machine import external
from spacegray.machine.accelerator import Accelerator, choose
from spacegray.paths import Paths
from spacegray.spec import Spec, load
from spacegray.workstation import (
    create,
    following,
    hold,
    known,
    life,
    under_way,
    unlock,
    ways_back,
)
from spacegray.workstation.board import clear
from spacegray.workstation.chain import next_step, usual_target
from spacegray.workstation.control import ControlServer, Reply
from spacegray.workstation.journal import Journal
from spacegray.workstation.start import Outcome, Start
from spacegray.workstation.streams import exit_status
from spacegray.workstation.telling import Telling
from spacegray.workstation.under_way import BoardExchangedError
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

    def __init__(
        self,
        paths: Paths,
        name: str,
        forced: str | None,
        *,
        target: Target = "main",
        disk: Path | None = None,
    ) -> None:
        """`target`: what the first start is for; `disk`: an external one."""
        self._paths = paths
        self._at = paths.workstation(name)
        self._forced = forced
        self._target = target
        self._disk = disk
        self._disk_number: int | None = None
        self._journal = Journal(self._at)
        self._start: Start | None = None
        self._chip: ChipProcess | None = None
        self._gate: asyncio.Future[Outcome | None] | None = None
        """While the chip is locked: how that ended, None for opened."""
        self._guard = asyncio.Lock()
        """One thing at a time is asked of the chip on behalf of others."""
        self._erased = False
        self._stop_asked = False
        """Asked to stop while there was neither a machine nor a locked chip."""

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
            with self._external_disk():
                try:
                    outcome = await self._with_chip(spec, board, accelerator)
                except BoardExchangedError:
                    outcome = await self._with_chip(spec, board, accelerator)
        except SpacegrayError as refused:
            outcome = self._failure(refused)
            self._journal.link(outcome.link or "chip", "failed", outcome.reason)
        finally:
            server.close()
            self._at.control.unlink(missing_ok=True)
        if self._erased and (left := clear(self._at)):
            self._journal.note(f"not erased: what the chip in {left[0]} has")
        # Only now, with the chip gone and its disk closed: `off` means that all is written.
        if outcome.ending == "off":
            self._journal.change("off", outcome.reason)
            return
        link = outcome.link or "chip"
        further = outcome.next_step or next_step(self._at.name, self._target, link)
        self._journal.change("failed", f"{outcome.reason}; {further}", link=link, next_step=further)

    def _failure(self, refused: SpacegrayError) -> Outcome:
        error = ways_back.explained(self._at, refused)
        return Outcome("failed", error.stopped_by, error.link or "chip", next_step=error.next_step)

    @contextlib.contextmanager
    def _external_disk(self) -> Iterator[None]:
        """The external disk, where there is one, ours alone from power-on to off."""
        if self._disk is None:
            yield
            return
        doing = f"starting {self._at.name} with {self._disk}"
        try:
            with external.opened(self._disk, doing) as self._disk_number:
                yield
        finally:
            self._disk_number = None

    async def _with_chip(
        self, spec: Spec, board: boards.Board, accelerator: Accelerator
    ) -> Outcome:
        hold.exchange_board(self._at)
        with (
            chips.launch(self._at, log=self._at.logs / "chip.log") as chip,
            chip.client() as mailbox,
        ):
            self._chip = chip
            telling = Telling(chip)
            outcome = Outcome("off", ERASED)
            try:
                outcome = await self._run_all(spec, board, accelerator, chip, mailbox, telling)
            except SpacegrayError:
                if not await self._was_erased():
                    raise
            finally:
                self._chip = None
                await telling.close()
            return Outcome("off", ERASED) if await self._was_erased() else outcome

    async def _run_all(
        self,
        spec: Spec,
        board: boards.Board,
        accelerator: Accelerator,
        chip: ChipProcess,
        mailbox: ChipClient,
        telling: Telling,
    ) -> Outcome:
        """One start after the other, for as long as there is to be another."""
        resets = 0
        while not self._stop_asked:
            given_up = await self._await_unlocked(chip, mailbox)
            if given_up is not None:
                return given_up
            if under_way.settle(self._at, mailbox):
                spec = load(self._at.spec)
                board = boards.scale(spec, Host.current(), accelerator)
                self._journal.serviced(board.summary())
            known.note(self._at, mailbox.show())
            provision = self._at.provision
            self._start = Start(
                self._at,
                spec,
                chip,
                mailbox,
                accelerator,
                self._journal,
                telling,
                target=self._target,
                disk=self._disk_number,
                provision=provision.read_bytes() if provision.exists() else None,
            )
            outcome = await self._run_one(board, chip, mailbox, telling)
            if self._erased:
                return outcome
            if outcome.ending == "reset":
                resets = 0 if self._start.up else resets + 1
                if resets >= RESETS_WITHOUT_LOGIN_LIMIT:
                    reason = f"it restarted {resets} times without coming up"
                    return Outcome("failed", reason, chain(self._target)[-1])
            if self._start.up or not following.fall_back(outcome, self._journal, mailbox):
                if outcome.ending not in ("reset", "reinstall"):
                    return outcome
                self._journal.note(f"{outcome.reason}: a new start, through the chip")
                if self._target in ("recovery", "external"):
                    self._target = usual_target(create.installed(self._at))
            mailbox.close_disk()
            self._begin(board, accelerator)
            if outcome.ending == "reinstall":
                await following.reinstall(self._paths, self._at, spec, self._journal, mailbox)
        return Outcome("off", "switched off between two starts")

    async def _run_one(
        self, board: boards.Board, chip: ChipProcess, mailbox: ChipClient, telling: Telling
    ) -> Outcome:
        """One start, from power-on to off; what was seen is written down, and the chip knows it."""
        assert self._start is not None
        try:
            outcome = await self._start.run(board)
        except SpacegrayError as refused:
            # Before there was a machine. Of a trial the chip may have an older system to start.
            if chip.process.poll() is not None or not following.tried(self._journal, mailbox):
                raise
            outcome = self._failure(refused)
            self._journal.link(outcome.link or "chip", "failed", outcome.reason)
            return outcome
        if outcome.refused:
            outcome = following.examined(outcome, self._at, self._journal, mailbox)
            self._journal.link(outcome.link or "kernel", "failed", outcome.reason)
            telling.report(outcome.link or "kernel", "failed", outcome.reason)
        await telling.settle()
        if chip.process.poll() is None:
            before = known.read(self._at).life
            with contextlib.suppress(SpacegrayError):
                known.note(self._at, mailbox.show())
            # By its owner, in recovery: what is left of the disk goes, and nothing is started.
            if before != "erased" and self._target == "recovery":
                self._erased = following.erased(self._at, mailbox)
        return outcome

    # While the chip waits for its owner

    async def _await_unlocked(self, chip: ChipProcess, mailbox: ChipClient) -> Outcome | None:
        """Wait until the chip has all that it needs; returns the outcome where it comes to none."""
        standing = unlock.standing(mailbox, unlock.way_to(self._target))
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

            way = unlock.way_to(self._target)

            def give() -> Answer:
                with chip.client() as mailbox:
                    return unlock.unlock(mailbox, kind, descriptors[0], mode, way)

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
        self._start = None
        self._journal.begin(
            accelerator=accelerator.name,
            reason=accelerator.reason,
            given=board.summary(),
            target=self._target,
            external=None if self._disk is None else str(self._disk),
        )

    async def _answer(self, request: dict[str, Any], descriptors: Sequence[int]) -> Reply:
        match request.get("op"):
            case "stop":
                await self._stop(float(request.get("timeout_seconds", STOP_SECONDS)))
                return {"ok": True}, []
            case "screen" if self._start is not None:
                screen = await self._start.screen()
                return {"ok": True}, [screen.detach()]
            case "serial" if self._start is not None:
                return {"ok": True}, [self._start.serial().detach()]
            case "size" if self._start is not None:
                await self._start.guest.resize(request.get("rows"), request.get("columns"))
                return {"ok": True}, []
            case "do" if self._start is not None:
                answer = await self._start.guest.do(str(request.get("words", "")))
                return {"ok": True, "answer": answer}, []
            case "unlock":
                judged = await self._unlock(request, descriptors)
                return {"ok": True, "answer": msgspec.to_builtins(judged)}, []
            case "erase":
                erasure = await self._erase()
                return {"ok": True, "erasure": msgspec.to_builtins(erasure)}, []
            case _:
                raise SpacegrayError("asking the supervisor", "it cannot do that now", "try again")

    async def _stop(self, timeout_seconds: float) -> None:
        if self._gate is not None and not self._gate.done():
            self._gate.set_result(Outcome("off", "switched off while it was locked"))
        elif self._start is not None:
            # It can be switched off whatever became of the disk that this is written to.
            with contextlib.suppress(SpacegrayError, OSError):
                self._journal.change("stopping", "its owner asked for it")
            await self._start.stop(timeout_seconds)
        else:
            self._stop_asked = True

    def _told_to_end(self) -> None:
        self._ending = asyncio.get_running_loop().create_task(self._stop(STOP_SECONDS))


def main() -> int:
    """Run the supervisor of one workstation."""
    parser = argparse.ArgumentParser(prog="spacegray-supervisor")
    parser.add_argument("name")
    parser.add_argument("--accel", choices=("kvm", "tcg"))
    parser.add_argument("--target", choices=TARGETS, default="main")
    parser.add_argument("--external", type=Path)
    arguments = parser.parse_args()
    paths = Paths.current()
    at = paths.workstation(arguments.name)
    make_private(at.run)
    with locked(at.lock, timeout_seconds=LOCK_SECONDS) as held:
        if not held:
            print("another supervisor is at work", file=sys.stderr)
            return 1
        supervisor = Supervisor(
            paths,
            arguments.name,
            arguments.accel,
            target=arguments.target,
            disk=arguments.external,
        )
        asyncio.run(supervisor.run())
    return 0


if __name__ == "__main__":
    sys.exit(main())
