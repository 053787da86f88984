"""Where a result goes that is no secret: standard output, or a file, whole or not at all."""

import os
import sys
from pathlib import Path
from typing import Final

from spacegray.errors import UsageError
from spacegray.paths import WorkstationPaths
from spacegray.workstation import image

STDOUT: Final = "-"
FILE_MODE: Final = 0o644


def to_stdout(to: str | None) -> bool:
    """Whether what `--output` says is standard output."""
    return to in (None, STDOUT)


def may_write(to: str | None, doing: str, *, replace: bool) -> None:
    """Raise UsageError where it cannot be written there; asked before a long work, or questions.

    What is there already is kept unless `replace`, and always where it is no file.
    """
    if to is not None and not to_stdout(to):
        image.may_write(Path(to), doing, replace=replace)


def must_be_elsewhere(at: WorkstationPaths, file: Path, doing: str) -> None:
    """Raise UsageError where `file` would lie among the workstation's own, or replace one."""
    folder = Path(os.path.realpath(file.absolute().parent))
    for own in (at.folder, at.state_folder, at.run):
        if folder.is_relative_to(os.path.realpath(own)):
            raise UsageError(
                doing,
                f"{own} is for the workstation's own files alone",
                f"choose a path outside, such as {Path.home() / file.name}",
            )


def write(content: str | bytes, to: str | None, doing: str, *, replace: bool = True) -> None:
    """Write it to what `--output` says; text as UTF-8. Raises UsageError."""
    if isinstance(content, str):
        content = content.encode()
    if to is None or to == STDOUT:
        sys.stdout.flush()
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
        return
    file = Path(to)
    may_write(to, doing, replace=replace)
    with image.unfinished_file(file, doing) as unfinished:
        try:
            unfinished.write_bytes(content)
            unfinished.chmod(FILE_MODE)
            unfinished.rename(file)
        except OSError as error:
            raise image.unwritable(file, doing, error) from None
