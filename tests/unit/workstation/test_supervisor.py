"""While the chip waits for its owner: opened, refused, given up, switched off, erased, dead."""

import asyncio
import json
import os
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from spacegray.chip.client import ChipClient, Erased
from spacegray.chip.launch import ChipProcess
from spacegray.chip.refusal import ChipRefusalError
from spacegray.errors import SpacegrayError
from spacegray.paths import Paths
from spacegray.workstation import create, state, supervisor
from spacegray.workstation.start import Outcome
from spacegray.workstation.supervisor import Supervisor

GRACE_SECONDS = 10


class FakeChip:
    """A chip that waits for the word `right`, and its process."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(["sleep", "60"])
        self.open = self.gone = False
        self.failures = 0

    @contextmanager
    def client(self) -> Iterator["FakeChip"]:
        yield self

    def failure(self) -> SpacegrayError:
        return SpacegrayError("running the chip", "it died", "start again", link="chip")

    def show(self) -> dict[str, Any]:
        budget = {"failures": self.failures, "left": 10 - self.failures, "wait_seconds": 0}
        needs = [] if self.open or self.gone else ["password"]
        return {"needs": needs, "attempts": {"password": budget}, "state": "sealed"}

    def unlock(self, secret: int, *, with_: str, mode: str) -> None:
        if os.read(secret, 100) != b"right":
            self.failures += 1
            raise ChipRefusalError("unlocking", "it is wrong", "try again", code="wrong")
        self.open = True

    def erase(self) -> Erased:
        self.gone = True
        return Erased(receipt=b"receipt", milliseconds=1.5, modules=[])


class Locked:
    """A supervisor whose chip waits."""

    def __init__(self, home: Path) -> None:
        paths = Paths.current({"SPACEGRAY_HOME": str(home)})
        self.at = paths.workstation("pro")
        for folder in (self.at.folder, self.at.state_folder, self.at.run):
            folder.mkdir(parents=True)
        record = create.Installed(ecid="0x1", edition="tiny", disk_bytes=1)
        create.note_empty(self.at, record, empty=False)
        self.chip = FakeChip()
        self.supervisor = Supervisor(paths, "pro", None)
        self.supervisor._chip = cast(ChipProcess, self.chip)
        self.supervisor._journal.begin(accelerator="tcg", reason="", given={})

    def wait(self, act: Callable[["Locked"], Awaitable[None]]) -> Outcome | None:
        """Have it wait, and `act` meanwhile; returns how the waiting ended."""

        async def run() -> Outcome | None:
            waiting = asyncio.create_task(
                self.supervisor._await_unlocked(
                    cast(ChipProcess, self.chip), cast(ChipClient, self.chip)
                )
            )
            await asyncio.sleep(0)
            await act(self)
            return await asyncio.wait_for(waiting, GRACE_SECONDS)

        return asyncio.run(run())

    async def give(self, word: str) -> dict[str, Any]:
        """Unlock it with `word`; returns the answer."""
        reader, writer = os.pipe()
        os.write(writer, word.encode())
        os.close(writer)
        try:
            request = {"op": "unlock", "kind": "password"}
            reply, _ = await self.supervisor._answer(request, [reader])
        finally:
            os.close(reader)
        answer: dict[str, Any] = json.loads(json.dumps(reply))["answer"]
        return answer


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[Locked]:
    found = Locked(tmp_path)
    yield found
    found.chip.process.kill()
    found.chip.process.wait()


def test_a_wrong_one_leaves_it_locked_and_a_right_one_starts_it(locked: Locked):
    async def act(at: Locked) -> None:
        record = state.read(at.at)
        assert (record.state, record.needs) == ("locked", ["password"])
        assert record.reason == "waiting for the password"
        answer = await at.give("wrong")
        assert (answer["right"], answer["code"]) == (False, "wrong")
        assert answer["standing"]["attempts"]["password"]["left"] == 9
        record = state.read(at.at)
        assert (record.state, record.attempts["password"]["left"]) == ("locked", 9)
        answer = await at.give("right")
        assert (answer["right"], answer["standing"]["needs"]) == (True, [])
        # Whoever has the answer finds it unlocked.
        assert state.read(at.at).state == "starting"

    assert locked.wait(act) is None
    events = [json.loads(line) for line in locked.at.events.read_text().splitlines()]
    assert [each.get("state") for each in events] == ["starting", "locked", None, "starting"]
    assert events[2]["text"] == "not unlocked: it is wrong"


def test_it_does_not_wait_for_ever(locked: Locked, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(supervisor, "LOCKED_SECONDS", 0.0)

    async def act(_: Locked) -> None:
        pass

    outcome = locked.wait(act)
    assert outcome is not None
    assert outcome.ending == "off"
    assert "waiting for the password, which did not come in" in outcome.reason


def test_it_is_switched_off(locked: Locked):
    async def act(at: Locked) -> None:
        await at.supervisor._answer({"op": "stop"}, [])

    outcome = locked.wait(act)
    assert outcome == Outcome("off", "switched off while it was locked")


def test_it_is_erased(locked: Locked):
    async def act(at: Locked) -> None:
        reply, _ = await at.supervisor._answer({"op": "erase"}, [])
        assert reply["erasure"]["milliseconds"] == 1.5

    outcome = locked.wait(act)
    assert outcome == Outcome("off", "erased")
    installed = create.installed(locked.at)
    assert installed is not None
    assert installed.empty
    (receipt,) = locked.at.receipts.iterdir()
    assert receipt.read_bytes() == b"receipt"


def test_its_chip_dies(locked: Locked):
    async def act(at: Locked) -> None:
        at.chip.process.kill()

    with pytest.raises(SpacegrayError, match="running the chip: it died"):
        locked.wait(act)


def test_what_is_no_secret_and_what_is_not_locked_is_refused(locked: Locked):
    async def act(at: Locked) -> None:
        for request, given in (
            ({"op": "unlock", "kind": "charm"}, [0]),
            ({"op": "unlock", "kind": "password", "mode": "fast"}, [0]),
            ({"op": "unlock", "kind": "password"}, []),
        ):
            with pytest.raises(SpacegrayError, match="no such secret"):
                await at.supervisor._answer(request, given)
        await at.give("right")
        with pytest.raises(SpacegrayError, match="it is not locked"):
            await at.give("right")

    locked.wait(act)
