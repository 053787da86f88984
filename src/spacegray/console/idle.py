"""When nobody needs the console any more, it ends itself."""

import time
from collections.abc import Callable

from spacegray.console.limits import IDLE_SECONDS
from spacegray.console.machines import ALIVE, Machines
from spacegray.errors import SpacegrayError


class Idleness:
    """Measures for how long nobody has needed the console."""

    def __init__(
        self,
        machines: Machines,
        watched: Callable[[], bool],
        *,
        limit_seconds: float = IDLE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._machines = machines
        self._watched = watched
        self._limit_seconds = limit_seconds
        self._clock = clock
        self._since = clock()

    def over(self) -> bool:
        """Whether the limit is reached: no workstation alive and nobody watching since then."""
        if self._watched() or self._any_alive():
            self._since = self._clock()
        return self._clock() - self._since >= self._limit_seconds

    def _any_alive(self) -> bool:
        for name in self._machines.names():
            try:
                if self._machines.find(name).status()["state"] in ALIVE:
                    return True
            except SpacegrayError:
                # Deleted since it was listed.
                continue
        return False
