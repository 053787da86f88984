"""The recovery system's side of its port, for tests: says lines, reads answers."""

import base64
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

from spacegray.chip.client import ChipClient

SECONDS = 60.0


class Port:
    """A machine's end of a recovery port."""

    def __init__(self, end: socket.socket) -> None:
        self.end = end
        end.settimeout(SECONDS)
        self._lines = end.makefile("rb")
        self.session = ""
        self._number = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._lines.close()
        self.end.close()

    @staticmethod
    def encoded(secret: bytes) -> str:
        return base64.b64encode(secret).decode()

    def say(self, line: str | bytes) -> str:
        """Send one line; returns the one that answers it, empty when the chip hangs up."""
        content = line if isinstance(line, bytes) else line.encode()
        self.end.sendall(content + b"\n")
        return self._lines.readline().decode().rstrip("\n")

    def hello(self) -> str:
        """Begin a new session; returns its word."""
        word, self.session = self.say("hello").split()
        assert word == "session"
        self._number = 0
        return self.session

    def ask(self, words: str) -> str:
        """Do one operation in the session; returns the answer without its number."""
        if not self.session:
            self.hello()
        self._number += 1
        number, _, said = self.say(f"{self.session} {self._number} {words}").partition(" ")
        assert number == str(self._number), said
        return said

    def facts(self, words: str = "show") -> dict[str, str]:
        """What an operation that succeeds answers."""
        first, *facts = self.ask(words).split(" ")
        assert first == "ok", facts
        return dict(each.split("=") for each in facts)


@contextmanager
def in_recovery(client: ChipClient) -> Iterator[Port]:
    """The port of a recovery system that was just started."""
    with client.prepare_start("recovery") as start:
        end = socket.socket(fileno=os.dup(start.port))
    with Port(end) as port:
        yield port
