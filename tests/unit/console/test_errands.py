"""Guards: one errand per workstation at a time; only a stop overtakes; each end is told."""

import threading
import time
from collections.abc import Callable

import pytest

from spacegray.console.errands import Errands
from spacegray.console.machines import Verb
from spacegray.errors import SpacegrayError
from tests.support.console import FakeMachine

WAIT_SECONDS = 5.0


class SlowMachine(FakeMachine):
    """Acts until it is let go."""

    def __init__(self, folder) -> None:
        super().__init__("pro", folder)
        self.let_go = {"start": threading.Event(), "stop": threading.Event()}

    def act(self, verb: Verb) -> None:
        assert self.let_go[verb].wait(WAIT_SECONDS)
        super().act(verb)


@pytest.fixture
def machine(tmp_path) -> SlowMachine:
    return SlowMachine(tmp_path)


def wait_for(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_an_errand_is_under_way_then_done(machine):
    errands = Errands()
    assert errands.latest("pro") is None
    errands.begin(machine, "start")
    assert errands.latest("pro") == {"verb": "start", "done": False, "error": None}
    assert errands.busy()
    machine.let_go["start"].set()
    wait_for(lambda: not errands.busy())
    assert errands.latest("pro") == {"verb": "start", "done": True, "error": None}
    assert machine.acts == ["start"]


def test_a_second_start_is_refused_while_the_first_is_under_way(machine):
    errands = Errands()
    errands.begin(machine, "start")
    with pytest.raises(SpacegrayError, match="under way"):
        errands.begin(machine, "start")
    machine.let_go["start"].set()
    wait_for(lambda: not errands.busy())
    assert machine.acts == ["start"]


def test_a_stop_overtakes_a_start_and_its_end_is_the_one_told(machine):
    errands = Errands()
    errands.begin(machine, "start")
    errands.begin(machine, "stop")
    with pytest.raises(SpacegrayError):
        errands.begin(machine, "stop")
    machine.refusal = SpacegrayError("starting pro", "it was stopped", "start it again")
    machine.let_go["start"].set()
    wait_for(lambda: machine.acts == ["start"])
    latest = errands.latest("pro")
    assert latest is not None
    assert latest["verb"] == "stop"
    assert not latest["done"]
    machine.refusal = None
    machine.let_go["stop"].set()
    wait_for(lambda: not errands.busy())
    assert errands.latest("pro") == {"verb": "stop", "done": True, "error": None}


def test_a_fault_of_ours_ends_the_errand_too(machine, monkeypatch):
    def broken(verb: Verb) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(machine, "act", broken)
    errands = Errands()
    errands.begin(machine, "start")
    wait_for(lambda: not errands.busy())
    latest = errands.latest("pro")
    assert latest is not None
    assert "secret detail" not in str(latest)
    assert latest["error"]["stopped_by"]
