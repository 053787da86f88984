"""Entry of `spacegray`: errors become one line here, and `shell` takes its short way."""

import contextlib
import errno
import io
import os
import sys

from spacegray.cli.interrupts import keep_interrupts
from spacegray.errors import SpacegrayError, StoppedError


def main() -> int:
    """Run the command line; returns the exit status."""
    _settle_output()
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


def _settle_output() -> None:
    """What standard output has no characters for is escaped; closed, it is as if thrown away."""
    if not isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
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
