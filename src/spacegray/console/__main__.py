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
from pathlib import Path
from typing import Final

from spacegray.confinement import Reach, confine
from spacegray.console import daemon
from spacegray.console.limits import KNOCK_SECONDS, LOG_LIMIT_BYTES
from spacegray.errors import SpacegrayError
from spacegray.files import locked, make_private
from spacegray.paths import Paths

_SYSTEM: Final = ("/usr", "/lib", "/lib64", "/etc/localtime", "/etc/mime.types", "/proc")
"""/proc says whether a supervisor still lives, and who is at the other end of a connection."""


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
    from spacegray.console.porter import Porter
    from spacegray.console.server import Server, listen

    make_private(paths.run)
    make_private(paths.workstations)
    _log_to_file(paths)
    # One that is just ending still holds the lock, for a moment.
    with locked(paths.run / "console.lock", timeout_seconds=KNOCK_SECONDS) as held:
        if not held:
            raise SpacegrayError("starting the console", "it runs already", "use `spacegray open`")
        listener = listen()
        port = listener.getsockname()[1]
        server = Server(OwnMachines(paths, Porter()), paths, listener)
        _confine(paths)
        server.run(idle_exit=idle_exit, on_ready=lambda: ready(f"{port}\n"))
    return 0


def _confine(paths: Paths) -> None:
    """Leave this process the workstations' folders to read, its log to write, and no others.

    From here on it connects to nobody and starts nothing: the porter does. What it listens on is
    open already.
    """
    try:
        confine(reach(paths))
    except OSError as error:
        raise SpacegrayError("confining the console", error, "see `spacegray doctor`") from None


def reach(paths: Paths) -> Reach:
    """What the console may open by itself: see `_confine`."""
    ours = Path(__file__).resolve().parents[2]
    system = map(Path, (*_SYSTEM, sys.prefix, sys.base_prefix))
    return Reach(
        read=(*system, ours, paths.workstations),
        write=(paths.console_log.parent, Path(os.devnull)),
    )


def _log_to_file(paths: Paths) -> None:
    """What is logged holds no tokens, cookies or addresses with them."""
    make_private(paths.console_log.parent)
    handler = logging.handlers.RotatingFileHandler(
        paths.console_log, maxBytes=LOG_LIMIT_BYTES, backupCount=1
    )
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])


if __name__ == "__main__":
    sys.exit(main())
