"""Killing a process before each thing that it does: what a power cut finds half done.

The process that acts is killed together with the chip, which dies with it.
"""

import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any

Steps = Sequence[tuple[Any, str]]
"""Where each thing is done that changes something or makes it last: an object and a name in it."""


def cut(act: Callable[[], None], steps: Steps, kill_at: int | None) -> int:
    """Do `act` in a process that kills itself before the step of that number; how many there were.

    The steps are counted from 1; the last one counted was not done. `act` may change what it likes
    of this program: it is a copy that does it.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reader)
            _count(steps, lambda number: _step(writer, number, kill_at))
            act()
            os.write(writer, b"done\n")
        except BaseException as error:
            os.write(writer, f"{error!r}\n".encode())
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader) as said:
        lines = said.read().splitlines()
    os.waitpid(child, 0)
    taken = len([line for line in lines if line == "step"])
    assert ("done" in lines) == (kill_at is None or taken < kill_at), lines
    return taken


def _step(writer: int, number: int, kill_at: int | None) -> None:
    os.write(writer, b"step\n")
    if number == kill_at:
        os.kill(os.getpid(), signal.SIGKILL)


def _count(steps: Steps, step: Callable[[int], None]) -> None:
    """Have `step` called before each of them, with its number."""
    numbers = iter(range(1, sys.maxsize))

    def watched(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*words: Any, **named: Any) -> Any:
            step(next(numbers))
            return function(*words, **named)

        return call

    for place, name in steps:
        setattr(place, name, watched(getattr(place, name)))
