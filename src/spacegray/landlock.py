"""Landlock: from here on, this process reaches only the files named beforehand.

Source: the kernel's Documentation/userspace-api/landlock.rst. A confined process can also not
trace or read the memory of one outside of its domain, which is what keeps a taken-over QEMU
away from the chip although both run as the same user. On a kernel without Landlock nothing
is enforced; `supported()` says so and `doctor` reports it.
"""

import ctypes
import os
import stat
import struct
from collections.abc import Iterable
from pathlib import Path

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION_FLAG = 1
_RULE_PATH_BENEATH = 1
_PR_SET_NO_NEW_PRIVS = 38

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_TRUNCATE = 1 << 14
_READ = _EXECUTE | _READ_FILE | _READ_DIR
_ON_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE
_BY_VERSION = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1}
_NEWEST_KNOWN = 3
_SCOPE_VERSION = 6
_SCOPE_ALL = 0b11
"""Abstract unix sockets and signals, towards processes outside of the domain."""

_libc = ctypes.CDLL(None, use_errno=True)


def supported() -> int:
    """The version of Landlock this kernel speaks, 0 for none."""
    return max(0, int(_libc.syscall(_CREATE_RULESET, None, 0, _VERSION_FLAG)))


def restrict(read: Iterable[Path], write: Iterable[Path]) -> None:
    """Leave the calling process, for good, these files and folders to read, and to write too.

    Paths that do not exist are left out.

    Raises OSError when the kernel has Landlock and refuses.
    """
    if _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "no_new_privs")
    version = supported()
    if version == 0:
        return
    handled = _BY_VERSION[min(version, _NEWEST_KNOWN)]
    scope = _SCOPE_ALL if version >= _SCOPE_VERSION else 0
    attributes = struct.pack("=QQQ", handled, 0, scope)
    size = len(attributes) if scope else 8
    ruleset = _checked(_libc.syscall(_CREATE_RULESET, attributes, size, 0), "create_ruleset")
    try:
        _allow(ruleset, read, _READ & handled)
        _allow(ruleset, write, handled)
        _checked(_libc.syscall(_RESTRICT_SELF, ruleset, 0), "restrict_self")
    finally:
        os.close(ruleset)


def _allow(ruleset: int, paths: Iterable[Path], access: int) -> None:
    for path in paths:
        try:
            descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        try:
            is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
            rule = struct.pack("=Qi", access if is_folder else access & _ON_FILES, descriptor)
            _checked(_libc.syscall(_ADD_RULE, ruleset, _RULE_PATH_BENEATH, rule, 0), str(path))
        finally:
            os.close(descriptor)


def _checked(result: int, what: str) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"Landlock, {what}: {os.strerror(code)}")
    return result
