"""Swapping a file under the hands of who checks it: at each opening and reading, not by luck.

The process stands still while the content is exchanged: before a path is opened another file is
put there, before an open file is read its content is overwritten.
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.support import ptrace
from tests.support.ptrace import Call

_OPEN, _OPENAT, _OPENAT2 = 2, 257, 437
_BY_FIRST = {0, 17, 19, 295, 326, 275}
"""read, pread64, readv, preadv, copy_file_range, splice: from their first argument."""
_SENDFILE, _MMAP = 40, 9
_MMAP_DESCRIPTOR = 4
_PATH_LIMIT_BYTES = 4096

Plan = Callable[[int], bool]
"""Whether the bad content is in place when the step of this number (from 0 on) is made."""


@dataclass
class Swapper:
    """One file that is exchanged; `good` and `bad` are equally long."""

    pid: int
    path: Path
    good: bytes
    bad: bytes
    plan: Plan
    steps: list[str] = field(default_factory=list)
    """What the process did with the file: `open` or `read`."""

    def note(self, call: Call) -> None:
        """Before a system call."""
        step = self._step(call)
        if step is None:
            return
        kind, descriptor = step
        content = self.bad if self.plan(len(self.steps)) else self.good
        self.steps.append(kind)
        if kind == "open":
            self.put(content)
        else:
            with open(f"/proc/{self.pid}/fd/{descriptor}", "r+b") as file:
                file.write(content)

    def put(self, content: bytes) -> None:
        """Another file at the path."""
        other = self.path.with_name("exchanged")
        other.write_bytes(content)
        other.replace(self.path)

    def _step(self, call: Call) -> tuple[str, int] | None:
        if call.number in (_OPEN, _OPENAT, _OPENAT2):
            path = self._text(call.first if call.number == _OPEN else call.second)
            return ("open", -1) if path == os.fsencode(self.path) else None
        if call.number in _BY_FIRST:
            descriptor = call.first
        elif call.number == _SENDFILE:
            descriptor = call.second
        elif call.number == _MMAP:
            descriptor = call.arguments[_MMAP_DESCRIPTOR]
        else:
            return None
        with contextlib.suppress(OSError):
            target = Path(f"/proc/{self.pid}/fd/{descriptor}").readlink()
            if str(target).removesuffix(" (deleted)") == str(self.path):
                return "read", descriptor
        return None

    def _text(self, address: int) -> bytes:
        with open(f"/proc/{self.pid}/mem", "rb", 0) as memory:
            memory.seek(address)
            # As far as it is readable; a path ends before.
            return os.read(memory.fileno(), _PATH_LIMIT_BYTES).split(b"\0", 1)[0]


@contextlib.contextmanager
def swapping(pid: int, path: Path, bad: bytes, plan: Plan) -> Iterator[Swapper]:
    """Exchange what lies at `path` by `plan` while the process works; as before at the end."""
    good = path.read_bytes()
    assert len(good) == len(bad)
    swapper = Swapper(pid, path, good, bad, plan)
    try:
        with ptrace.watched(pid, swapper.note):
            yield swapper
    finally:
        swapper.put(good)
