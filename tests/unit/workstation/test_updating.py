"""Promise: an update leaves the machine as it was found, and says truly what came of it."""

import contextlib
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from spacegray import authenticode
from spacegray.errors import SpacegrayError
from spacegray.paths import Paths
from spacegray.progress import Silent
from spacegray.spec import Spec
from spacegray.workstation import create, hold, install, update
from spacegray.workstation.api import Workstation
from spacegray.workstation.state import Record
from spacegray.workstation.unlock import Given, Kind, Owner
from tests.support.systems import EPOCH, made

FIRMWARE = "f" * 64


class FakeMachine:
    """A workstation whose chip tries a new system at the next start, which comes up or not."""

    def __init__(self, home: Path) -> None:
        self.paths = Paths.current({"SPACEGRAY_HOME": str(home)})
        self.at = self.paths.workstation("pro")
        self.at.folder.mkdir(parents=True)
        self.name, self.spec, self.empty = "pro", Spec(), False
        self.system = made(home / "image", random.Random(1), epoch=EPOCH + 1)
        self.old = made(home / "old", random.Random(2))
        self.state, self.target = "off", "main"
        self.said: list[str] = []
        self.comes_up = True
        self.install_fails = False
        self.shown: dict[str, Any] = {
            "current": "a", "trying": False, "slots": {"a": entry(self.old), "b": None},
        }  # fmt: skip
        self.installed = create.Installed(
            ecid="0x1", edition="tiny", disk_bytes=self.spec.ssd_bytes
        )
        create._note(self.at, self.installed)

    def record(self) -> Record:
        record = Record(state=cast(Any, self.state))
        record.target = cast(Any, self.target)
        return record

    def stop(self) -> bool:
        self.said.append("stop")
        was_on, self.state = self.state != "off", "off"
        return was_on

    def start(self, *, on_event: Callable[[Any], None] = lambda _: None, **_: Any) -> None:
        self.said.append("start")
        self.state = "running"
        if self.shown["trying"]:
            self.shown["trying"] = False
            if self.comes_up:
                self.shown["current"] = "b"
            else:
                failed = {"kind": "link", "link": "system", "status": "failed", "detail": "no seal"}
                on_event(failed)

    def put(self, *words: Any, slot: str, tries: int, lay: str, **_: Any) -> install.System:
        assert self.state == "off"
        assert slot == "b"
        self.said.append(f"{lay}, tried" if tries else lay)
        if self.install_fails:
            raise SpacegrayError("installing", "the authority refused", "see")
        self.shown["slots"]["b"] = entry(self.system)
        self.shown["trying"] = bool(tries)
        return install.System(edition="tiny", root_hash="r", kernel="6", epoch=EPOCH + 1)

    def update(self, owner: Owner | None = None) -> update.Outcome:
        return update.update(
            self.paths, cast(Workstation, self), owner, mirror="http://m", progress=Silent()
        )

    def reinstall(self) -> bool:
        return update.reinstall(
            self.paths, cast(Workstation, self), None, mirror="http://m", progress=Silent()
        )


def entry(system: Any) -> dict[str, Any]:
    """What a chip shows of a slot."""
    return {
        "epoch": system.manifest.epoch,
        "firmware": FIRMWARE,
        "kernel": authenticode.digest(system.kernel.read_bytes()).hex(),
        "recovery_kernel": authenticode.digest(system.recovery.read_bytes()).hex(),
        "system": system.root_hash,
    }


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeMachine:
    found = FakeMachine(tmp_path)
    mailbox = SimpleNamespace(show=lambda: found.shown)

    @contextlib.contextmanager
    def chip(*_: Any, **__: Any) -> Iterator[Any]:
        yield SimpleNamespace(mailbox=mailbox)

    @contextlib.contextmanager
    def any_chip(*_: Any, **__: Any) -> Iterator[Any]:
        yield mailbox, found.state == "off"

    monkeypatch.setattr(hold, "chip", chip)
    monkeypatch.setattr(hold, "any_chip", any_chip)
    monkeypatch.setattr(hold, "needs", lambda _: [])
    monkeypatch.setattr(install, "install", found.put)
    monkeypatch.setattr(
        install, "forget", lambda _, slot, size: found.said.append(f"forget {slot}")
    )
    monkeypatch.setattr(hold, "held", lambda *_, **__: contextlib.nullcontext())
    monkeypatch.setattr(update, "build", lambda *_, **__: found.system)
    monkeypatch.setattr(update, "embedded", lambda _: contextlib.nullcontext())
    frozen = SimpleNamespace(sha256=FIRMWARE, close=lambda: None)
    monkeypatch.setattr(update, "freeze", lambda _: frozen)
    return found


@pytest.mark.parametrize("state", ["off", "running"])
def test_a_new_system_is_tried_and_kept(machine: FakeMachine, state: str):
    machine.state = state
    outcome = machine.update()
    assert (outcome.kind, outcome.before, outcome.epoch) == ("updated", EPOCH, EPOCH + 1)
    assert machine.state == state
    stopped = ["stop"] * (state == "running")
    assert machine.said == [*stopped, "slot, tried", "start", *(["stop"] * (state == "off"))]
    noted = create.installed(machine.at)
    assert noted is not None
    assert (noted.slot, noted.root_hash) == ("b", "r")


def test_what_is_current_is_left_alone(machine: FakeMachine):
    machine.state = "running"
    machine.shown["slots"]["a"] = entry(machine.system)
    assert machine.update().kind == "current"
    assert machine.said == []


@pytest.mark.parametrize("part", ["firmware", "kernel", "recovery_kernel", "system"])
def test_any_part_that_differs_is_an_update(machine: FakeMachine, part: str):
    machine.shown["slots"]["a"] = {**entry(machine.system), part: "0" * 64}
    assert machine.update().kind == "updated"


def test_one_that_does_not_come_up_is_told_with_its_reason(machine: FakeMachine):
    machine.state, machine.comes_up = "running", False
    outcome = machine.update()
    assert (outcome.kind, outcome.reason) == ("fell_back", "system: no seal")
    assert machine.state == "running"
    noted = create.installed(machine.at)
    assert noted is not None
    assert noted.slot == "a"


@pytest.mark.parametrize("state", ["off", "running"])
def test_where_nothing_can_be_installed_the_machine_is_as_it_was(machine: FakeMachine, state: str):
    machine.state, machine.install_fails = state, True
    with pytest.raises(SpacegrayError, match="the authority refused"):
        machine.update()
    assert machine.state == state
    assert machine.shown["trying"] is False


def test_a_running_machine_is_not_switched_off_for_nobody(machine: FakeMachine, monkeypatch: Any):
    """Its chip asks for a password at the next start, and there is none to be had."""
    machine.state = "running"
    monkeypatch.setattr(hold, "needs", lambda _: ["password"])
    with pytest.raises(SpacegrayError, match="nobody is there"):
        machine.update()
    assert (machine.state, machine.said) == ("running", [])


def test_the_firmware_password_is_asked_for_before_that_too(machine: FakeMachine):
    machine.state = "running"
    machine.shown["firmware_password"] = True
    asked: list[str] = []

    class Present:
        def give(self, _: str, kind: Kind, *__: Any) -> Given:
            asked.append(f"{kind} while {machine.state}")
            return Given(kind, os.open("/dev/null", os.O_RDONLY))

        def new(self, _: str, kind: Kind) -> Given:
            raise AssertionError(kind)

    assert machine.update(Present()).kind == "updated"
    assert asked == ["firmware_password while running"]


@pytest.mark.parametrize(
    ("state", "target"), [("recovery", "recovery"), ("locked", "main"), ("running", "external")]
)
def test_what_is_on_in_another_way_is_not_touched(machine: FakeMachine, state: str, target: str):
    machine.state, machine.target = state, target
    with pytest.raises(SpacegrayError, match="`stop pro` first"):
        machine.update()
    assert machine.said == []


def test_another_systems_disk_is_not_updated(machine: FakeMachine):
    create.note_empty(machine.at, machine.installed, empty=False, other=True)
    machine.installed = cast(create.Installed, create.installed(machine.at))
    with pytest.raises(SpacegrayError, match="another than ours"):
        machine.update()
    machine.empty = True
    with pytest.raises(SpacegrayError, match="its disk is empty"):
        machine.update()


def test_the_same_system_anew_is_in_use_at_once_and_the_damaged_one_forgotten(
    machine: FakeMachine,
):
    machine.shown["slots"]["a"] = entry(machine.system)
    assert machine.reinstall() is True
    assert machine.said == ["repair", "forget a"]
    noted = create.installed(machine.at)
    assert noted is not None
    assert (noted.slot, noted.root_hash) == ("b", "r")


def test_a_newer_one_that_never_came_up_here_is_tried_beside_the_old(machine: FakeMachine):
    """It may be one that an update gave up: it must not take the place of one that works."""
    assert machine.reinstall() is False
    assert machine.said == ["repair, tried"]
    noted = create.installed(machine.at)
    assert noted is not None
    assert noted.slot == "a"


def test_where_no_system_is_in_use_there_is_nothing_to_go_back_to(machine: FakeMachine):
    machine.shown["slots"] = {"a": None, "b": None}
    assert machine.reinstall() is True
