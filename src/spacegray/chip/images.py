"""Firmware images: found, copied, and frozen before they are judged.

The order is the promise: content goes into an anonymous file, that file is sealed against
every write, and only then is it hashed. What was hashed is what the machine gets; whatever
happens to the path afterwards changes nothing.
"""

import fcntl
import hashlib
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from spacegray import files
from spacegray.errors import SpacegrayError
from spacegray.paths import SlotPaths

if TYPE_CHECKING:  # The chip's own process starts sooner without it.
    from spacegray.host import OvmfFiles

IMAGE_LIMIT_BYTES: Final = 64 * 1024**2

_CHUNK_BYTES: Final = 16 * 1024**2
_FROZEN: Final = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
_FIXED_SIZE: Final = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


def copy_firmware(ovmf: "OvmfFiles", folder: Path) -> tuple[Path, Path]:
    """Copy the host's firmware and variable template into a slot's `folder`, durably.

    A host that upgrades its package later does not touch what the chip remembers. Returns
    both paths; raises SpacegrayError when that fails.
    """
    slot = SlotPaths(folder)
    copies = (slot.firmware, slot.variables)
    for source, copy in zip((ovmf.code, ovmf.variables), copies, strict=True):
        frozen = freeze(source)
        try:
            files.write_atomically(copy, frozen.read())
        finally:
            frozen.close()
    return copies


class Frozen:
    """Content that can no longer change, with its digest. Owns its descriptor (read only)."""

    def __init__(self, descriptor: int, sha256: str, size_bytes: int) -> None:
        self.descriptor = descriptor
        self.sha256 = sha256
        self.size_bytes = size_bytes

    def read(self) -> bytes:
        """All of it."""
        return os.pread(self.descriptor, self.size_bytes, 0)

    def close(self) -> None:
        """Let go of it; may be called again."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def detach(self) -> int:
        """The descriptor, now the caller's to close."""
        descriptor, self.descriptor = self.descriptor, -1
        return descriptor


def freeze(
    source: Path,
    *,
    limit_bytes: int = IMAGE_LIMIT_BYTES,
    link: str = "firmware",
    next_step: str = "put the file back",
) -> Frozen:
    """Copy the file `source` into memory, seal it, then hash it.

    Raises SpacegrayError, which names `link` and the `next_step`, when it is not there, no file,
    or too long.
    """
    try:
        descriptor = os.open(source, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            return _frozen(source.name, lambda copy: _copy(descriptor, copy, limit_bytes))
        finally:
            os.close(descriptor)
    except OSError as error:
        stopped_by: object = error.strerror
    except ValueError as error:
        stopped_by = error
    raise SpacegrayError(
        f"reading {source}",
        stopped_by,
        next_step,
        link=link,
    )


def read_regular(descriptor: int, limit_bytes: int) -> bytes:
    """The whole regular file behind `descriptor`; raises ValueError for what is none or long."""
    _must_be_regular(descriptor)
    chunks: list[bytes] = []
    size_bytes = 0
    while size_bytes <= limit_bytes:
        chunk = os.pread(descriptor, _CHUNK_BYTES, size_bytes)
        if not chunk:
            return b"".join(chunks)
        chunks.append(chunk)
        size_bytes += len(chunk)
    raise _too_long(limit_bytes)


def freeze_bytes(content: bytes, name: str) -> Frozen:
    """`content` as a sealed anonymous file, opened read only, hashed after sealing."""
    return _frozen(name, lambda copy: _write(content, copy))


def writable_copy(content: bytes, name: str) -> int:
    """`content` as an anonymous file of fixed size that the machine may write."""
    return _anonymous(name, lambda copy: _write(content, copy), _FIXED_SIZE)


def _frozen(name: str, fill: Callable[[int], None]) -> Frozen:
    writable = _anonymous(name, fill, _FROZEN)
    try:
        descriptor = os.open(f"/proc/self/fd/{writable}", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(writable)
    with open(descriptor, "rb", closefd=False) as file:
        digest = hashlib.file_digest(file, "sha256")
        file.seek(0)
    return Frozen(descriptor, digest.hexdigest(), os.fstat(descriptor).st_size)


def _anonymous(name: str, fill: Callable[[int], None], seals: int) -> int:
    descriptor = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        fill(descriptor)
        os.lseek(descriptor, 0, os.SEEK_SET)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _write(content: bytes, to: int) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(to, view) :]


def _copy(source: int, to: int, limit_bytes: int) -> None:
    """All of a regular file, by the kernel; raises ValueError as `read_regular` does."""
    _must_be_regular(source)
    size_bytes = 0
    while size_bytes <= limit_bytes:
        copied = os.sendfile(to, source, size_bytes, limit_bytes + 1 - size_bytes)
        if copied == 0:
            return
        size_bytes += copied
    raise _too_long(limit_bytes)


def _must_be_regular(descriptor: int) -> None:
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        raise ValueError("not a regular file")


def _too_long(limit_bytes: int) -> ValueError:
    return ValueError(f"longer than {limit_bytes} bytes")
