"""A vault that is watched by ptrace(2), to be killed at the system call of one's choice.

The tracer is the vault's parent from its first instruction on: later nobody may trace it.
"""

import contextlib
import os
import signal
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

from tests.support import ptrace
from tests.support.vaultd import Vaultd, opened, program

_DYNSYM = 11
_SYMBOL = struct.Struct("<IBBHQQ")
_VDSO_BYTES = 8192
_TIME_CALLS = {"__vdso_clock_gettime": 228, "__vdso_gettimeofday": 96, "__vdso_time": 201}


class TracedVaultd(Vaultd):
    """A vault whose system calls are counted from `arm` on."""

    def __init__(self, process: "subprocess.Popen[str]", link: socket.socket) -> None:
        super().__init__(process, link)
        self.calls: list[ptrace.Call] = []
        """The system calls since then, in order; the last one may not have been made."""
        self._armed = False
        self._kill_at: int | None = None

    def arm(self, kill_at: int | None = None) -> None:
        """Count from now on, and kill the vault before the call of this number (from 1 on)."""
        self.calls.clear()
        self._kill_at = kill_at
        self._armed = True

    def disarm(self) -> None:
        """Count no more."""
        self._armed = False

    def note(self) -> bool:
        """A system call is about to be made; whether the vault is to die first."""
        if self._armed:
            self.calls.append(ptrace.call(self.process.pid))
        return self._armed and len(self.calls) == self._kill_at


@contextlib.contextmanager
def traced_vaultd(state_folder: Path, *, own_clock: bool = True) -> Iterator[TracedVaultd]:
    """A vault on this folder, as `tests.support.vaultd.vaultd` starts it, and traced.

    Without its `own_clock` (the vDSO, where time is told without a system call) it has to ask the
    kernel, where that is seen.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    started: list[TracedVaultd] = []
    ready = threading.Event()

    def work() -> None:
        with theirs, opened(state_folder, os.O_DIRECTORY) as folder:
            process = subprocess.Popen(
                [str(program()), "--state-fd", str(folder), "--link-fd", str(theirs.fileno())],
                pass_fds=(folder, theirs.fileno()),
                stdin=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                text=True,
                preexec_fn=lambda: ptrace.ptrace(ptrace.TRACEME),
            )
        vault = TracedVaultd(process, ours)
        started.append(vault)
        ready.set()
        _trace(vault, own_clock=own_clock)

    thread = threading.Thread(target=work)
    thread.start()
    with ours:
        assert ready.wait(ptrace.SECONDS)
        try:
            yield started[0]
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(started[0].process.pid, signal.SIGKILL)
            thread.join(ptrace.SECONDS)
            assert not thread.is_alive()


def _trace(vault: TracedVaultd, *, own_clock: bool) -> None:
    """Let the vault run from system call to system call, to its end."""
    pid = vault.process.pid
    entering = False
    started = False
    while True:
        _, status = os.waitpid(pid, ptrace.WALL)
        if not os.WIFSTOPPED(status):
            # Popen has not seen its end, and must not wait for a number that may be another's.
            vault.process.returncode = os.waitstatus_to_exitcode(status)
            return
        if not started:
            started = True
            ptrace.ptrace(ptrace.SETOPTIONS, pid, 0, ptrace.SYSGOOD | ptrace.EXITKILL)
            if not own_clock:
                _ask_the_kernel_for_time(pid)
        passed_on = 0
        if os.WSTOPSIG(status) == ptrace.SYSCALL_STOP:
            entering = not entering
            if entering and vault.note():
                os.kill(pid, signal.SIGKILL)
                continue
        elif os.WSTOPSIG(status) != signal.SIGTRAP:
            passed_on = os.WSTOPSIG(status)
        with contextlib.suppress(ProcessLookupError):
            ptrace.ptrace(ptrace.SYSCALL, pid, 0, passed_on)


def _ask_the_kernel_for_time(pid: int) -> None:
    """Have the vDSO's functions, which tell the time without a system call, make one instead."""
    maps = Path(f"/proc/{pid}/maps").read_text().splitlines()
    start = next(int(line.partition("-")[0], 16) for line in maps if line.endswith("[vdso]"))
    with open(f"/proc/{pid}/mem", "r+b", 0) as memory:
        memory.seek(start)
        for name, offset in _symbols(memory.read(_VDSO_BYTES)):
            if number := _TIME_CALLS.get(name):
                memory.seek(start + offset)
                # mov eax, number; syscall; ret
                memory.write(b"\xb8" + struct.pack("<I", number) + b"\x0f\x05\xc3")


def _symbols(image: bytes) -> Iterator[tuple[str, int]]:
    """The names and values in a 64-bit ELF file's table of dynamic symbols (elf(5))."""
    (at,) = struct.unpack_from("<Q", image, 0x28)
    size, count = struct.unpack_from("<HH", image, 0x3A)
    sections = [struct.unpack_from("<IIQQQQII", image, at + k * size) for k in range(count)]
    _, _, _, _, offset, length, link, _ = next(each for each in sections if each[1] == _DYNSYM)
    names = sections[link][4]
    for entry in range(offset, offset + length, _SYMBOL.size):
        name, _, _, _, value, _ = _SYMBOL.unpack_from(image, entry)
        yield image[names + name :].split(b"\0", 1)[0].decode(), value
