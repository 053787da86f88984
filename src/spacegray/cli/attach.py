"""The serial console of a machine on this terminal, full screen, until Ctrl-] or the machine's end.

A serial line knows no size: how large the terminal is is told beside it, at first and whenever it
changes, to whoever can pass it on. Whatever happens, the terminal is as it was at the end.
"""

import contextlib
import os
import select
import shutil
import signal
import socket
import sys
import termios
import tty
from collections.abc import Callable, Iterator
from typing import Final, Literal

LEAVE: Final = b"\x1d"
"""Ctrl-]; nothing in recovery wants it."""
CHUNK_BYTES: Final = 4096
SEND_SECONDS: Final = 5.0
"""How long the machine may leave a key untaken."""

_REPAINT: Final = b"\x0c"
"""Ctrl-L: what was drawn before anybody looked is drawn again."""
_ENTER: Final = b"\x1b[?1049h\x1b[2J\x1b[H"
"""The terminal's other page, empty: what was on it before comes back at the end."""
_END: Final = (
    b"\x1b[0m\x1b(B\x0f\x1b[r\x1b[?1l\x1b>\x1b[?25h\x1b[?1000l\x1b[?1002l\x1b[?1006l\x1b[?2004l"
    b"\x1b[?1049l"
)
"""Plain letters, colours and keys, the whole page, a cursor, no mouse; then the first page."""

End = Literal["left", "ended"]
Resize = Callable[[int, int], None]
"""Told the terminal's rows and columns."""


def possible() -> bool:
    """Whether a terminal is there to be used."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def attach(connection: socket.socket, resize: Resize) -> End:
    """Show it and pass on what is typed; says whether somebody left or the machine ended it."""
    keyboard, screen = sys.stdin.fileno(), sys.stdout.fileno()
    with _taken_over(keyboard, screen), _resizes() as resized:
        connection.settimeout(SEND_SECONDS)
        try:
            _tell_size(resize)
            connection.sendall(_REPAINT)
            return _relay(connection, keyboard, screen, resized, resize)
        except OSError:
            return "ended"


def _relay(
    connection: socket.socket, keyboard: int, screen: int, resized: int, resize: Resize
) -> End:
    while True:
        ready, _, _ = select.select([connection.fileno(), keyboard, resized], [], [])
        if resized in ready:
            os.read(resized, CHUNK_BYTES)
            _tell_size(resize)
        if connection.fileno() in ready:
            shown = connection.recv(CHUNK_BYTES)
            if not shown:
                return "ended"
            _write(screen, shown)
        if keyboard in ready:
            typed = os.read(keyboard, CHUNK_BYTES)
            before, leave, _ = typed.partition(LEAVE)
            if before:
                connection.sendall(before)
            if leave or not typed:
                return "left"


def _tell_size(resize: Resize) -> None:
    size = shutil.get_terminal_size()
    resize(size.lines, size.columns)


@contextlib.contextmanager
def _resizes() -> Iterator[int]:
    """A descriptor that can be read whenever the terminal has got another size."""
    reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    before = signal.signal(signal.SIGWINCH, lambda *_: None)
    woken = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    try:
        yield reader
    finally:
        signal.set_wakeup_fd(woken)
        signal.signal(signal.SIGWINCH, before)
        os.close(reader)
        os.close(writer)


@contextlib.contextmanager
def _taken_over(keyboard: int, screen: int) -> Iterator[None]:
    before = termios.tcgetattr(keyboard)
    try:
        tty.setraw(keyboard, termios.TCSAFLUSH)
        _write(screen, _ENTER)
        yield
    finally:
        with contextlib.suppress(OSError):
            _write(screen, _END)
        termios.tcsetattr(keyboard, termios.TCSADRAIN, before)


def _write(screen: int, data: bytes) -> None:
    while data:
        data = data[os.write(screen, data) :]
