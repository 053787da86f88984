"""Being told to end, in order."""

import contextlib
import signal
import sys
from collections.abc import Iterator
from typing import Final

AGAIN_SECONDS: Final = 0.02
"""How long after one that was passed over an interrupt comes again."""


def keep_interrupts() -> None:
    """From now on a Ctrl-C is not lost where Python passes over errors: it comes again.

    Such places are finalizers, weak references' callbacks, and what libraries registered to run
    at a fork (`logging` does).
    """

    def come_again(passed_over: "sys.UnraisableHookArgs") -> None:
        if passed_over.exc_type is not KeyboardInterrupt:
            sys.__unraisablehook__(passed_over)
            return
        signal.setitimer(signal.ITIMER_REAL, AGAIN_SECONDS)

    signal.signal(signal.SIGALRM, signal.default_int_handler)
    sys.unraisablehook = come_again


@contextlib.contextmanager
def told_to_end() -> Iterator[None]:
    """SIGTERM and SIGHUP end what runs here as Ctrl-C does: in order."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = {each: signal.signal(each, interrupt) for each in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
