"""What a taken-over process of the owner's would try, as a program: each attempt by itself.

Reads a JSON object of targets from standard input, prints one of outcomes: `done` for an attempt
that got what it wanted, else the error. It needs nothing but the standard library, and runs from
its text alone (`python -c`): the confined cannot open this file. What it destroys is a decoy.
"""

import ctypes
import fcntl
import json
import os
import signal
import socket
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

_libc = ctypes.CDLL(None, use_errno=True)

PTRACE_SEIZE = 0x4206
PIDFD_OPEN, PIDFD_GETFD, PIDFD_SEND_SIGNAL, IO_URING_SETUP = 434, 438, 424, 425
BYTES = 64


class Vector(ctypes.Structure):
    """struct iovec."""

    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


def call(name, *arguments):
    """A function of the C library; an error is an OSError."""
    result = getattr(_libc, name)(*arguments)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def ask(path, request):
    """One message to a socket at a path, and that anything came back."""
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(20)
        peer.connect(path)
        peer.sendall(request)
        assert peer.recv(BYTES), "no answer"


def ask_by_io_uring(_):
    """A ring makes sockets and connections that no filter on system calls sees."""
    os.close(call("syscall", IO_URING_SETUP, 4, ctypes.create_string_buffer(120)))


def read_memory_file(pid):
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as memory:
        memory.seek(int(maps.readline().partition("-")[0], 16))
        assert memory.read(BYTES)


def read_memory_call(target):
    pid, address = target
    local = ctypes.create_string_buffer(BYTES)
    here = Vector(ctypes.cast(local, ctypes.c_void_p), BYTES)
    there = Vector(address, BYTES)
    call("process_vm_readv", pid, ctypes.byref(here), 1, ctypes.byref(there), 1, 0)


def steal_descriptor(pid):
    process = call("syscall", PIDFD_OPEN, pid, 0)
    os.close(call("syscall", PIDFD_GETFD, process, 0, 0))


def signal_by_descriptor(pid):
    process = call("syscall", PIDFD_OPEN, pid, 0)
    call("syscall", PIDFD_SEND_SIGNAL, process, signal.SIGCONT, None, 0)


def signal_by_owner(pid):
    """A pipe's events, signalled to another process."""
    reading, writing = os.pipe()
    fcntl.fcntl(reading, fcntl.F_SETOWN, pid)
    fcntl.fcntl(reading, 10, signal.SIGCONT)  # F_SETSIG
    os.close(writing)


def disguised_socket(_):
    """A unix socket, with bits that the kernel drops in its address family."""
    family = ctypes.c_long((1 << 32) | socket.AF_UNIX)
    os.close(call("syscall", ctypes.c_long(41), family, ctypes.c_long(1), ctypes.c_long(0)))


def datagram(path):
    """Half of a pair of datagram sockets sends to anybody."""
    one, _ = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    one.sendto(b"hello", path)


def write(path):
    with open(path, "r+b") as file:
        file.write(b"!")


def read(path):
    with open(path, "rb") as file:
        assert file.read(1)


def start_program(path):
    child = os.fork()
    if child == 0:
        os.execv(path, [path])
    assert os.waitpid(child, 0)[1] == 0


def connect(port):
    socket.create_connection(("127.0.0.1", port), timeout=20).close()


ATTEMPTS: dict[str, Callable[[Any], object]] = {
    "list": os.listdir,
    "read": read,
    "write": write,
    "truncate": lambda path: os.truncate(path, 0),
    "make": lambda path: os.close(os.open(path, os.O_CREAT | os.O_WRONLY)),
    "make a folder": os.mkdir,
    "link": lambda paths: os.link(*paths),
    "rename": lambda paths: Path(paths[0]).rename(paths[1]),
    "remove": os.unlink,
    "open to others": lambda path: Path(path).chmod(0o777),
    "label": lambda path: os.setxattr(path, "user.intruder", b"1"),
    "turn its clock": lambda path: os.utime(path, (0, 0)),
    "watch": lambda path: call("inotify_add_watch", call("inotify_init"), path.encode(), 0xFFF),
    "ask the chip": lambda path: ask(path, b"\0\0\0\x09\xa1\x62op\x64show"),
    # TPM2_GetRandom.
    "ask the TPM": lambda path: ask(path, bytes.fromhex("80010000000c0000017b0008")),
    "ask a service": lambda path: ask(path, b'{"op": "open"}'),
    "ask in the abstract": lambda name: ask("\0" + name, b"hello"),
    "ask by io_uring": ask_by_io_uring,
    "make a disguised socket": disguised_socket,
    "send a datagram": datagram,
    "read memory": read_memory_file,
    "read memory by a call": read_memory_call,
    # It ends with the tracer.
    "trace": lambda pid: call("ptrace", PTRACE_SEIZE, pid, None, None),
    "steal a descriptor": steal_descriptor,
    "signal": lambda pid: os.kill(pid, signal.SIGCONT),
    "signal by a descriptor": signal_by_descriptor,
    "signal by a descriptor's owner": signal_by_owner,
    "limit": lambda pid: call("prlimit", pid, 7, struct.pack("QQ", 4096, 4096), None),
    "start a program": start_program,
    "connect": connect,
}


def main():
    """Try all; a failure of one is its outcome."""
    outcomes = {}
    for name, (attempt, target) in json.load(sys.stdin).items():
        try:
            ATTEMPTS[attempt](target)
            outcomes[name] = "done"
        except (OSError, AssertionError) as error:
            outcomes[name] = str(error)
    print(json.dumps(outcomes))


main()
