"""An external disk: a file or block device of the host's, on the machine's USB controller.

Whoever opens it hands over the descriptor; QEMU opens no path. It is there at power-on only in a
start from it, which the chip has allowed; else it is plugged in once the system's kernel runs, so
that no firmware ever sees it.
"""

import contextlib
import fcntl
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from spacegray.errors import SpacegrayError, UsageError
from spacegray.machine import arguments
from spacegray.qmp import Qmp

USB: Final = "usb"
"""The id of the machine's USB controller."""
NODE: Final = "external"
SECTOR_BYTES: Final = 512
SIZE_LEAST_BYTES: Final = 1 << 20
"""A smaller file holds no partition table and anything beside it."""


@contextlib.contextmanager
def opened(path: Path, doing: str) -> Iterator[int]:
    """The disk at `path`, open for reading and writing, and ours alone among such machines.

    Raises UsageError where it is none, or may not be written; SpacegrayError where it is in use.
    """
    refused = "give a regular file or a block device that you may write"
    try:
        # Not blocking: of a named pipe nobody may be at the other end.
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise UsageError(doing, f"{path}: {error.strerror}", refused) from None
    try:
        os.set_blocking(descriptor, True)
        _check(path, descriptor, doing, refused)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise SpacegrayError(
                doing, f"{path} is in use", "eject it where it is, then try again"
            ) from None
        yield descriptor
    finally:
        os.close(descriptor)


def _check(path: Path, descriptor: int, doing: str, refused: str) -> None:
    mode = os.fstat(descriptor).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
        raise UsageError(doing, f"{path} is no disk", refused)
    size = os.lseek(descriptor, 0, os.SEEK_END)
    if size < SIZE_LEAST_BYTES or size % SECTOR_BYTES:
        raise UsageError(
            doing,
            f"{path} has {size} bytes: not whole sectors of {SECTOR_BYTES}, or less than 1 MiB",
            "give the raw image of a disk",
        )


def at_power_on(descriptor: int, boot: str) -> list[str]:
    """The words for a disk that is there from the beginning; `boot` gives it its boot index."""
    return [
        *arguments.file_set(NODE, arguments.EXTERNAL_SET, descriptor),
        "-device",
        f"usb-storage,id={NODE},bus={USB}.0,drive={NODE}{boot}",
    ]


async def plug(qmp: Qmp, descriptor: int) -> None:
    """Plug it in while the machine runs; raises QMP's errors."""
    number = arguments.EXTERNAL_SET
    await qmp.add_descriptor_set(number, descriptor)
    file = {"driver": arguments.file_driver(descriptor), "filename": f"/dev/fdset/{number}"}
    await qmp.execute("blockdev-add", {"driver": "raw", "node-name": NODE, "file": file})
    device = {"driver": "usb-storage", "id": NODE, "bus": f"{USB}.0", "drive": NODE}
    await qmp.execute("device_add", device)
