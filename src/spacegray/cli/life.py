"""The verbs that end a life of the chip, and begin another: erase, restore."""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from spacegray import host
from spacegray.cli import everyday, output
from spacegray.cli.asking import Asker, Files
from spacegray.cli.interrupts import told_to_end
from spacegray.errors import SpacegrayError, UsageError
from spacegray.paths import Paths
from spacegray.workstation import life
from spacegray.workstation.api import Workstation


def erase(name: str, files: Files, *, receipt: str | None, ask: bool) -> None:
    """Make all that is on the disk unreadable, at once."""
    paths = Paths.current()
    workstation = Workstation.find(paths, name)
    if ask and not everyday.confirmed(
        f"erasing {name}",
        "this destroys all that is on its disk",
        f"Erase all that is on the disk of {name}, for good? Type its name: ",
        name,
    ):
        print("nothing was erased")
        return
    trouble: OSError | None = None
    with _room_for(receipt, f"erasing {name}") as file:
        done = life.erase(workstation, Asker(name, files, ask=ask))
        if file is not None:
            trouble = _fill(file, done.receipt)
    print(f"{name} is erased: the chip took {done.milliseconds:.0f} ms to destroy every key to it")
    written = receipt if trouble is None else None
    where = [each for each in (done.saved, written) if each is not None]
    if where:
        print(f"the receipt, signed by the chip, is in {' and in '.join(where)}")
    print(f"`restore {name}` makes a new system; `import {name} FILE` brings a copy back")
    if trouble is not None or not where:
        _say_lost(name, receipt, trouble, done.saved)


def restore(name: str, files: Files, *, mirror: str | None, ask: bool) -> None:
    """Erase, begin a new life, put a new system onto the disk."""
    paths = Paths.current()
    workstation = Workstation.find(paths, name)
    if ask and not everyday.confirmed(
        f"restoring {name}",
        "this destroys all that is on its disk",
        f"Erase all that is on the disk of {name}, for good, and make a new system? "
        "Type its name: ",
        name,
    ):
        print("nothing was changed")
        return
    password_hash, shown = everyday.first_user(files.password, workstation.spec.user, ask=ask)
    with told_to_end(), output.Bars() as bars:
        life.restore(
            paths,
            workstation,
            Asker(name, files, ask=ask, pause=bars.paused),
            mirror=mirror or host.mirror(),
            password_hash=password_hash,
            progress=bars,
        )
    print(f"{name} begins a new life, without a password; `start {name}` powers it on")
    if shown is not None:
        print(shown)


def _say_lost(name: str, receipt: str | None, trouble: OSError | None, saved: str | None) -> None:
    """Raise SpacegrayError: it is erased, but a receipt is not where it was to be."""
    where = "into its folder"
    if receipt is not None and trouble is not None:
        where = f"to {receipt} ({trouble.strerror})"
        Path(receipt).unlink(missing_ok=True)
    another = f"`erase {name} --receipt FILE` has the chip sign another, for a disk with room"
    raise SpacegrayError(
        f"erasing {name}",
        f"it is erased, but the receipt could not be written {where}",
        another if saved is None else f"`cp {saved} FILE` makes a copy of the one that is kept",
    )


def _fill(file: int, receipt: bytes) -> OSError | None:
    """Write the receipt, durably; returns why not."""
    try:
        if os.write(file, receipt) != len(receipt):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(file)
    except OSError as error:
        return error
    return None


@contextlib.contextmanager
def _room_for(file: str | None, doing: str) -> Iterator[int | None]:
    """The file for a receipt, made before anything is destroyed; gone again where nothing is."""
    if file is None:
        yield None
        return
    path = Path(file)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise UsageError(
            doing,
            f"the receipt cannot be written to {file}: {error.strerror}",
            "give another file, in a folder where this user may write",
        ) from None
    try:
        yield descriptor
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)
