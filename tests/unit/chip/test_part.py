"""A part of the chip: its end is noticed and explained, its words are bounded."""

import os
import select
import signal
from pathlib import Path

import pytest

from spacegray.chip.part import TAIL_BYTES, Part
from tests.support.chip import StillLoop

PATIENCE_SECONDS = 10.0


def start(script: str, loop: StillLoop, ended: list[Part]) -> Part:
    return Part(["sh", "-c", script], descriptors=(), watcher=loop, ended=ended.append)


def turn(loop: StillLoop, until: list[Part]) -> None:
    """Turn the loop until something has ended."""
    while not until:
        readable, _, _ = select.select(list(loop.watched), [], [], PATIENCE_SECONDS)
        assert readable, "nothing ended in time"
        for descriptor in readable:
            if descriptor in loop.watched:
                loop.watched[descriptor]()


def test_an_end_unasked_is_noticed_with_its_last_words() -> None:
    loop, ended = StillLoop(), list[Part]()
    part = start("echo one >&2; echo two >&2; exit 3", loop, ended)
    turn(loop, ended)
    assert ended == [part]
    assert part.last_words() == "exit status 3: two"
    assert not loop.watched


def test_a_killed_part_names_the_signal() -> None:
    loop, ended = StillLoop(), list[Part]()
    part = start("exec sleep 1000", loop, ended)
    os.kill(part.pid, signal.SIGKILL)
    turn(loop, ended)
    assert part.last_words() == "signal SIGKILL"


def test_an_end_on_request_is_no_failure() -> None:
    loop, ended = StillLoop(), list[Part]()
    part = start("exec sleep 1000", loop, ended)
    assert part.stop(timeout_seconds=PATIENCE_SECONDS) == -signal.SIGTERM
    assert not ended
    assert not loop.watched
    assert part.stop(timeout_seconds=0) == -signal.SIGTERM


def test_a_chatterbox_fills_neither_memory_nor_its_pipe() -> None:
    """Promise: a part that is made to complain without end cannot stop or bloat the chip."""
    loop, ended = StillLoop(), list[Part]()
    part = start("head -c 1000000 /dev/zero | tr '\\0' x >&2; echo done >&2", loop, ended)
    turn(loop, ended)
    assert len(part.last_words()) <= TAIL_BYTES + len("exit status 0: ")
    assert part.last_words().endswith("done")


def test_a_missing_program_is_an_error_and_leaves_nothing() -> None:
    loop = StillLoop()
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(FileNotFoundError):
        Part(["/nowhere"], descriptors=(), watcher=loop, ended=lambda _: None)
    assert not loop.watched
    assert len(list(Path("/proc/self/fd").iterdir())) == before
