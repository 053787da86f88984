"""A program at a terminal of its own, with somebody who types."""

import contextlib
import fcntl
import os
import pty
import select
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

SECONDS = 120.0
"""How long somebody waits for what is to appear on the screen, or for the end."""
AGAIN_SECONDS = 5.0
"""How long somebody waits before they press a key again."""
_READ_BYTES = 4096


class Terminal:
    """Runs `command` as the session leader of a new terminal; a context manager that ends it."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._master, self._slave = pty.openpty()
        self._before = termios.tcgetattr(self._slave)
        # Wide, so that no line is broken.
        termios.tcsetwinsize(self._slave, (50, 1000))
        os.set_blocking(self._master, False)
        self.screen = b""
        """All that was written to it so far."""
        self._looked = 0
        self.child = subprocess.Popen(
            command,
            stdin=self._slave,
            stdout=self._slave,
            stderr=self._slave,
            env=dict(environment),
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *_: object) -> None:
        if self.child.poll() is None:
            self.child.kill()
        self.child.wait()
        os.close(self._master)
        os.close(self._slave)

    def until(self, text: str) -> None:
        """Wait until `text` appears, behind what was waited for before."""
        deadline = time.monotonic() + SECONDS
        while (at := self.screen.find(text.encode(), self._looked)) < 0:
            assert time.monotonic() < deadline, self.screen.decode()
            assert self._read() or self.child.poll() is None, self.screen.decode()
        self._looked = at + len(text.encode())

    def type(self, text: str | bytes) -> None:
        """Type it."""
        os.write(self._master, text if isinstance(text, bytes) else text.encode())

    def leave(self, key: bytes) -> tuple[int, str]:
        """Press `key` until it ends: a signal that comes just before Python begins to read a line
        is seen only after it; people press again then. Returns what `end` does.
        """
        deadline = time.monotonic() + SECONDS
        while self.child.poll() is None:
            assert time.monotonic() < deadline, self.screen.decode()
            self.type(key)
            again = time.monotonic() + AGAIN_SECONDS
            while self.child.poll() is None and time.monotonic() < again:
                self._read()
        return self.end()

    def end(self) -> tuple[int, str]:
        """Wait for the end; returns the exit status and all that was on the screen.

        The terminal has to be as it was.
        """
        deadline = time.monotonic() + SECONDS
        while self.child.poll() is None:
            assert time.monotonic() < deadline, self.screen.decode()
            self._read()
        while self._read(0):
            pass
        assert termios.tcgetattr(self._slave) == self._before, "the terminal was left changed"
        return self.child.returncode, self.screen.decode(errors="replace").replace("\r\n", "\n")

    def others(self) -> list[str]:
        """Who else has the terminal open now: nobody is to be left reading it."""
        name, found = os.ttyname(self._slave), []
        for process in psutil.process_iter():
            with contextlib.suppress(OSError, psutil.Error):
                folder = Path(f"/proc/{process.pid}/fd")
                if process.pid != os.getpid() and any(
                    str(each.readlink()) == name for each in folder.iterdir()
                ):
                    found.append(process.name())
        return found

    def _read(self, seconds: float = 0.1) -> bool:
        """Take in what was written; returns whether there was anything."""
        if not select.select([self._master], [], [], seconds)[0]:
            return False
        with contextlib.suppress(BlockingIOError, OSError):
            chunk = os.read(self._master, _READ_BYTES)
            self.screen += chunk
            return bool(chunk)
        return False
