"""Durable files and locks: what is written either stands whole or not at all."""

import contextlib
import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from spacegray.errors import SpacegrayError

LOCK_POLL_SECONDS = 0.05


def make_private(folder: Path) -> Path:
    """Create `folder` and its parents with mode 0700; return it.

    Raises SpacegrayError where that is not possible.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise SpacegrayError(
            f"creating {folder}",
            error.strerror,
            "make room or give permission there, or set SPACEGRAY_HOME to another folder",
        ) from None
    return folder


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_bounded(path: Path, limit_bytes: int) -> bytes:
    """The content of the file at `path`, whoever put it there: nothing is waited for.

    Raises OSError, also where it is a link, no regular file or longer than `limit_bytes`.
    """
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW
    descriptor = os.open(path, flags)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is no file")
        with open(descriptor, "rb", closefd=False) as file:
            found = file.read(limit_bytes + 1)
    finally:
        os.close(descriptor)
    if len(found) > limit_bytes:
        raise OSError(errno.EFBIG, f"it is too long: more than {limit_bytes} bytes")
    return found


def write_atomically(path: Path, content: bytes, *, mode: int = 0o600) -> None:
    """Replace `path` by `content`, durably; a crash leaves the old or the new one whole.

    Raises SpacegrayError when the host has no room or refuses.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.rename(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)
    except OSError as error:
        raise SpacegrayError(f"writing {path}", error.strerror, _remedy(path, error)) from None


def _remedy(path: Path, error: OSError) -> str:
    """What to do where a file cannot be written."""
    match error.errno:
        case errno.ENOENT | errno.ENOTDIR:
            return f"there is no folder {path.parent}: make it, or choose another"
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return f"see that this user may write in {path.parent}, or choose another folder"
        case errno.ENOSPC | errno.EDQUOT:
            return "make room on that disk and try again"
    return "see to that disk and try again"


@contextlib.contextmanager
def locked(path: Path, *, timeout_seconds: float | None = 0.0) -> Iterator[bool]:
    """Hold an exclusive lock on the file `path`, which is created as needed.

    Yields whether the lock was had within `timeout_seconds` (None waits for ever). The kernel
    drops the lock with the process, so that nothing stale can stay behind.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        yield _lock(descriptor, timeout_seconds)
    finally:
        os.close(descriptor)


def _lock(descriptor: int, timeout_seconds: float | None) -> bool:
    deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EWOULDBLOCK):
                raise
        if deadline is not None and time.monotonic() >= deadline:
            return False
        time.sleep(LOCK_POLL_SECONDS)
