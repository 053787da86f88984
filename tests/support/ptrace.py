"""ptrace(2) on x86-64 Linux: what a tracer needs of it, and how its calls are made."""

import contextlib
import ctypes
import os
import signal
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

TRACEME, SYSCALL, SETOPTIONS, GETREGS, DETACH = 0, 24, 0x4200, 12, 17
SEIZE, INTERRUPT = 0x4206, 0x4207
SYSGOOD, EXITKILL = 0x1, 0x100000
"""PTRACE_O_TRACESYSGOOD, PTRACE_O_EXITKILL."""
SYSCALL_STOP = signal.SIGTRAP | 0x80
WALL = 0x40000000
SECONDS = 60
_REGISTERS = struct.Struct("27Q")
_NUMBER, _ARGUMENTS = 15, (14, 13, 12, 7, 9, 8)
"""Where a system call's number and arguments are: orig_rax; rdi, rsi, rdx, r10, r8, r9."""

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.restype = ctypes.c_long
_libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)


@dataclass(frozen=True)
class Call:
    """A system call: its number and its arguments."""

    number: int
    arguments: tuple[int, ...]

    @property
    def first(self) -> int:
        return self.arguments[0]

    @property
    def second(self) -> int:
        return self.arguments[1]


def ptrace(request: int, pid: int = 0, address: int = 0, data: int = 0) -> None:
    """The system call; an error is an OSError."""
    if _libc.ptrace(request, pid, address, data) < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def call(pid: int) -> Call:
    """The system call that a stopped process is about to make."""
    registers = ctypes.create_string_buffer(_REGISTERS.size)
    ptrace(GETREGS, pid, 0, ctypes.addressof(registers))
    values = _REGISTERS.unpack(registers.raw)
    return Call(values[_NUMBER], tuple(values[at] for at in _ARGUMENTS))


@contextlib.contextmanager
def watched(pid: int, note: Callable[[Call], None]) -> Iterator[None]:
    """Call `note` before each system call of a child's first thread, which waits meanwhile."""
    started, ended = threading.Event(), threading.Event()
    failures: list[BaseException] = []

    def work() -> None:
        try:
            ptrace(SEIZE, pid, 0, SYSGOOD)
            ptrace(INTERRUPT, pid)
            _follow(pid, note, started, ended)
        except BaseException as error:
            failures.append(error)
            started.set()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        assert started.wait(SECONDS)
        yield
    finally:
        ended.set()
        # Ignored by whoever has no handler, and stops who is traced.
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGURG)
        thread.join(SECONDS)
        assert not thread.is_alive()
        assert not failures, failures


def _follow(
    pid: int, note: Callable[[Call], None], started: threading.Event, ended: threading.Event
) -> None:
    entering = False
    while True:
        _, status = os.waitpid(pid, WALL)
        if not os.WIFSTOPPED(status):
            return
        passed_on = 0
        if os.WSTOPSIG(status) == SYSCALL_STOP:
            entering = not entering
            if entering:
                note(call(pid))
        elif os.WSTOPSIG(status) != signal.SIGTRAP:
            passed_on = os.WSTOPSIG(status)
        if ended.is_set():
            ptrace(DETACH, pid, 0, passed_on)
            return
        ptrace(SYSCALL, pid, 0, passed_on)
        started.set()
