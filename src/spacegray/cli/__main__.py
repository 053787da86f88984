"""Entry of `spacegray`: errors become one line here, and `shell` takes its short way."""

import contextlib
import errno
import io
import os
import sys

from spacegray.cli.interrupts import keep_interrupts
from spacegray.errors import SpacegrayError, StoppedError

_LAST_STREAM = 2
"""Standard error's number, the highest of the three."""


def main() -> int:
    """Run the command line; returns the exit status."""
    _settle_streams()
    keep_interrupts()
    try:
        status = _dispatch(sys.argv[1:])
        sys.stdout.flush()
        return status
    except SpacegrayError as error:
        _say(f"spacegray: {error}")
        return error.exit_status
    except KeyboardInterrupt:
        _say("spacegray: interrupted; nothing is lost, the same command goes on from here")
        return StoppedError.exit_status
    except BrokenPipeError:
        # Whoever read our output has left (head, less); nothing more is to be said.
        _drop_output()
        return 1
    except OSError as error:
        if error.errno != errno.ENOSPC or error.filename is not None:
            raise
        _drop_output()
        _say("spacegray: writing: no space left on that disk; make room there and try again")
        return 1


def _settle_streams() -> None:
    """Standard streams that were closed are as if nothing came or went; none of our files gets
    their numbers. What standard output has no characters for is escaped.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= _LAST_STREAM:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    # A stream of none of the usual kinds is closed, and so its number is the null device's now.
    if not isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin = open(0, closefd=False)  # noqa: SIM115
    if not isinstance(sys.stderr, io.TextIOWrapper):
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
    if not isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    elif sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")


def _drop_output() -> None:
    """What is still to be written goes nowhere, so that the interpreter's end does not fail."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _dispatch(words: list[str]) -> int:
    if words[:1] == ["shell"]:
        # Half a second is all that `shell` may take: none of the other verbs' imports.
        from spacegray.cli.shell import shell

        return shell(words[1:])
    from spacegray.cli.app import run

    return run(words)


def _say(text: str) -> None:
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
