"""seccomp: from here on, this process cannot make the system calls that would reach others.

What Landlock leaves open, it closes: unix sockets at a path (of the chip, of other services of
the same user), the modes and owners of files, signals and limits of other processes on kernels
whose Landlock has no say over them, and ways around these filters (io_uring, name spaces, system
calls newer than this list). It is a list of what is refused: a refused call is an error
for the program, which goes on. By libseccomp, which knows the architectures.
"""

import errno
import os
import socket
from collections.abc import Iterable
from typing import Final

from spacegray.libseccomp import (
    ALLOW,
    CTL_OPTIMIZE,
    MASKED_EQ,
    NE,
    Filter,
    compare,
    errno_action,
)

_OTHER_PROCESSES: Final = (
    "kcmp",
    "migrate_pages",
    "move_pages",
    "pidfd_getfd",
    "process_madvise",
    "process_mrelease",
    "process_vm_readv",
    "process_vm_writev",
    "ptrace",
    "setpriority",
    "ioprio_set",
)
_SIGNALS: Final = (
    *("pidfd_open", "pidfd_send_signal"),
    *("rt_sigqueueinfo", "rt_tgsigqueueinfo", "tkill"),
)
_FILES: Final = (
    # Landlock leaves whoever owns a file its mode, owner, times and attributes.
    *("chmod", "fchmod", "fchmodat"),
    *("chown", "fchown", "fchownat", "lchown"),
    *("setxattr", "fsetxattr", "lsetxattr", "removexattr", "fremovexattr", "lremovexattr"),
    *("utime", "utimes", "utimensat", "futimesat"),
    # Landlock's first two versions leave this one too.
    "truncate",
)
_SHARED: Final = (
    *("add_key", "keyctl", "request_key"),
    *("mq_open", "mq_unlink", "msgget", "semget", "shmget"),
)
_KERNEL: Final = (
    *("bpf", "fanotify_init", "inotify_add_watch", "perf_event_open", "userfaultfd"),
    *("io_uring_setup", "io_uring_enter", "io_uring_register"),
    *("mount", "mount_setattr", "move_mount", "open_tree", "fsmount", "fsopen", "fspick"),
    *("chroot", "pivot_root", "setns", "umount2", "unshare"),
)
_PROCESSES: Final = ("fork", "vfork")
_NEW_NAMESPACES: Final = (1 << 17, 1 << 25, 1 << 26, 1 << 27, 1 << 28, 1 << 29, 1 << 30)
"""CLONE_NEWNS, …NEWCGROUP, …NEWUTS, …NEWIPC, …NEWUSER, …NEWPID, …NEWNET (sched.h)."""
_CLONE_THREAD: Final = 1 << 16

_SIGNAL_OWNERS: Final = (8, 10, 15)
"""fcntl.h: F_SETOWN, F_SETSIG, F_SETOWN_EX."""
_IOCTL_OWNERS: Final = (0x8901, 0x8902)
"""sockios.h: FIOSETOWN, SIOCSPGRP, which do the same."""

_FAMILIES_LIMIT: Final = 64
"""More address families than Linux has."""
_SOCKET_TYPES: Final = range(16)
_SOCKET_TYPE_BITS: Final = 0xF
_CONNECTED: Final = (socket.SOCK_STREAM, socket.SOCK_SEQPACKET)
_FCHMODAT2: Final = 452
_UNKNOWN: Final = range(457, 1024)
"""System calls (of numbers that all architectures share) which nothing here has heard of."""
_OPTIMIZE_AS_TREE: Final = 2
_INT_BITS: Final = 0xFFFF_FFFF
"""The kernel takes 32 bits of an int; what a program puts above them must not matter."""


def restrict(*, families: tuple[int, ...], processes: bool, modes: bool) -> None:
    """Take from the calling process, for good, the system calls that reach others.

    It may still make sockets of these address `families`, start and signal `processes`, change
    the `modes` of files. Holds for the calling thread and all that it starts. Raises OSError when
    the kernel refuses.
    """
    with Filter(ALLOW) as made:
        _fill(made, families, processes=processes, modes=modes)
        made.set(CTL_OPTIMIZE, _OPTIMIZE_AS_TREE)
        made.load()


def _fill(made: Filter, families: tuple[int, ...], *, processes: bool, modes: bool) -> None:
    refused, unknown = errno_action(errno.EPERM), errno_action(errno.ENOSYS)
    for name in (*_OTHER_PROCESSES, *_SHARED, *_KERNEL):
        made.add(refused, name)
    for number in _UNKNOWN:
        made.add(unknown, number)
    _keep_limits(made, refused)
    _keep_sockets(made, refused, families)
    # What it starts lies behind a pointer; without it the C library takes `clone`.
    made.add(unknown, "clone3")
    _any_of(made, refused, "clone", 0, ((bit, bit) for bit in _NEW_NAMESPACES))
    if not processes:
        for name in (*_PROCESSES, *_SIGNALS):
            made.add(refused, name)
        # It keeps its number when it becomes another program.
        for name in ("kill", "tgkill"):
            made.add(refused, name, compare(0, NE, os.getpid()))
        made.add(refused, "clone", compare(0, MASKED_EQ, _CLONE_THREAD, 0))
    if not modes:
        for call in (*_FILES, _FCHMODAT2):
            made.add(refused, call)


def _keep_limits(made: Filter, refused: int) -> None:
    """Limits are its own; a descriptor's signals would go to any process of the user's."""
    made.add(refused, "prlimit64", compare(0, NE, 0))
    _any_of(made, refused, "fcntl", 1, ((_INT_BITS, command) for command in _SIGNAL_OWNERS))
    _any_of(made, refused, "ioctl", 1, ((_INT_BITS, command) for command in _IOCTL_OWNERS))


def _keep_sockets(made: Filter, refused: int, families: tuple[int, ...]) -> None:
    others = (family for family in range(_FAMILIES_LIMIT) if family not in families)
    _any_of(made, refused, "socket", 0, ((_INT_BITS, family) for family in others))
    # These pairs are connected for good; one of datagrams could send to any address.
    made.add(refused, "socketpair", compare(0, NE, socket.AF_UNIX))
    types = (kind for kind in _SOCKET_TYPES if kind not in _CONNECTED)
    _any_of(made, refused, "socketpair", 1, ((_SOCKET_TYPE_BITS, kind) for kind in types))


def _any_of(
    made: Filter, refused: int, name: str, number: int, tests: Iterable[tuple[int, int]]
) -> None:
    """Refuse `name` where any of `tests`, a mask and a value, fits its argument `number`."""
    for mask, value in tests:
        made.add(refused, name, compare(number, MASKED_EQ, mask, value))
