"""Guards: the porter does what it is asked to do and nothing else, and ends with the console."""

import json
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import psutil
import pytest

from spacegray.console import porter
from spacegray.console.porter import Porter
from spacegray.errors import SpacegrayError, UsageError
from spacegray.paths import Paths
from spacegray.service import history
from spacegray.service.history import History, Shown
from spacegray.sockets import MESSAGE_LIMIT_BYTES, receive_message, send_message
from spacegray.workstation import facts
from spacegray.workstation.state import Record, State
from spacegray.workstation.unlock import Answer, Standing

WAIT_SECONDS = 20.0


class FakeWorkstation:
    """Says who it is, and reads the secret that it is given."""

    heard: ClassVar[list[Any]] = []
    state: ClassVar[State] = "off"

    def __init__(self, name: str) -> None:
        self.name = name

    @classmethod
    def find(cls, _: Paths, name: str) -> "FakeWorkstation":
        if name != "pro":
            raise UsageError(f"looking for {name}", "there is none", "make one")
        return cls(name)

    def record(self) -> Record:
        return Record(state=self.state)

    def show(self) -> dict[str, Any]:
        return {"name": self.name}

    def screen_socket(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        ours.sendall(b"RFB 003.008\n")
        ours.close()
        return theirs

    def unlock(self, kind: str, descriptor: int, mode: str) -> Answer:
        self.heard.append((kind, mode, os.read(descriptor, 64)))
        return Answer(right=False, code="wrong", stopped_by="no", standing=Standing())


@pytest.fixture
def channel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[socket.socket]:
    """The console's end of a porter that serves in a thread."""
    monkeypatch.setattr(porter, "Workstation", FakeWorkstation)
    ours, theirs = socket.socketpair()
    paths = Paths.current({"SPACEGRAY_HOME": str(tmp_path)})
    serving = threading.Thread(target=porter.serve, args=(theirs, paths))
    serving.start()
    yield ours
    ours.close()
    serving.join(WAIT_SECONDS)
    assert not serving.is_alive()
    theirs.close()


def ask(channel: socket.socket, request: object, *secrets: int) -> tuple[Any, list[int]]:
    ours, theirs = socket.socketpair()
    with ours:
        ours.settimeout(WAIT_SECONDS)
        with theirs:
            send_message(channel, json.dumps(request).encode(), [theirs.fileno(), *secrets])
        message = receive_message(ours)
        assert message is not None
        return json.loads(message[0]), message[1]


def test_it_shows_and_connects_to_the_screen(channel: socket.socket) -> None:
    assert ask(channel, {"op": "show", "name": "pro"}) == ({"show": {"name": "pro"}}, [])
    answer, (screen,) = ask(channel, {"op": "screen", "name": "pro"})
    assert answer == {}
    assert os.read(screen, 64) == b"RFB 003.008\n"
    os.close(screen)


def test_in_recovery_the_chip_is_asked_anew(
    channel: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There its owner changes what may start, with no event that tells; elsewhere nobody does."""
    asked: list[str] = []

    def show(workstation: FakeWorkstation) -> dict[str, Any]:
        asked.append(workstation.state)
        raise SpacegrayError("asking the chip", "it is busy", "try again")

    monkeypatch.setattr(facts, "show", show)
    for state in ("off", "recovery", "running"):
        monkeypatch.setattr(FakeWorkstation, "state", state)
        assert ask(channel, {"op": "show", "name": "pro"})[0] == {"show": {"name": "pro"}}
    assert asked == ["recovery"]


def test_a_secret_is_passed_on_as_a_descriptor(channel: socket.socket) -> None:
    reading, writing = os.pipe()
    os.write(writing, b"the password")
    os.close(writing)
    request = {"op": "unlock", "name": "pro", "kind": "password", "mode": "normal"}
    answer, _ = ask(channel, request, reading)
    os.close(reading)
    assert answer["answer"]["code"] == "wrong"
    assert FakeWorkstation.heard.pop() == ("password", "normal", b"the password")


def test_a_record_longer_than_a_message_is_passed_on(
    channel: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It grows with the years; a message may not."""
    entries = [
        Shown(
            number=number,
            ecid="0x8d1f5a0b77c3e241",
            time=1_600_000_000 + number,
            job="memory 64",
            said="memory upgraded from 32 GB to 64 GB",
            by="owner",
            verified=True,
        )
        for number in range(1000)
    ]
    told = History(
        name="pro", ecid="0x0", verified=True, wrong=[], notes=[], entries=entries, providers=[]
    )
    monkeypatch.setattr(history, "history", lambda workstation: told)
    answer, (descriptor,) = ask(channel, {"op": "service", "name": "pro"})
    assert answer == {}
    with open(descriptor, "rb") as file:
        content = file.read()
    assert len(content) > MESSAGE_LIMIT_BYTES, "the control: no message would hold it"
    assert msgspec.json.decode(content, type=History) == told


@pytest.mark.parametrize(
    "request_",
    [
        [],
        "show",
        {"op": "show"},
        {"op": "erase", "name": "pro"},
        {"op": "unlock", "name": "pro", "kind": "password", "mode": "normal"},
        {"op": "unlock", "name": "pro", "kind": "sealing key", "mode": "normal"},
        {"op": "__init__", "name": "pro"},
    ],
    ids=str,
)
def test_anything_else_is_refused_and_changes_nothing(
    channel: socket.socket, request_: object
) -> None:
    answer, _ = ask(channel, request_)
    assert "does not do that" in answer["error"][1]
    assert ask(channel, {"op": "show", "name": "pro"})[0] == {"show": {"name": "pro"}}


def test_an_error_comes_back_in_its_own_words(channel: socket.socket) -> None:
    answer, _ = ask(channel, {"op": "show", "name": "other"})
    assert answer == {"error": ["looking for other", "there is none", "make one", None]}


def test_what_is_no_message_ends_it(channel: socket.socket) -> None:
    """The fixture waits for its end."""
    channel.sendall(b"\xff" * 8)


def test_a_message_without_a_channel_is_let_pass(channel: socket.socket) -> None:
    send_message(channel, json.dumps({"op": "show", "name": "pro"}).encode())
    assert ask(channel, {"op": "show", "name": "pro"})[0] == {"show": {"name": "pro"}}


def test_the_real_one_answers_and_ends_with_the_console(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPACEGRAY_HOME", str(tmp_path))
    real = Porter()
    process = psutil.Process(real._process.pid)
    with pytest.raises(SpacegrayError, match="looking for the workstation"):
        real.ask("show", "pro")
    real._channel.close()
    assert real._process.wait(WAIT_SECONDS) == 0
    assert not process.is_running()
