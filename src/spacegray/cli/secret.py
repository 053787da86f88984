"""Secrets on their way to the chip: a first line, moved into a pipe without being read here.

From a file, standard input or the terminal `head` and `tr` move the line into a pipe, and the
pipe's reading end is what the chip gets. Where the same secret is needed twice the kernel copies
it from pipe to pipe (tee(2)); two entries are compared by `cmp`, and what the chip writes is shown
by `cat`. What this process learns of a secret is its length, and whether two are the same.
"""

import array
import contextlib
import ctypes
import fcntl
import os
import stat
import subprocess
import sys
import termios
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, Self

from spacegray import host, process
from spacegray.errors import SpacegrayError, UsageError

SECRET_LIMIT_BYTES: Final = 1024
STDIN: Final = "-"

_TAKE: Final = (
    ("head", "-n", "1"),
    # One byte more than a secret and its line end may have: an endless line ends here.
    ("head", "-c", str(SECRET_LIMIT_BYTES + 1)),
    ("tr", "-d", "\\n"),
)
_KEEP_ZEROS: Final = (("tr", "-dc", "\\000"),)
_LOCAL_MODES: Final = 3
"""Where tcgetattr(3)'s c_lflag stands in Python's list."""
_SPLICE_F_NONBLOCK: Final = 2
_libc = ctypes.CDLL(None, use_errno=True)


class Secret:
    """A secret in a pipe of its own. Owns it; a context manager."""

    def __init__(self, reader: int) -> None:
        """Take over `reader`, the reading end of a pipe whose writers are done."""
        self._reader = reader

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Forget it; may be called again."""
        if self._reader >= 0:
            os.close(self._reader)
            self._reader = -1

    @property
    def length_bytes(self) -> int:
        """How long it is."""
        waiting = array.array("i", [0])
        fcntl.ioctl(self._reader, termios.FIONREAD, waiting)
        return waiting[0]

    def copy(self) -> int:
        """Another pipe with the same in it: its reading end, the caller's to close."""
        reader, writer = os.pipe2(os.O_CLOEXEC)
        try:
            copied = _libc.tee(
                self._reader, writer, ctypes.c_size_t(self.length_bytes), _SPLICE_F_NONBLOCK
            )
            if copied != self.length_bytes:
                raise OSError(ctypes.get_errno(), "tee")
        except BaseException:
            os.close(reader)
            raise
        finally:
            os.close(writer)
        return reader

    def same_as(self, other: "Secret") -> bool:
        """Whether the two are the same, by `cmp`."""
        ours, theirs = self.copy(), other.copy()
        try:
            child = process.spawn(
                ["cmp", "-s", f"/dev/fd/{ours}", f"/dev/fd/{theirs}"], descriptors=(ours, theirs)
            )
            return child.wait() == 0
        finally:
            os.close(ours)
            os.close(theirs)

    def has_zeros(self) -> bool:
        """Whether there is a zero byte in it, which no password may have."""
        source = self.copy()
        try:
            with Secret(_through(source, _KEEP_ZEROS)[0]) as zeros:
                return zeros.length_bytes > 0
        finally:
            os.close(source)


def read(source: str, what: str) -> Secret:
    """The first line of the file `source`, or for `-` of standard input.

    Raises UsageError where that is no secret; `what` is what it is for, such as `password`.
    """
    doing = f"reading the {what} from {'standard input' if source == STDIN else source}"
    if source == STDIN:
        return _checked(_take(sys.stdin.fileno(), doing), doing, what)
    try:
        descriptor = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise UsageError(doing, *_unreadable(source, error)) from None
    try:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise UsageError(doing, "it is a folder", "give a file")
        return _checked(_take(descriptor, doing), doing, what)
    finally:
        os.close(descriptor)


def ask(prompt: str) -> Secret:
    """One line typed at the terminal, which does not show it; it may be empty.

    Ctrl-C raises KeyboardInterrupt, with the terminal as it was.
    """
    terminal = sys.stdin.fileno()
    with _silent(terminal):
        _say(prompt)
        try:
            return _take(terminal, "reading from the terminal")
        finally:
            _say("\n")


def ask_new(doing: str, what: str) -> Secret:
    """A new secret typed at the terminal, twice the same; raises UsageError for another."""
    first = _checked(ask(f"New {what}: "), doing, what)
    with ask("Once more: ") as second:
        if not first.same_as(second):
            first.close()
            raise UsageError(doing, "the two differ", "try again")
    return first


def must_be_seen(doing: str) -> None:
    """Raise UsageError where nobody would see what is shown: asked before there is anything."""
    info = os.fstat(sys.stdout.fileno())
    # A standard output that was closed is the null device as well: see `__main__`.
    if stat.S_ISCHR(info.st_mode) and info.st_rdev == Path(os.devnull).stat().st_rdev:
        raise UsageError(
            doing,
            "nobody would see it: standard output is closed, or thrown away",
            "run it at a terminal, or with `> FILE`",
        )


def show(reader: int) -> bool:
    """Have `cat` write what is in a pipe to standard output; returns whether that took all."""
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    child = process.spawn(
        ["cat"], stdin=reader, stdout=sys.stdout.fileno(), stderr=subprocess.DEVNULL
    )
    return child.wait() == 0


def _take(source: int, doing: str) -> Secret:
    reader, statuses = _through(source, _TAKE)
    if statuses[0] > 0:
        os.close(reader)
        raise UsageError(doing, "it could not be read", "give a readable file")
    return Secret(reader)


def _checked(secret: Secret, doing: str, what: str) -> Secret:
    length_bytes = secret.length_bytes
    if not 1 <= length_bytes <= SECRET_LIMIT_BYTES or secret.has_zeros():
        secret.close()
        raise UsageError(
            doing,
            f"the first line is no {what} of 1 to {SECRET_LIMIT_BYTES} bytes",
            f"give one that has the {what} in its first line",
        )
    return secret


def _through(source: int, commands: Sequence[Sequence[str]]) -> tuple[int, list[int]]:
    """What `commands`, one behind the other, make of `source`.

    Returns the reading end of a pipe that holds it (it has to fit into one), and how they ended.
    """
    children: list[subprocess.Popen[bytes]] = []
    last = os.dup(source)
    try:
        for command in commands:
            reader, writer = os.pipe2(os.O_CLOEXEC)
            try:
                children.append(process.spawn(command, stdin=last, stdout=writer))
            finally:
                os.close(writer)
                # Only the next one holds it now: when that one ends, who writes to it is told.
                os.close(last)
                last = reader
        statuses = [child.wait() for child in children]
    except BaseException as error:
        os.close(last)
        if isinstance(error, OSError):
            raise SpacegrayError(
                "moving a secret", error, "see that coreutils is installed"
            ) from None
        raise
    finally:
        for child in children:
            process.stop(child, timeout_seconds=0)
    return last, statuses


@contextlib.contextmanager
def _silent(terminal: int) -> Iterator[None]:
    """The terminal does not show what is typed; whatever happens, it does again at the end."""
    before = termios.tcgetattr(terminal)
    quiet = [*before]
    quiet[_LOCAL_MODES] &= ~termios.ECHO
    try:
        termios.tcsetattr(terminal, termios.TCSAFLUSH, quiet)
        yield
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)


def _unreadable(source: str, error: OSError) -> tuple[str, str]:
    if isinstance(error, PermissionError):
        return (
            f"the user {host.user()} may not read it",
            f"let that user read it, or give it as standard input: - < {source}",
        )
    return error.strerror or str(error), "give a readable file"


def _say(text: str) -> None:
    with contextlib.suppress(OSError):
        print(text, end="", file=sys.stderr, flush=True)
