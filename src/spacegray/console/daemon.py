"""Leaving whoever started us: own session, no terminal, standard streams to nowhere.

The starter waits on a pipe until the daemon says one line, or ends without having said it.
"""

import os
import sys
from collections.abc import Callable
from typing import NoReturn

_LINE_LIMIT_BYTES = 4096


def detach() -> Callable[[str], None]:
    """Go on as a daemon; returns what to call once with the line that says it is ready.

    Must be called before there are threads. The process that called goes no further: it
    prints that line and exits 0, or exits 1 when the daemon ends without one. Up to that line
    the daemon's standard error is still the caller's, for a reason to be heard.
    """
    reading, writing = os.pipe()
    if os.fork() != 0:
        os.close(writing)
        _wait(reading)
    os.close(reading)
    os.setsid()
    # No longer the leader of a session: no terminal can ever become ours.
    if os.fork() != 0:
        os._exit(0)
    os.chdir("/")
    os.umask(0o077)

    def ready(line: str) -> None:
        nowhere = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nowhere, stream)
        os.close(nowhere)
        os.write(writing, line.encode())
        os.close(writing)

    return ready


def _wait(reading: int) -> NoReturn:
    os.wait()
    line = os.read(reading, _LINE_LIMIT_BYTES)
    sys.stdout.write(line.decode())
    sys.stdout.flush()
    os._exit(0 if line else 1)
