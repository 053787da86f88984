"""What the chip is told: in order, without anybody waiting for it, and no more than it may be."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import cast

import pytest

from spacegray.chip.launch import ChipProcess
from spacegray.errors import SpacegrayError
from spacegray.workstation import telling
from spacegray.workstation.telling import Telling

GRACE_SECONDS = 10


class FakeChip:
    """A chip that answers only while it is `free`."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.free = threading.Event()
        self.free.set()
        self.connections = 0
        self.gone = False

    def client(self) -> "FakeChip":
        if self.gone:
            raise SpacegrayError("speaking to the chip", "it does not answer", "see `logs`")
        self.connections += 1
        return self

    def report(self, link: str, status: str, detail: str) -> None:
        self.free.wait(GRACE_SECONDS)
        self.heard.append(f"{link} {status} {detail}")

    def came_up(self) -> None:
        self.heard.append("came up")

    def close(self) -> None:
        self.connections -= 1


def run(chip: FakeChip, test: Callable[[Telling], Awaitable[None]]) -> None:
    async def inside() -> None:
        tell = Telling(cast(ChipProcess, chip))
        try:
            await asyncio.wait_for(test(tell), GRACE_SECONDS)
        finally:
            await tell.close()

    asyncio.run(inside())


def test_all_is_told_in_order_over_one_connection():
    chip = FakeChip()

    async def test(tell: Telling) -> None:
        tell.report("machine", "ok", "it runs")
        tell.report("kernel", "failed", "x" * 1000)
        await tell.came_up()
        assert chip.connections == 1

    run(chip, test)
    assert [each[:9] for each in chip.heard] == ["machine o", "kernel fa", "came up"]
    assert len(chip.heard[1]) == len("kernel failed ") + telling.DETAIL_LIMIT_CHARACTERS
    assert chip.connections == 0


def test_a_chip_at_work_keeps_nobody_waiting(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(telling, "DRAIN_SECONDS", 0.01)
    chip = FakeChip()
    chip.free.clear()

    async def test(tell: Telling) -> None:
        for number in range(2 * telling.QUEUE_LIMIT):
            tell.report("kernel", "ok", str(number))
        await tell.settle()
        # One has been taken from the queue since.
        tell.report("kernel", "ok", "the last")
        with pytest.raises(SpacegrayError, match="does not listen"):
            await tell.came_up()
        assert chip.heard == []
        chip.free.set()
        monkeypatch.setattr(telling, "DRAIN_SECONDS", GRACE_SECONDS)
        await tell.settle()
        assert len(chip.heard) == telling.QUEUE_LIMIT + 1

    run(chip, test)


def test_a_chip_that_is_gone_is_an_error_only_to_who_has_to_know():
    chip = FakeChip()
    chip.gone = True

    async def test(tell: Telling) -> None:
        tell.report("kernel", "ok", "")
        await tell.settle()
        with pytest.raises(SpacegrayError, match="does not answer"):
            await tell.came_up()

    run(chip, test)
