"""The serial console on a terminal: bytes both ways, the size told, the terminal as it was."""

import os
import socket
import sys
import termios
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from spacegray.sockets import bind_unix
from tests.support.terminal import Terminal

SECONDS = 20.0
PROGRAM = """
import socket, sys
from spacegray.cli import attach
connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
connection.connect(sys.argv[1])
def resize(rows, columns):
    connection.sendall(f"<{rows}x{columns}>".encode())
assert attach.possible()
print("how:", attach.attach(connection, resize))
"""


@dataclass
class Machine:
    """The other end: what it was sent, and a way to say something."""

    listener: socket.socket
    heard: bytes = b""
    connection: socket.socket | None = None
    changed: threading.Condition = field(default_factory=threading.Condition)

    def serve(self) -> None:
        self.connection, _ = self.listener.accept()
        with self.connection:
            while chunk := self.connection.recv(4096):
                with self.changed:
                    self.heard += chunk
                    self.changed.notify_all()

    def hears(self, text: bytes) -> None:
        """Wait until it was sent `text`."""
        with self.changed:
            assert self.changed.wait_for(lambda: text in self.heard, SECONDS), self.heard

    def says(self, text: bytes) -> None:
        assert self.connection is not None
        self.connection.sendall(text)

    def ends(self) -> None:
        assert self.connection is not None
        self.connection.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    with bind_unix(tmp_path / "serial") as listener:
        listener.settimeout(SECONDS)
        machine = Machine(listener)
        serving = threading.Thread(target=machine.serve)
        serving.start()
        yield machine
        serving.join()


@pytest.fixture
def terminal(machine: Machine, tmp_path: Path) -> Iterator[Terminal]:
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "serial")]
    with Terminal(command, os.environ) as terminal:
        machine.hears(b"<50x1000>\x0c")
        yield terminal


def test_what_is_shown_and_typed_goes_through_untouched(terminal: Terminal, machine: Machine):
    machine.says("\x1b[7m Startup Security \x1b[0m ─┐".encode())
    terminal.until("Startup Security")
    terminal.type(b"\x1b[A\x03\x04\r\x7f")
    machine.hears(b"\x1b[A\x03\x04\r\x7f")
    terminal.type(b"last\x1dnot this")
    status, screen = terminal.end()
    assert (status, "how: left" in screen) == (0, True)
    assert b"\x1b[?1049h" in terminal.screen
    assert terminal.screen.rindex(b"\x1b[?1049l") > terminal.screen.rindex(b"Startup Security")
    machine.hears(b"last")
    assert b"not this" not in machine.heard


def test_the_machines_end_is_told(terminal: Terminal, machine: Machine):
    machine.says(b"goodbye")
    terminal.until("goodbye")
    machine.ends()
    status, screen = terminal.end()
    assert (status, "how: ended" in screen) == (0, True)


def test_another_size_is_told(terminal: Terminal, machine: Machine):
    termios.tcsetwinsize(terminal._slave, (30, 100))
    machine.hears(b"<30x100>")
    terminal.type(b"\x1d")
    assert terminal.end()[0] == 0
