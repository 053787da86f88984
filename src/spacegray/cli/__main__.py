"""Entry of `spacegray`: errors become one line here, and `shell` takes its short way."""

import contextlib
import os
import sys

from spacegray.errors import SpacegrayError

INTERRUPTED_STATUS = 130
"""What shells report for a command that Ctrl-C ended (128 + SIGINT)."""


def main() -> int:
    """Run the command line; returns the exit status."""
    try:
        return _dispatch(sys.argv[1:])
    except SpacegrayError as error:
        _say(f"spacegray: {error}")
        return error.exit_status
    except KeyboardInterrupt:
        _say("spacegray: interrupted; nothing is lost, the same command goes on from here")
        return INTERRUPTED_STATUS
    except BrokenPipeError:
        # Whoever read our output has left (head, less); nothing more is to be said.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1


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
