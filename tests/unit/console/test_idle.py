"""Guards: the console stays while it is needed, and goes when it is not."""

import pytest

from spacegray.console.idle import Idleness
from spacegray.console.limits import IDLE_SECONDS
from tests.support.console import FakeMachines


class World:
    def __init__(self, machines: FakeMachines) -> None:
        self.now = 0.0
        self.watched = False
        self.idleness = Idleness(machines, lambda: self.watched, clock=lambda: self.now)

    def over_after(self, seconds: float) -> bool:
        self.now += seconds
        return self.idleness.over()


@pytest.fixture
def world(machines: FakeMachines) -> World:
    return World(machines)


def test_it_goes_after_the_limit_and_not_before(world):
    assert not world.over_after(IDLE_SECONDS - 0.1)
    assert world.over_after(0.1)


@pytest.mark.parametrize("state", ["starting", "running", "stopping"])
def test_it_stays_for_a_workstation_that_is_alive(world, machines, state):
    machines["lab"].state = state
    assert not world.over_after(10 * IDLE_SECONDS)
    machines["lab"].state = "off"
    assert not world.over_after(IDLE_SECONDS - 0.1)
    assert world.over_after(0.1)


def test_it_stays_for_somebody_who_watches(world):
    world.watched = True
    assert not world.over_after(10 * IDLE_SECONDS)
    world.watched = False
    assert not world.over_after(IDLE_SECONDS - 0.1)
    assert world.over_after(0.1)


def test_a_failed_workstation_keeps_nobody_up(world, machines):
    machines["lab"].state = "failed"
    assert world.over_after(IDLE_SECONDS)
