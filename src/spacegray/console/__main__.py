"""The console's program: `python -m spacegray.console [--idle-exit] [--detach]`.

With --detach it leaves its caller once it listens, having printed its port.
"""

import argparse
import logging
import logging.handlers
import os
import resource
import sys
from collections.abc import Callable

from spacegray.console import daemon
from spacegray.console.limits import KNOCK_SECONDS, LOG_LIMIT_BYTES
from spacegray.errors import SpacegrayError
from spacegray.files import locked, make_private
from spacegray.paths import Paths


def main() -> int:
    """Run the console; returns the exit status."""
    parser = argparse.ArgumentParser(prog="spacegray.console", description="the console")
    parser.add_argument("--idle-exit", action="store_true", help="end when nobody needs it")
    parser.add_argument("--detach", action="store_true", help="go on without the caller")
    options = parser.parse_args()
    # Sessions live in this process's memory: no core of it may lie about.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.umask(0o077)
    ready: Callable[[str], None] = daemon.detach() if options.detach else print
    try:
        return _run(Paths.current(), ready, idle_exit=options.idle_exit)
    except SpacegrayError as error:
        print(error, file=sys.stderr)
        return error.exit_status


def _run(paths: Paths, ready: Callable[[str], None], *, idle_exit: bool) -> int:
    # After the fork: these bring threads and sockets along.
    from spacegray.console.own import OwnMachines
    from spacegray.console.server import Server, listen

    make_private(paths.run)
    make_private(paths.state)
    _log_to_file(paths)
    # One that is just ending still holds the lock, for a moment.
    with locked(paths.run / "console.lock", timeout_seconds=KNOCK_SECONDS) as held:
        if not held:
            raise SpacegrayError("starting the console", "it runs already", "use `spacegray open`")
        listener = listen()
        port = listener.getsockname()[1]
        Server(OwnMachines(paths), paths, listener).run(
            idle_exit=idle_exit, on_ready=lambda: ready(f"{port}\n")
        )
    return 0


def _log_to_file(paths: Paths) -> None:
    """Into the state folder; what is logged holds no tokens, cookies or addresses with them."""
    handler = logging.handlers.RotatingFileHandler(
        paths.state / "console.log", maxBytes=LOG_LIMIT_BYTES, backupCount=1
    )
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])


if __name__ == "__main__":
    sys.exit(main())
