"""The chip's state folder is its owner's alone, also after it came back from a backup."""

import os
import stat
from pathlib import Path
from typing import Final

from spacegray import host
from spacegray.errors import SpacegrayError

_OTHERS: Final = 0o077
"""What the group and everybody else may do."""


def tighten(folder: Path, name: str) -> None:
    """Take from everybody else what they may do with the state `folder` of `name` and all in it.

    Raises SpacegrayError where that is not ours to do, or the folder cannot be looked into.
    """
    doing = f"opening the state folder of {name}"
    ours, left = f"`sudo chown -R {host.user()} {folder}`", [folder]
    while left:
        path = left.pop()
        try:
            info = path.lstat()
            if info.st_mode & _OTHERS and not stat.S_ISLNK(info.st_mode):
                if info.st_uid != os.geteuid():
                    raise SpacegrayError(
                        doing,
                        f"{path} is open to others, and is another user's",
                        f"{ours}, then `chmod -R go= {folder}`",
                        link="chip",
                    )
                path.chmod(stat.S_IMODE(info.st_mode) & ~_OTHERS)
            if stat.S_ISDIR(info.st_mode):
                left += path.iterdir()
        except FileNotFoundError:
            continue  # Removed just now.
        except OSError as error:
            raise SpacegrayError(
                doing, f"{path}: {error.strerror}", f"{ours}, if it is that user's", link="chip"
            ) from None
