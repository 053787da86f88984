"""One errand of the console: `python -m spacegray.console.errand VERB NAME`.

VERB is start, stop, restart or recovery.

Exits 0 when it is done, else 1 after printing the error's three parts as a JSON list.
"""

import json
import signal
import sys

from spacegray.errors import SpacegrayError
from spacegray.paths import Paths
from spacegray.workstation.api import Workstation


def main(verb: str, name: str) -> int:
    """Do it; returns the exit status."""
    # Whoever set it off may be gone by the time it has something to say.
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    try:
        workstation = Workstation.find(Paths.current(), name)
        match verb:
            case "start":
                workstation.start()
            case "stop":
                workstation.stop()
            case "recovery":
                workstation.start(target="recovery")
            case _:
                workstation.restart()
    except SpacegrayError as error:
        print(json.dumps([error.doing, error.stopped_by, error.next_step]))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
