"""Getting an address of the console, whether one runs already or has to be started.

The console is one process per user (per SPACEGRAY_HOME), apart from whoever starts it: its own
session, no terminal, no pipe of the caller's. Two who start it at once get the same one.
"""

import subprocess

from spacegray.console.knock import knock
from spacegray.console.limits import FIRST_PORT, START_SECONDS
from spacegray.errors import SpacegrayError
from spacegray.files import locked, make_private
from spacegray.paths import Paths
from spacegray.process import minimal_environment, python
from spacegray.progress import Progress, Silent

DOING = "opening the console"


def ensure(
    paths: Paths, workstation: str | None = None, *, progress: Progress | None = None
) -> str:
    """A one-time address of the console, which is started where it does not run.

    It counts once and for TOKEN_SECONDS, opens on `workstation` where given, and is a secret:
    print it, but put it into no argument or log. Raises SpacegrayError.
    """
    request = {"op": "open"} | ({"workstation": workstation} if workstation else {})
    make_private(paths.run)
    make_private(paths.state)
    with locked(paths.run / "console.starting", timeout_seconds=START_SECONDS) as held:
        if not held:
            raise SpacegrayError(DOING, "somebody else is starting it and hangs", "try again")
        answer = knock(paths, request)
        if answer is None or "url" not in answer:
            _start(progress or Silent())
            answer = knock(paths, request)
    if answer is None or "url" not in answer:
        raise SpacegrayError(DOING, "it ended at once", f"see {paths.console_log}")
    return str(answer["url"])


def stop(paths: Paths) -> bool:
    """End the console where it runs; says whether it did. The workstations go on."""
    return knock(paths, {"op": "quit"}) is not None


def _start(progress: Progress) -> None:
    """Start it and return once it listens."""
    command = [*python("spacegray.console"), "--idle-exit", "--detach"]
    try:
        started = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=START_SECONDS,
            env=minimal_environment(),
            cwd="/",
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise SpacegrayError(
            DOING, f"it was not ready within {START_SECONDS:.0f} seconds", "try again"
        ) from None
    if started.returncode != 0:
        lines = started.stderr.strip().splitlines() or ["it ended without a word"]
        raise SpacegrayError(DOING, lines[-1], f"see {Paths.current().console_log}")
    port = int(started.stdout)
    if port != FIRST_PORT:
        progress.note(f"port {FIRST_PORT} is in use; the console listens on port {port}")
