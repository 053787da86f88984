"""The conversation with a guest, which may say anything: who it is, what it may want, how much."""

import asyncio
import base64
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import pytest

from spacegray.errors import SpacegrayError
from spacegray.links import TARGETS, Target
from spacegray.paths import Paths
from spacegray.workstation.chain import REPORT_LIMIT, Chain
from spacegray.workstation.guest import Guest
from spacegray.workstation.guest_port import LINE_LIMIT_BYTES, Ready
from spacegray.workstation.journal import Journal
from spacegray.workstation.streams import Pair
from spacegray.workstation.telling import Telling

GRACE_SECONDS = 10
BOOT_ID = "01234567-89ab-cdef-0123-456789abcdef"
FACTS = f"boot_id={BOOT_ID} secure_boot=1 setup_mode=0 kernel=6.12.48"
MAIN = f"{FACTS} hostkey=AAAAC3NzaC1lZDI1NTE5{'A' * 48} provisioned=1"
RECOVERY = f"mode=recovery {FACTS}"


class Deaf:
    """A chip that is told of links and forgets them."""

    def report(self, *_: Any) -> None:
        pass


class Port:
    """A guest's end of the port, and what came of what it said."""

    def __init__(self, home: Path, target: Target, provision: bytes | None) -> None:
        at = Paths.current({"SPACEGRAY_HOME": str(home)}).workstation("pro")
        at.folder.mkdir(parents=True, exist_ok=True)
        self.journal = Journal(at)
        self.events = at.events
        self.pair = Pair()
        self.chain = Chain(target, self.journal, cast(Telling, Deaf()))
        self.ready: list[Ready] = []
        self.wishes: list[str] = []
        self.guest = Guest(
            self.pair,
            self.chain,
            self.journal,
            provision=provision,
            ready=self._ready,
            wish=self.wishes.append,
        )

    async def _ready(self, ready: Ready) -> None:
        self.ready.append(ready)
        self.chain.go_past(self.chain.links[-1], "it answered")

    @property
    def notes(self) -> int:
        return self.events.read_text().count('"note"') if self.events.exists() else 0

    def told(self) -> list[str]:
        """What it was told so far."""
        self.pair.theirs.setblocking(False)
        try:
            return self.pair.theirs.recv(65536).decode().splitlines()
        except BlockingIOError:
            return []

    async def greeted(self) -> str:
        """Greet it; returns the nonce."""
        await self.guest.greet()
        return self.told()[0].removeprefix("hello ")

    async def say(self, *lines: str | bytes) -> None:
        """Say these, and return when they were heard."""
        for line in lines:
            raw = line.encode() if isinstance(line, str) else line
            self.pair.theirs.sendall(raw + b"\n")
        for _ in range(10 * len(lines) + 10):
            await asyncio.sleep(0)


def run(
    home: Path,
    test: Callable[[Port], Awaitable[None]],
    target: Target = "main",
    provision: bytes | None = None,
) -> None:
    async def inside() -> None:
        port = Port(home, target, provision)
        listening = asyncio.create_task(port.guest.listen())
        try:
            await asyncio.wait_for(test(port), GRACE_SECONDS)
        finally:
            port.pair.theirs.close()
            await asyncio.gather(listening, return_exceptions=True)
            port.pair.close()

    asyncio.run(inside())


def test_the_guest_of_this_start_is_ready_once(tmp_path: Path):
    async def test(port: Port) -> None:
        nonce = await port.greeted()
        await port.say(f"ready {'0' * 32} {MAIN}")
        assert (port.ready, port.notes) == ([], 1)
        await port.say(f"ready {nonce} {MAIN}", f"ready {nonce} {MAIN}")
        assert [each.kernel for each in port.ready] == ["6.12.48"]

    run(tmp_path, test)


def test_it_is_greeted_once_and_only_the_main_system_is_told_the_owners(tmp_path: Path):
    async def main(port: Port) -> None:
        await port.guest.greet()
        await port.guest.greet()
        hello, provision, go = port.told()
        assert hello.startswith("hello ")
        assert base64.b64decode(provision.removeprefix("provision ")) == b"user=owner\n"
        assert go == "go"

    async def recovery(port: Port) -> None:
        await port.guest.greet()
        assert [line.split()[0] for line in port.told()] == ["hello", "go"]

    async def foreign(port: Port) -> None:
        await port.guest.greet()
        await port.guest.power_off()
        assert (port.told(), port.guest.greeted) == ([], False)

    run(tmp_path, main, provision=b"user=owner\n")
    run(tmp_path, recovery, "recovery", b"user=owner\n")
    run(tmp_path, foreign, "other", b"user=owner\n")


@pytest.mark.parametrize("target", TARGETS)
def test_only_a_recovery_that_is_up_has_wishes(tmp_path: Path, target: Target):
    async def test(port: Port) -> None:
        await port.say("want off", "want reinstall")
        assert port.wishes == []
        if target in ("main", "recovery"):
            nonce = await port.greeted()
            await port.say(f"ready {nonce} {RECOVERY if target == 'recovery' else MAIN}")
            assert port.chain.up
        await port.say("want reinstall", "want everything")
        assert port.wishes == (["reinstall"] if target == "recovery" else [])

    run(tmp_path, test, target)


def test_only_a_recovery_that_is_up_does_anything(tmp_path: Path):
    async def recovery(port: Port) -> None:
        with pytest.raises(SpacegrayError, match="it does not run"):
            await port.guest.do("show")
        nonce = await port.greeted()
        await port.guest.resize(24, 80)
        await port.guest.resize(-1, 80)
        assert port.told() == ["size 24 80"]
        await port.say(f"ready {nonce} {RECOVERY}")
        asked = asyncio.create_task(port.guest.do("show"))
        await asyncio.sleep(0)
        await port.say("done 2 ok other", "done 1 ok policy=full")
        assert await asked == "policy=full"

    async def main(port: Port) -> None:
        nonce = await port.greeted()
        await port.say(f"ready {nonce} {MAIN}")
        with pytest.raises(SpacegrayError, match="it does not run"):
            await port.guest.do("show")
        await port.guest.resize(24, 80)
        assert port.told() == []

    run(tmp_path, recovery, "recovery")
    run(tmp_path, main)


def test_what_it_says_fills_no_log(tmp_path: Path):
    async def test(port: Port) -> None:
        for _ in range(20):
            await port.say(*(["ready forged"] * (REPORT_LIMIT // 10)))
        assert port.notes == REPORT_LIMIT

    run(tmp_path, test)


def test_an_endless_line_is_an_error(tmp_path: Path):
    async def inside() -> None:
        port = Port(tmp_path, "main", None)
        listening = asyncio.create_task(port.guest.listen())
        port.pair.theirs.sendall(bytes(LINE_LIMIT_BYTES + 1))
        with pytest.raises(SpacegrayError, match="an endless line"):
            await asyncio.wait_for(listening, GRACE_SECONDS)
        port.pair.close()

    asyncio.run(inside())
