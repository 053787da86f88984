"""One start after the other: what comes after a reset, recovery, a trial that failed, a refusal."""

import asyncio
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from spacegray.chip.client import ChipClient
from spacegray.chip.launch import ChipProcess
from spacegray.errors import SpacegrayError
from spacegray.links import Target
from spacegray.machine import board as boards
from spacegray.machine.accelerator import Accelerator
from spacegray.paths import Paths
from spacegray.spec import Spec
from spacegray.workstation import create, examine, life, supervisor, update
from spacegray.workstation.start import Outcome, Start
from spacegray.workstation.supervisor import Supervisor
from spacegray.workstation.telling import Telling

GRACE_SECONDS = 10
OFF = Outcome("off", "shut down")
RESET = Outcome("reset", "the guest asked for a restart")


class Alive:
    """A chip's process that runs."""

    def poll(self) -> int | None:
        return None


@dataclass
class FakeChip:
    """A chip with a new system to try, or not; and what it was told."""

    trying: bool = False
    needs: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    life: str = "in use"
    process: Alive = field(default_factory=Alive)

    def show(self) -> dict[str, Any]:
        return {"state": "sealed", "needs": self.needs, "trying": self.trying, "life": self.life}

    def close_disk(self) -> None:
        self.told.append("close_disk")

    def give_up(self) -> None:
        self.told.append("give_up")
        self.trying = False

    def report(self, link: str, status: str, detail: str) -> None:
        self.told.append(f"{link} {status}: {detail}")

    async def settle(self) -> None:
        pass


@dataclass
class Step:
    """One start: how it ends, and whether it came up before."""

    ends: Outcome | SpacegrayError
    up: bool = True


class Line:
    """A supervisor whose starts go by a plan."""

    def __init__(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        paths = Paths.current({"SPACEGRAY_HOME": str(home)})
        self.at = paths.workstation("pro")
        for folder in (self.at.folder, self.at.state_folder, self.at.run):
            folder.mkdir(parents=True)
        self.installed = create.Installed(ecid="0x1", edition="tiny", disk_bytes=1)
        create.note_empty(self.at, self.installed, empty=False)
        self.chip = FakeChip()
        self.paths = paths
        self.started: list[tuple[Target, int | None]] = []
        self.plan: list[Step] = []
        monkeypatch.setattr(supervisor, "Start", self._start)

    def _start(self, *_: Any, target: Target, disk: int | None, **__: Any) -> Any:
        self.started.append((target, disk))
        step, line = self.plan.pop(0), self

        class FakeStart:
            up = False

            async def run(self, _: Any) -> Outcome:
                if isinstance(step.ends, SpacegrayError):
                    raise step.ends
                self.up = step.up
                if step.up:
                    line.supervisor._journal.change("running")
                return step.ends

        return FakeStart()

    def run(self, *plan: Step, target: Target = "main") -> Outcome:
        """Go by this plan; returns how it ended."""
        self.plan = list(plan)
        self.supervisor = Supervisor(self.paths, "pro", None, target=target)
        board = boards.Board(Accelerator("tcg", "", 10.0), 1, 512, "", "vega-56", 8)
        mailbox = cast(ChipClient, self.chip)

        async def inside() -> Outcome:
            self.supervisor._begin(board, board.accelerator)
            return await asyncio.wait_for(
                self.supervisor._run_all(
                    Spec(),
                    board,
                    board.accelerator,
                    cast(ChipProcess, self.chip),
                    mailbox,
                    cast(Telling, self.chip),
                ),
                GRACE_SECONDS,
            )

        outcome = asyncio.run(inside())
        assert not self.plan
        return outcome

    @property
    def notes(self) -> str:
        return self.at.events.read_text()

    @property
    def targets(self) -> list[Target]:
        return [target for target, _ in self.started]


@pytest.fixture
def line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Line:
    return Line(tmp_path, monkeypatch)


def test_a_reset_is_a_new_start_of_the_same(line: Line):
    assert line.run(Step(RESET), Step(OFF)) == OFF
    assert line.targets == ["main", "main"]
    assert line.chip.told == ["close_disk"]
    assert line.supervisor._journal.record.boot == 2


@pytest.mark.parametrize("target", ["recovery", "external"])
def test_after_recovery_and_an_external_disk_comes_the_usual(line: Line, target: Target):
    line.run(Step(RESET), Step(OFF), target=target)
    assert line.targets == [target, "main"]


def test_the_usual_may_be_another_system(line: Line):
    other = create.Installed(ecid="0x1", edition="tiny", disk_bytes=1)
    create.note_empty(line.at, other, empty=False, other=True)
    line.run(Step(RESET), Step(OFF), target="recovery")
    assert line.targets == ["recovery", "other"]


def test_resets_without_end_are_not_followed(line: Line):
    steps = [Step(RESET, up=False) for _ in range(supervisor.RESETS_WITHOUT_LOGIN_LIMIT)]
    assert line.run(*steps).ending == "failed"


@pytest.mark.parametrize(
    "ends",
    [
        Outcome("failed", "it panicked", "system"),
        Outcome("failed", "nothing was heard", "login"),
        SpacegrayError("preparing a start", "the firmware was changed", "restore", link="firmware"),
        RESET,
    ],
)
def test_a_trial_that_fails_is_given_up_and_the_old_one_starts_at_once(
    line: Line, ends: Outcome | SpacegrayError
):
    line.chip.trying = True
    assert line.run(Step(ends, up=False), Step(OFF)) == OFF
    assert line.targets == ["main", "main"]
    assert line.chip.told[-2:] == ["give_up", "close_disk"]
    assert "the new system did not come up" in line.notes


@pytest.mark.parametrize("link", ["chip", "disk", "machine"])
def test_a_trial_is_not_given_up_for_what_is_not_its_fault(line: Line, link: str):
    line.chip.trying = True
    ended = Outcome("failed", "QEMU was killed", link)
    assert line.run(Step(ended, up=False)) == ended
    assert "give_up" not in line.chip.told


@pytest.mark.parametrize("ends", [Outcome("failed", "it panicked", "login"), OFF, RESET])
def test_what_came_up_once_is_not_given_up(line: Line, ends: Outcome):
    line.chip.trying = True
    line.run(Step(ends), *([Step(OFF)] if ends is RESET else []))
    assert "give_up" not in line.chip.told


def test_a_failure_without_a_trial_is_the_end(line: Line):
    ended = Outcome("failed", "it panicked", "system")
    assert line.run(Step(ended, up=False)) == ended
    with pytest.raises(SpacegrayError, match="no room"):
        line.run(Step(SpacegrayError("starting", "no room", "make some", link="machine")))


def test_a_refused_kernel_is_looked_at_and_told(line: Line, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(examine, "kernel", lambda *_: "expected SHA-256 aa, found bb")
    refused = Outcome("failed", "Secure Boot refused it", "kernel", refused=True)
    outcome = line.run(Step(refused, up=False))
    assert outcome.reason == "Secure Boot refused it: expected SHA-256 aa, found bb"
    assert line.chip.told == ["close_disk", f"kernel failed: {outcome.reason}"]
    (link,) = line.supervisor._journal.record.links
    assert (link["link"], link["detail"]) == ("kernel", outcome.reason)


def wish(line: Line, monkeypatch: pytest.MonkeyPatch, act: Callable[..., object]) -> None:
    """Recovery wants the system reinstalled, which is `act` here."""
    monkeypatch.setattr(update, "reinstall_with", act)
    wanted = Outcome("reinstall", "recovery asked to have the system reinstalled")
    assert line.run(Step(wanted), Step(OFF), target="recovery") == OFF
    assert line.targets == ["recovery", "main"]


@pytest.mark.parametrize(
    ("same", "says"),
    [(True, "the system was reinstalled"), (False, "a newer system is in place; trying it")],
)
def test_recovery_has_the_system_reinstalled_with_the_chip_at_hand(
    line: Line, monkeypatch: pytest.MonkeyPatch, same: bool, says: str
):
    done: list[Any] = []

    def act(paths: Paths, at: Any, spec: Spec, mailbox: Any, progress: Any) -> bool:
        progress.note("writing it")
        done.append((paths, at, mailbox))
        return same

    wish(line, monkeypatch, act)
    assert done == [(line.paths, line.at, line.chip)]
    assert "writing it" in line.notes
    assert says in line.notes


def test_a_stop_while_it_is_reinstalled_is_heard(line: Line, monkeypatch: pytest.MonkeyPatch):
    def act(*_: Any) -> None:
        asyncio.run(line.supervisor._stop(0))

    monkeypatch.setattr(update, "reinstall_with", act)
    wanted = Outcome("reinstall", "recovery asked to have the system reinstalled")
    assert line.run(Step(wanted), target="recovery").reason == "switched off between two starts"
    assert line.targets == ["recovery"]


def test_a_disk_that_is_locked_is_not_written_to(line: Line, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(update, "reinstall_with", lambda *_: pytest.fail("it was"))
    line.chip.needs = ["password"]

    def opened(*_: Any) -> None:
        line.chip.needs = []

    monkeypatch.setattr(supervisor.Supervisor, "_await_unlocked", waits(opened))
    wanted = Outcome("reinstall", "recovery asked to have the system reinstalled")
    assert line.run(Step(wanted), Step(OFF), target="recovery") == OFF
    assert "its disk is locked" in line.notes


def waits(then: Callable[[], None]) -> Callable[..., Any]:
    """A waiting for the owner that the second time comes to something."""
    calls: list[None] = []

    async def wait(*_: Any) -> None:
        calls.append(None)
        if len(calls) > 1:
            then()

    return wait


def test_what_recovery_erased_is_gone_and_not_started_again(
    line: Line, monkeypatch: pytest.MonkeyPatch
):
    line.chip.life = "erased"
    gone: list[Any] = []
    monkeypatch.setattr(life, "erase_with", lambda *given: gone.append(given[0]))
    assert line.run(Step(RESET), target="recovery") == RESET
    assert (gone, line.supervisor._erased) == ([line.at], True)


def test_what_cannot_be_reinstalled_starts_as_it_is(line: Line, monkeypatch: pytest.MonkeyPatch):
    def act(*_: Any) -> None:
        raise SpacegrayError("building", "no mirror", "go online")

    wish(line, monkeypatch, act)
    assert "building: no mirror; go online" in line.notes


def test_it_is_switched_off_where_nothing_can_be_written_down(line: Line):
    """Its folder is gone, or the disk is full: the machine must not run on for that."""
    stopped: list[float] = []

    class Started:
        async def stop(self, timeout_seconds: float) -> None:
            stopped.append(timeout_seconds)

    line.run(Step(OFF))
    line.supervisor._start = cast(Start, Started())
    shutil.rmtree(line.at.folder)
    asyncio.run(line.supervisor._stop(5.0))
    assert stopped == [5.0]
