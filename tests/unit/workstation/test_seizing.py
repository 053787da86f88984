"""An erasing gets the chip whoever holds it, and that one is ended only where it came to it."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from spacegray.chip import manifest
from spacegray.errors import SpacegrayError
from spacegray.paths import Paths, WorkstationPaths
from spacegray.workstation import hold, seizing


class FakeChip:
    """A chip that a holder has running."""

    def __init__(self, ecid: str | None) -> None:
        self.ecid = ecid
        self.closed = False

    def __enter__(self) -> "FakeChip":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.closed = True

    def show(self) -> dict[str, Any]:
        return {"ecid": self.ecid, "needs": [], "attempts": {}}


class Held:
    """A workstation of the chip 0x1, and what `running` of its holder's chips came to."""

    def __init__(self, at: WorkstationPaths) -> None:
        self.at = at
        self.held = True
        self.running: list[FakeChip] = []
        self.ended: list[FakeChip] = []

    def connect(self, *_: object) -> FakeChip:
        if not self.running:
            raise SpacegrayError("speaking to the chip", "nobody is there", "start it")
        return self.running[0]

    def end(self, chip: FakeChip) -> None:
        self.ended.append(chip)
        self.running.remove(chip)
        self.held = False

    def seized(self) -> contextlib.AbstractContextManager[Any]:
        return seizing.seized(self.at, "erasing", "being erased", None)


@pytest.fixture
def held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Held:
    found = Held(Paths.current({"SPACEGRAY_HOME": str(tmp_path)}).workstation("pro"))

    @contextlib.contextmanager
    def ours(*_: object, **__: object) -> Iterator[SimpleNamespace]:
        yield SimpleNamespace(mailbox="held" if not found.held else "beside the holder")

    monkeypatch.setattr(hold, "TURN_SECONDS", 0.1)
    monkeypatch.setattr(hold, "holder", lambda _: "at work" if found.held else None)
    monkeypatch.setattr(hold, "chip", ours)
    monkeypatch.setattr(hold, "opened_chip", ours)
    monkeypatch.setattr(seizing, "ChipClient", found.connect)
    monkeypatch.setattr(seizing, "_end", found.end)
    monkeypatch.setattr(manifest, "read", lambda _: SimpleNamespace(ecid="0x1"))
    return found


def test_the_holders_chip_does_it_and_is_ended(held: Held):
    chip = FakeChip("0x1")
    held.running = [chip]
    with held.seized() as mailbox:
        assert mailbox is chip
        assert not held.ended
    assert held.ended == [chip]
    assert chip.closed


def test_where_nothing_comes_of_it_the_holder_goes_on(held: Held):
    held.running = [FakeChip("0x1")]
    with pytest.raises(SpacegrayError, match="wrong"), held.seized():
        raise SpacegrayError("erasing", "wrong", "again")
    assert not held.ended


@pytest.mark.parametrize("ecid", ["0x2", None])
def test_a_chip_that_is_to_take_its_place_is_not_taken_for_it(held: Held, ecid: str | None):
    chip = FakeChip(ecid)
    held.running = [chip]
    with held.seized() as mailbox:
        assert mailbox == "held"
    assert held.ended == [chip]
    assert chip.closed


def test_a_holder_without_a_chip_is_not_waited_for(held: Held):
    with held.seized() as mailbox:
        assert mailbox == "beside the holder"
