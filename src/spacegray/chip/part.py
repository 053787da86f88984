"""A part of the chip that is a process of its own: the vault, the disk's controller.

Invariants: a part dies with the chip; its end is noticed by the kernel's word (a pidfd), not
by asking now and then; of what it says on standard error only the last `TAIL_BYTES` are kept.
"""

import contextlib
import os
import select
import signal
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Protocol

from spacegray import process

TAIL_BYTES: Final = 4096
_READ_BYTES: Final = 4096


class Watcher(Protocol):
    """The chip's loop, as far as parts need it."""

    def watch(self, descriptor: int, callback: Callable[[], None]) -> None:
        """Call `callback` whenever `descriptor` is readable."""

    def unwatch(self, descriptor: int) -> None:
        """Forget `descriptor`."""


class Part:
    """A running child of the chip."""

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        descriptors: Sequence[int],
        watcher: Watcher,
        ended: Callable[["Part"], None],
    ) -> None:
        """Start `command`; `ended` is called once from the loop if it ends unasked.

        It confines itself, and more tightly than its parent could.

        Raises OSError when it cannot be started.
        """
        self._watcher = watcher
        self._ended = ended
        self._tail = b""
        self._diagnostics, child_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        os.set_blocking(child_end, True)
        try:
            self._child = process.spawn(
                command,
                descriptors=descriptors,
                confines_itself=True,
                stdout=child_end,
                stderr=child_end,
            )
        except BaseException:
            os.close(self._diagnostics)
            raise
        finally:
            os.close(child_end)
        self._pidfd = os.pidfd_open(self._child.pid)
        watcher.watch(self._diagnostics, self._listen)
        watcher.watch(self._pidfd, self._notice_end)

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def running(self) -> bool:
        return self._child.poll() is None

    def last_words(self) -> str:
        """Its last line on standard error and how it ended, as far as there is either."""
        self._drain()
        lines = self._tail.decode(errors="replace").split("\n")
        spoken = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return ": ".join(filter(None, (self.how_ended(), spoken)))

    def how_ended(self) -> str:
        """`signal SIGKILL`, `exit status 1`; empty while it runs."""
        status = self._child.poll()
        if status is None:
            return ""
        if status < 0:
            return f"signal {signal.Signals(-status).name}"
        return f"exit status {status}"

    def stop(self, *, timeout_seconds: float) -> int:
        """End it (SIGTERM, then SIGKILL); returns its exit status. May be called again."""
        self._forget(self._pidfd)
        status = process.stop(self._child, timeout_seconds=timeout_seconds)
        self._drain()
        self._forget(self._diagnostics)
        self._pidfd = self._diagnostics = -1
        return status

    def kill(self, *, patience_seconds: float) -> None:
        """End it at once (SIGKILL) and report nothing; it is waited for no longer than that.

        One that waits for the host's disk just then ends as soon as that has answered; the loop
        buries it.
        """
        self._ended = _ended_unheard
        if self._pidfd < 0:
            return
        self._child.kill()
        if select.select([self._pidfd], [], [], patience_seconds)[0]:
            self.stop(timeout_seconds=0)

    def wait(self, timeout_seconds: float) -> int | None:
        """Its exit status once it ends by itself, None when it did not in time."""
        try:
            return self._child.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            return None

    def _notice_end(self) -> None:
        self._child.wait()
        self.stop(timeout_seconds=0)
        self._ended(self)

    def _listen(self) -> None:
        if not self._drain():
            self._watcher.unwatch(self._diagnostics)

    def _drain(self) -> bool:
        """Take in what was said; False once nobody can say anything more."""
        if self._diagnostics < 0:
            return False
        with contextlib.suppress(BlockingIOError):
            while chunk := os.read(self._diagnostics, _READ_BYTES):
                self._tail = (self._tail + chunk)[-TAIL_BYTES:]
            return False
        return True

    def _forget(self, descriptor: int) -> None:
        if descriptor >= 0:
            self._watcher.unwatch(descriptor)
            os.close(descriptor)


def _ended_unheard(_: Part) -> None:
    """What nobody wants to hear of."""
