"""libseccomp, as far as filters need it: rules on system calls, loaded into the kernel.

Source: libseccomp's seccomp_init(3), seccomp_rule_add(3), seccomp_attr_set(3), seccomp_load(3) and
its seccomp.h. Bound here and not by a package, whose search for the library starts a program
twice: the security chip reads this at every power-on.
"""

import ctypes
import os
from typing import Final, Self

ALLOW: Final = 0x7FFF0000
NE: Final = 1
MASKED_EQ: Final = 7
CTL_OPTIMIZE: Final = 8
"""Attribute: how the filter's tests are arranged."""

_REFUSE: Final = 0x00050000
_UNKNOWN_CALL: Final = -1


class _Comparison(ctypes.Structure):
    """struct scmp_arg_cmp."""

    _fields_ = (
        ("argument", ctypes.c_uint),
        ("operation", ctypes.c_int),
        ("first", ctypes.c_uint64),
        ("second", ctypes.c_uint64),
    )


_library = ctypes.CDLL("libseccomp.so.2")
_library.seccomp_init.restype = ctypes.c_void_p
_library.seccomp_init.argtypes = (ctypes.c_uint32,)
_library.seccomp_release.restype = None
_library.seccomp_release.argtypes = (ctypes.c_void_p,)
_library.seccomp_syscall_resolve_name.argtypes = (ctypes.c_char_p,)
_library.seccomp_attr_set.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32)
_library.seccomp_load.argtypes = (ctypes.c_void_p,)
_library.seccomp_rule_add_array.argtypes = (
    *(ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int),
    *(ctypes.c_uint, ctypes.POINTER(_Comparison)),
)


def errno_action(code: int) -> int:
    """The action that has a system call fail with this error number."""
    return _REFUSE | code


def compare(argument: int, operation: int, first: int, second: int = 0) -> _Comparison:
    """A test of one argument (0 to 5): `NE` first, or `MASKED_EQ`, under the mask first, second."""
    return _Comparison(argument, operation, first, second)


class Filter:
    """A filter that is being made; as a context manager it frees libseccomp's memory at the end."""

    def __init__(self, otherwise: int) -> None:
        """What no rule fits is met with the action `otherwise`. Raises OSError."""
        self._filter = _library.seccomp_init(otherwise)
        if self._filter is None:
            raise OSError("libseccomp: no filter could be made")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        _library.seccomp_release(self._filter)

    def add(self, action: int, call: str | int, *tests: _Comparison) -> None:
        """Meet the system call of this name or number with `action`, where all `tests` fit.

        Raises OSError, also for a name that libseccomp does not know.
        """
        number = call
        if isinstance(call, str):
            number = _library.seccomp_syscall_resolve_name(call.encode())
        if number == _UNKNOWN_CALL:
            raise OSError(f"libseccomp: it knows no system call {call}")
        array = (_Comparison * len(tests))(*tests)
        _checked(
            _library.seccomp_rule_add_array(self._filter, action, number, len(tests), array),
            f"a rule for {call}",
        )

    def set(self, attribute: int, value: int) -> None:
        """Set an attribute of the filter. Raises OSError."""
        _checked(_library.seccomp_attr_set(self._filter, attribute, value), "an attribute")

    def load(self) -> None:
        """Have the kernel apply it to the calling thread and all that it starts. Raises OSError."""
        _checked(_library.seccomp_load(self._filter), "loading the filter")


def _checked(result: int, what: str) -> None:
    if result < 0:
        raise OSError(-result, f"libseccomp, {what}: {os.strerror(-result)}")
