"""The two flash modules of a workstation, as files: made, held for one opener, measured.

Invariants: an open disk holds a lock (flock) on both. The lock belongs to the open file, not to
a process: it is taken here and lives as long as the controller that is given the descriptors.
Of what is in a module nothing is read here but whether it is a new one, paired with no chip.
"""

import contextlib
import fcntl
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from spacegray import files
from spacegray.chip.refusal import ChipRefusalError
from spacegray.errors import SpacegrayError

NAMES: Final = ("flash-0.module", "flash-1.module")
"""Module 0 and module 1; their order is part of the disk (docs/flash-format.md)."""

NEW_MAGIC: Final = b"SGNEWMOD"
NEW_BYTES: Final = 4096
"""The size of a new module: the magic, then zeros."""

_NEW: Final = NEW_MAGIC.ljust(NEW_BYTES, b"\0")
_BLOCK_BYTES: Final = 512
"""The unit of st_blocks, see stat(2)."""


class Module(msgspec.Struct, frozen=True, kw_only=True):
    """One module's file. It is sparse: it takes `allocated_bytes` of the host's disk."""

    path: str
    file_size_bytes: int
    allocated_bytes: int


def fresh_module(path: Path) -> None:
    """Make the file at `path` a new module, paired with no chip, in place of what is there.

    It stands whole or not at all. What was in an old one is lost. Raises SpacegrayError when
    that one is in use, or the host refuses.
    """
    with contextlib.ExitStack() as ours:
        if path.exists():
            _open(ours, f"replacing {path.name}", path, make=False)
        files.write_atomically(path, _NEW)


class Modules:
    """Both modules of one disk, in the workstation's folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.paths = tuple(folder / name for name in NAMES)

    def found(self) -> list[Module]:
        """Those that are there, measured. Raises OSError when the host does not tell."""
        modules = []
        for path in self.paths:
            with contextlib.suppress(FileNotFoundError):
                info = path.stat()
                modules.append(
                    Module(
                        path=str(path),
                        file_size_bytes=info.st_size,
                        allocated_bytes=info.st_blocks * _BLOCK_BYTES,
                    )
                )
        return modules

    @contextlib.contextmanager
    def held(self, doing: str, *, make: bool = False) -> Iterator[tuple[int, int]]:
        """Descriptors of both, to read and write, locked; `make` creates what is not there.

        The lock outlives this context in whoever was given the descriptors. Raises
        SpacegrayError that names the module which is missing, no file, or in use.
        """
        with contextlib.ExitStack() as ours:
            zero, one = (_open(ours, doing, path, make=make) for path in self.paths)
            if make:
                files.sync_folder(self.folder)
            yield zero, one

    def refuse_new(self, doing: str, name: str) -> None:
        """Raise ChipRefusalError `unpaired` where one of them is new; `name` is the workstation's.

        None is held for it. What is missing, or no file, is not told here.
        """
        match [path.name for path in self.paths if _is_new(path)]:
            case []:
                return
            case [one]:
                which, them = f"{one} is", "it"
            case both:
                which, them = f"{' and '.join(both)} are", "them"
        raise ChipRefusalError(
            doing,
            f"{which} new and paired with no chip",
            f"`restore {name}` pairs {them}; all data is gone",
            code="unpaired",
            link="disk",
        )

    def remove(self) -> None:
        """Remove what there is of them."""
        for path in self.paths:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)


def _open(ours: contextlib.ExitStack, doing: str, path: Path, *, make: bool) -> int:
    """The module at `path`, locked until `ours` ends and nobody else has the descriptor."""
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK | (os.O_CREAT if make else 0)
    try:
        descriptor = os.open(path, flags, 0o600)
        ours.callback(os.close, descriptor)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise SpacegrayError(
                doing, f"{path.name} is no file", "put this disk's module there", link="disk"
            )
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        stopped_by = f"module {path.name} is in use by another process"
        next_step = "stop what uses it, then try again"
    except FileNotFoundError:
        stopped_by = f"module {path.name} is missing"
        next_step = "put it back, or `erase`, which makes a new empty disk"
    except OSError as error:
        stopped_by = f"module {path.name} does not open ({error.strerror})"
        next_step = "see to the host's disk, then try again"
    else:
        return descriptor
    raise SpacegrayError(doing, stopped_by, next_step, link="disk")


def _is_new(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            return os.pread(descriptor, NEW_BYTES + 1, 0) == _NEW
        finally:
            os.close(descriptor)
    except OSError:  # No file, or none that can be read: opening it says so.
        return False
