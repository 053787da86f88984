"""Target disk mode: the machine is off, its plain disk is served to the owner's own tools.

The socket is made here, where its path is the owner's; the chip gets it as a descriptor. It is
mode 0600, never takes the place of a file, and goes when serving ends.
"""

import contextlib
import errno
import os
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from spacegray import host
from spacegray.chip.client import ChipClient
from spacegray.errors import SpacegrayError, UsageError
from spacegray.sockets import bind_unix, connect_unix
from spacegray.workstation import create, hold
from spacegray.workstation.api import Workstation
from spacegray.workstation.install import is_anothers, is_ours
from spacegray.workstation.ssd import format_with, is_erased
from spacegray.workstation.unlock import Owner

PATH_LIMIT_BYTES: Final = 107
"""The longest path that programs can connect to (unix(7), without the zero at the end)."""


def serve(
    workstation: Workstation,
    path: Path,
    ready: Callable[[Path], None],
    *,
    owner: Owner | None = None,
) -> None:
    """Serve the disk over NBD at `path` until the process is told to end (KeyboardInterrupt).

    `owner` gives what the chip needs to open the disk; of one that was erased an empty one is
    made first. `ready` is called with the absolute path once clients may connect. Returns after the
    disk was closed in order. Raises SpacegrayError when it cannot be served, or the chip ended.
    """
    doing = f"serving the disk of {workstation.name} at {path}"
    path = path.absolute()
    at = workstation.at
    with (
        listening(path, doing) as listener,
        hold.chip(
            at, doing, f"in target disk mode, served at {path}", owner, wants="served"
        ) as chip,
    ):
        if is_erased(chip.mailbox):
            format_with(workstation, chip.mailbox)
        chip.mailbox.serve_disk(listener)
        before = _written(chip)
        try:
            ready(path)
            chip.process.process.wait()
        except KeyboardInterrupt:
            written = _written(chip) != before
            chip.mailbox.close_disk()
            if written:
                _note(workstation, chip.mailbox)
            return
        raise chip.process.failure() or SpacegrayError(
            doing, "the chip was stopped", "see `logs`", link="chip"
        )


def _note(workstation: Workstation, mailbox: ChipClient) -> None:
    """Whose disk it is after it was written to: ours even without a table, which can be repaired,
    unless it was another's before.
    """
    before = workstation.installed
    other = is_anothers(mailbox) or (before.other and not is_ours(mailbox))
    create.note_empty(workstation.at, before, empty=False, other=other)


@contextlib.contextmanager
def listening(path: Path, doing: str) -> Iterator[socket.socket]:
    """A listening socket at the absolute `path`, removed at the end.

    Raises UsageError where there is something already, or none can be made.
    """
    if len(os.fsencode(path)) > PATH_LIMIT_BYTES:
        raise UsageError(
            doing,
            f"the path is longer than the {PATH_LIMIT_BYTES} bytes a socket's may have",
            "choose a shorter one",
        )
    try:
        listener = bind_unix(path, replace=False)
    except OSError as error:
        raise UsageError(doing, *_refused(path, error)) from None
    with listener:
        made = path.lstat()
        try:
            yield listener
        finally:
            # Only what was made here: whoever removed it may have put something else there.
            with contextlib.suppress(OSError):
                now = path.lstat()
                if (now.st_dev, now.st_ino) == (made.st_dev, made.st_ino):
                    path.unlink()


def _refused(path: Path, error: OSError) -> tuple[str, str]:
    """Why no socket can be made at `path`, and what to do."""
    if error.errno == errno.EADDRINUSE:
        return _taken(path)
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return f"there is no folder {path.parent}", "make it, or choose another path"
    if isinstance(error, PermissionError):
        return (
            f"the user {host.user()} may not make files in {path.parent}",
            f"choose a folder where that user may, such as {Path.home()} or /tmp",
        )
    return error.strerror or str(error), "choose another path"


def _taken(path: Path) -> tuple[str, str]:
    if not stat.S_ISSOCK(path.lstat().st_mode):
        return "there is a file already", "choose another path"
    try:
        connect_unix(path, timeout_seconds=1).close()
    except ConnectionRefusedError:
        return "a socket that nobody serves was left there", "remove it, or choose another path"
    except OSError:
        pass
    return "there is a socket already that somebody serves", "choose another path"


def _written(chip: hold.Chip) -> int:
    status = chip.mailbox.disk_health().status
    return 0 if status is None else status.host_written_blocks
