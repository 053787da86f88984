"""The disk as the chip's firmware sees it: one opener, every refusal a line that names the module.

The controller is a stand-in; the real one is in test_chip_process.py and tests/attacks.
"""

import os
import select
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cbor2
import psutil
import pytest

from spacegray.chip import controller as controllers
from spacegray.chip import ssd as ssds
from spacegray.chip.controller import ControllerRefusalError, listens
from spacegray.chip.messages import AttachMode
from spacegray.chip.part import Part
from spacegray.chip.ssd import Ssd
from spacegray.errors import SpacegrayError
from tests.support import fake_ssdd
from tests.support.chip import StillLoop

CAPACITY_BYTES = fake_ssdd.CAPACITY_BYTES
PATIENCE_SECONDS = 10.0

New = Callable[..., Ssd]


class FakeVault:
    """Hands out links nobody listens on; remembers what they were asked for."""

    def __init__(self) -> None:
        self.modes: list[AttachMode] = []
        self.refusal: SpacegrayError | None = None
        self._far_ends: list[socket.socket] = []

    def attach(self, mode: AttachMode) -> int:
        if self.refusal is not None:
            raise self.refusal
        self.modes.append(mode)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._far_ends.append(ours)
        return theirs.detach()

    def close(self) -> None:
        for each in self._far_ends:
            each.close()


@pytest.fixture
def loop() -> StillLoop:
    return StillLoop()


@pytest.fixture
def ended() -> list[Part]:
    return []


@pytest.fixture
def vault() -> Iterator[FakeVault]:
    made = FakeVault()
    yield made
    made.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The workstation's folder, with nothing else in it."""
    made = tmp_path / "folder"
    made.mkdir()
    return made


@pytest.fixture
def new(
    tmp_path: Path, folder: Path, loop: StillLoop, ended: list[Part], vault: FakeVault
) -> Iterator[New]:
    """Makes a disk on the folder whose controller behaves as told."""
    made: list[Ssd] = []

    def make(**behaviour: Any) -> Ssd:
        programs = tmp_path / f"program-{len(made)}"
        programs.mkdir()
        disk = Ssd(
            folder,
            tmp_path,
            program=fake_ssdd.program(programs, **behaviour),
            attach=vault.attach,
            watcher=loop,
            ended=ended.append,
        )
        made.append(disk)
        return disk

    yield make
    for disk in made:
        if disk._controller is not None:
            disk._controller._part.stop(timeout_seconds=0)
            disk._controller._link.close()


@pytest.fixture
def disk(new: New) -> Ssd:
    """A disk that was made, closed."""
    made = new()
    made.create(CAPACITY_BYTES)
    return made


def controllers_alive() -> list[psutil.Process]:
    children = psutil.Process().children()
    return [each for each in children if each.status() != psutil.STATUS_ZOMBIE]


def test_it_is_made_of_two_private_files_in_their_order(disk: Ssd, folder: Path) -> None:
    assert sorted(each.name for each in folder.iterdir()) == ["flash-0.module", "flash-1.module"]
    for number, path in enumerate(disk.modules.paths):
        assert path.read_bytes() == f"module {number} of {CAPACITY_BYTES}".encode()
        assert path.stat().st_mode & 0o777 == 0o600
    assert not controllers_alive()


def test_there_is_never_a_second_disk_in_its_place(disk: Ssd, vault: FakeVault) -> None:
    disk.modules.paths[0].unlink()
    before = disk.modules.paths[1].read_bytes()
    with pytest.raises(SpacegrayError, match="one already"):
        disk.create(CAPACITY_BYTES)
    assert disk.modules.paths[1].read_bytes() == before
    assert vault.modes == ["format"], "a key was thrown away for nothing"


@pytest.mark.parametrize("told", [{"error": "no_space"}, "die", "hang up"])
def test_a_disk_that_cannot_be_made_leaves_nothing(new: New, folder: Path, told: Any) -> None:
    with pytest.raises(SpacegrayError) as caught:
        new(format=told).create(CAPACITY_BYTES)
    assert caught.value.link == "disk"
    assert not list(folder.iterdir())
    assert not controllers_alive()


def test_a_vault_that_refuses_leaves_nothing(new: New, folder: Path, vault: FakeVault) -> None:
    vault.refusal = SpacegrayError("attaching the disk", "no", "ask again", link="chip")
    with pytest.raises(SpacegrayError, match="attaching"):
        new().create(CAPACITY_BYTES)
    assert not list(folder.iterdir())


def test_open_serve_close_and_what_health_says(disk: Ssd) -> None:
    assert disk.health().state == "off"
    assert disk.open(strict=True).recovered, "strict did not arrive"
    health = disk.health()
    assert (health.state, health.front) == ("open", None)
    assert health.status is not None
    assert health.status.slots_written == fake_ssdd.STATUS["slots_written"]
    assert [Path(module.path).name for module in health.modules] == [
        "flash-0.module", "flash-1.module",
    ]  # fmt: skip
    connection = disk.serve("nbd")
    assert connection is not None
    connection.close()
    assert (disk.health().state, disk.health().front) == ("served", "nbd")
    with pytest.raises(SpacegrayError, match="in use"):
        disk.serve("nbd")
    disk.stop()
    disk.stop()
    assert disk.health().state == "off"
    assert not controllers_alive()


def test_no_path_leads_to_the_front(disk: Ssd, tmp_path: Path) -> None:
    """Promise: the one connection is handed over; nobody else finds the plain disk."""
    before = set(tmp_path.rglob("*"))
    connection, _ = disk.start("vhost-user-blk")
    with connection:
        assert set(tmp_path.rglob("*")) == before


def test_one_user_at_a_time(disk: Ssd, new: New, vault: FakeVault) -> None:
    """Promise: a second opener is told, and gets neither the key nor a new one."""
    second = new()
    disk.open()
    asked = len(vault.modes)
    for attempt in (second.open, lambda: second.erase(CAPACITY_BYTES)):
        with pytest.raises(SpacegrayError, match=r"flash-0\.module is in use by another process"):
            attempt()
    with pytest.raises(SpacegrayError, match="it is in use"):
        disk.open()
    with pytest.raises(SpacegrayError, match="it is in use"):
        disk.erase(CAPACITY_BYTES)
    assert len(vault.modes) == asked
    disk.stop()
    second.open()


@pytest.mark.parametrize("number", [0, 1])
def test_a_missing_module_is_named_and_costs_no_key(
    disk: Ssd, vault: FakeVault, number: int
) -> None:
    disk.modules.paths[number].unlink()
    with pytest.raises(SpacegrayError, match=rf"flash-{number}\.module is missing") as caught:
        disk.open()
    assert caught.value.link == "disk"
    assert vault.modes == ["format"]
    disk.modules.paths[number].mkdir()
    with pytest.raises(SpacegrayError, match=rf"flash-{number}\.module"):
        disk.open()
    disk.modules.paths[number].rmdir()
    os.mkfifo(disk.modules.paths[number])
    with pytest.raises(SpacegrayError, match=rf"flash-{number}\.module is no file"):
        disk.open()


def test_an_erased_disk_is_whole_and_under_a_new_key(disk: Ssd, vault: FakeVault) -> None:
    disk.modules.paths[1].unlink()
    disk.modules.paths[0].write_bytes(b"another's")
    disk.erase(2 * CAPACITY_BYTES)
    assert vault.modes == ["format", "format"]
    for number, path in enumerate(disk.modules.paths):
        assert path.read_bytes() == f"module {number} of {2 * CAPACITY_BYTES}".encode()


@pytest.mark.parametrize(
    ("code", "module", "says"),
    [
        ("missing", 0, "flash-0.module is empty or cut off"),
        ("foreign", 1, "flash-1.module is of another disk"),
        ("foreign", 2, "both modules (flash-0.module and flash-1.module) are of another disk"),
        ("exchanged", 2, "flash-0.module and flash-1.module are exchanged"),
        (
            "stale",
            0,
            "module flash-0.module is older than the chip remembers; `spacegray ssd accept",
        ),
        (
            "stale",
            1,
            "module flash-1.module is older than the chip remembers; `spacegray ssd accept",
        ),
        ("stale", 1, "accept folder` accepts this older state (it asks for the password"),
        ("stale", 2, "both modules (flash-0.module and flash-1.module) are older"),
        ("adopted", 1, "module flash-1.module is adopted since, by another chip, or by an"),
        ("adopted", 2, "own back, or `spacegray ssd accept folder` takes them over (it asks for"),
        ("unauthorised", None, "not allowed an adoption; `spacegray ssd accept folder` asks"),
        ("damaged", 1, "flash-1.module is damaged (a test)"),
        ("unformatted", None, "the chip remembers no disk"),
        ("no_space", None, "make room"),
        ("storage", None, "(a test)"),
        ("vault", None, "(a test)"),
        ("stopped", None, "failed to keep what was written"),
        ("malformed", None, "refused (malformed: module 0: damaged (a test))"),
        ("damaged", "0", "module one is damaged"),
        ("damaged", 7, "module one is damaged"),
    ],
)
def test_each_refusal_names_the_module_and_what_to_do(
    disk: Ssd, new: New, code: str, module: object, says: str
) -> None:
    fields = {"error": code} if module is None else {"error": code, "module": module}
    refusing = new(open=fields)
    with pytest.raises(ControllerRefusalError) as caught:
        refusing.open()
    assert says in str(caught.value)
    assert caught.value.code == code
    assert caught.value.link == "disk"
    assert "\n" not in str(caught.value)
    assert not controllers_alive()
    disk.open()


@pytest.mark.parametrize(
    "answer",
    [b"nonsense", b"\xa0", bytes.fromhex("a1626f6bf5"), b"\xff" * 5000],
    ids=["no CBOR", "empty map", "without its fields", "too long"],
)
def test_a_broken_answer_is_one_clear_error(disk: Ssd, new: New, answer: bytes) -> None:
    with pytest.raises(SpacegrayError) as caught:
        new(open=answer).open()
    assert caught.value.link == "disk"
    assert not controllers_alive()


def test_a_controller_that_hangs_is_given_up(
    disk: Ssd, new: New, monkeypatch: pytest.MonkeyPatch
) -> None:
    hanging = new(close="hang")
    hanging.open()
    monkeypatch.setattr(controllers, "STOP_SECONDS", 0.2)
    with pytest.raises(SpacegrayError, match="newest writes may be missing"):
        hanging.stop()
    assert not controllers_alive()


def test_a_controller_that_does_not_end_is_killed_and_told(
    disk: Ssd, new: New, monkeypatch: pytest.MonkeyPatch
) -> None:
    staying = new(exit="hang")
    staying.open()
    monkeypatch.setattr(controllers, "EXIT_SECONDS", 0.2)
    with pytest.raises(SpacegrayError, match="signal SIG"):
        staying.stop()
    assert not controllers_alive()


def test_a_close_that_failed_is_told(disk: Ssd, new: New) -> None:
    refusing = new(close={"error": "storage"})
    refusing.open()
    with pytest.raises(SpacegrayError, match="newest writes may be missing"):
        refusing.stop()
    failing = new(exit=1)
    failing.open()
    with pytest.raises(SpacegrayError, match="exit status 1"):
        failing.stop()


def test_a_dead_controller_is_noticed_and_named(
    disk: Ssd, loop: StillLoop, ended: list[Part]
) -> None:
    connection, _ = disk.start("vhost-user-blk")
    with connection:
        (controller,) = controllers_alive()
        controller.send_signal(signal.SIGKILL)
        while not ended:
            readable, _, _ = select.select(list(loop.watched), [], [], PATIENCE_SECONDS)
            assert readable, "its end was not noticed"
            for descriptor in readable:
                if descriptor in loop.watched:
                    loop.watched[descriptor]()
    health = disk.health()
    assert health.state == "failed"
    assert "SIGKILL" in health.detail
    with pytest.raises(SpacegrayError, match="newest writes may be missing"):
        disk.stop()


def test_a_controller_that_dies_while_asked_says_its_last_words(disk: Ssd, new: New) -> None:
    with pytest.raises(SpacegrayError, match="the medium burns"):
        new(open="die").open()
    dying = new(verify="die")
    dying.open()
    with pytest.raises(SpacegrayError, match="the medium burns"):
        dying.verify(0, 1)


@pytest.mark.parametrize("state", ["closed", "open", "served", "failed"])
def test_a_killed_disk_is_off_and_nobody_is_told(
    disk: Ssd, ended: list[Part], loop: StillLoop, state: str
) -> None:
    """Promise: erasing waits for no controller, and its end is no failure of the chip."""
    connection: socket.socket | None = None
    if state != "closed":
        disk.open()
    if state == "served":
        connection = disk.serve("nbd")
    if state == "failed":
        (controller,) = controllers_alive()
        controller.kill()
    disk.kill()
    assert not controllers_alive()
    assert (disk.health().state, disk.health().detail) == ("off", "")
    assert not ended
    assert not loop.watched
    disk.stop()
    disk.kill()
    if connection is not None:
        connection.close()
    disk.open()


def test_a_controller_that_hangs_is_killed_too(disk: Ssd, new: New) -> None:
    hanging = new(close="hang", exit="hang")
    hanging.open()
    hanging.kill()
    assert not controllers_alive()


def test_one_that_the_hosts_disk_holds_up_is_not_waited_for(
    disk: Ssd, loop: StillLoop, ended: list[Part], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise: it is gone for its owner all the same; the loop buries it and reports nothing."""
    disk.open()
    (controller,) = controllers_alive()
    monkeypatch.setattr(controllers, "KILL_SECONDS", 0.0)
    disk.kill()
    assert disk.health().state == "off"
    while loop.watched:
        readable, _, _ = select.select(list(loop.watched), [], [], PATIENCE_SECONDS)
        assert readable, "its end was not noticed"
        for descriptor in readable:
            if descriptor in loop.watched:
                loop.watched[descriptor]()
    assert not controller.is_running()
    assert not ended
    assert disk.health().state == "off"


def test_adopting_is_asked_of_vault_and_controller(disk: Ssd, vault: FakeVault) -> None:
    assert disk.open(adopt=True).incomplete
    disk.stop()
    assert not disk.open().incomplete
    assert vault.modes[-2:] == ["adopt", "open"]


def test_verifying_needs_an_open_disk(disk: Ssd) -> None:
    with pytest.raises(SpacegrayError, match="closed"):
        disk.verify(0, 1)
    disk.open()
    found = disk.verify(10, 5)
    assert (found.next, found.checked, found.bad) == (15, 5, [10])
    # The controller takes so many at a time; the chip goes on by itself.
    found = disk.verify(0, 2 * fake_ssdd.VERIFY_BLOCKS + 1)
    assert found.next == found.checked == 2 * fake_ssdd.VERIFY_BLOCKS + 1
    assert found.bad == [0, fake_ssdd.VERIFY_BLOCKS, 2 * fake_ssdd.VERIFY_BLOCKS]


def test_verifying_does_not_keep_the_chip_away_for_long(
    disk: Ssd, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk.open()
    monkeypatch.setattr(ssds, "VERIFY_SECONDS", 0)
    assert disk.verify(0, 2**30).next == fake_ssdd.VERIFY_BLOCKS
    monkeypatch.undo()
    assert len(disk.verify(0, 2**30).bad) <= ssds.BAD_LIMIT


def test_a_controller_that_does_not_go_on_is_one_clear_error(disk: Ssd, new: New) -> None:
    staying = new(verify=cbor2.dumps({"ok": True, "next": 5, "checked": 0, "bad": []}))
    staying.open()
    with pytest.raises(SpacegrayError, match="does not go on"):
        staying.verify(5, 10)


def test_a_program_that_is_not_there_is_one_clear_error(disk: Ssd, new: New) -> None:
    broken = new()
    broken._program = Path("/nowhere/ssdd")
    with pytest.raises(SpacegrayError, match="starting the disk's controller"):
        broken.open()
    disk.open()


def test_only_a_listening_unix_stream_serves(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as candidate, (tmp_path / "file").open("w") as file:
        assert not listens(candidate.fileno())
        candidate.bind(str(tmp_path / "socket"))
        candidate.listen()
        assert listens(candidate.fileno())
        assert not listens(file.fileno())
    with socket.socket(socket.AF_INET) as stranger:
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        assert not listens(stranger.fileno())
