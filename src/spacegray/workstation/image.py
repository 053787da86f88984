"""The disk carried out of the workstation and back in, as an image, through qemu-img.

The chip serves the plain disk on a socket in the private run folder, qemu-img (confined by
Landlock to the one image file) copies between that and the file. The image's format is told,
never guessed from its content: that is the guest's, and may look like any format.
"""

import contextlib
import json
import os
import re
import socket
import stat
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Final

from spacegray import host, process
from spacegray.confinement import Reach
from spacegray.errors import SpacegrayError, UsageError
from spacegray.progress import Progress
from spacegray.sockets import bind_unix
from spacegray.workstation import create, hold, ways_back
from spacegray.workstation.api import Workstation
from spacegray.workstation.examine import is_named
from spacegray.workstation.install import is_ours
from spacegray.workstation.ssd import format_with
from spacegray.workstation.unlock import Owner

FORMATS: Final = ("raw", "qcow2", "vdi", "vhdx", "vmdk", "vpc")
"""What qemu-img both reads and writes in one file, by its names."""
_BY_SUFFIX: Final = {
    ".qcow2": "qcow2",
    ".vdi": "vdi",
    ".vhdx": "vhdx",
    ".vmdk": "vmdk",
    ".vhd": "vpc",
}
_CREATION: Final = {"vpc": ("-o", "force_size=on")}
"""Without it this format rounds a disk's size up, and it would not fit when it comes back."""

_PROGRAM: Final = "qemu-img"
_SOCKET_NAME: Final = "image"
_READABLE: Final = tuple(
    map(Path, ("/usr", "/lib", "/lib64", "/etc/ld.so.cache", "/etc/gnutls", "/proc/self"))
)
_INFO_SECONDS: Final = 60.0
_INFO_LIMIT_BYTES: Final = 1 << 20
_PERCENT: Final = re.compile(rb"\((\d+)\.(\d\d)/100%\)")
_PROGRESS_TOTAL: Final = 10000
_READ_BYTES: Final = 4096


def format_of(file: Path) -> str:
    """The format that a file's name speaks of; raw where it speaks of none."""
    return _BY_SUFFIX.get(file.suffix.lower(), "raw")


def export(
    workstation: Workstation,
    file: Path,
    format_: str,
    *,
    owner: Owner | None = None,
    replace: bool,
    progress: Progress,
) -> None:
    """Write the whole disk into the image `file`, as sparse as it is; the machine must be off.

    `owner` gives what the chip needs to open the disk. The file stands complete or not at all, and
    is its owner's alone (0600). One that exists is kept unless `replace`. Raises SpacegrayError.
    """
    doing = f"exporting the disk of {workstation.name} to {file}"
    file = file.absolute()
    may_write(file, doing, replace=replace)
    with unfinished_file(file, doing) as unfinished:
        with (
            hold.chip(
                workstation.at, doing, f"being exported to {file}", owner, wants="served"
            ) as chip,
            _served(workstation, chip, doing) as (folder, address),
        ):
            _copy(
                ["-f", "raw", "-O", format_, *_CREATION.get(format_, ()), address, str(unfinished)],
                folder,
                Reach(_READABLE, (unfinished, Path("/dev/null")), sockets=(socket.AF_UNIX,)),
                doing,
                progress,
                hint=f"`ssd verify {workstation.name}` says whether the disk is sound",
            )
        _finish(unfinished, file, doing, replace=replace)


def import_(
    workstation: Workstation,
    file: Path,
    format_: str,
    *,
    owner: Owner | None = None,
    progress: Progress,
) -> None:
    """Put the image `file` in place of all that is on the disk; the machine must be off.

    The disk is made anew, under a new key, and only what the image holds is written to it.
    Raises SpacegrayError; an image that is no image, or does not fit, changes nothing.
    """
    doing = f"importing {file} into {workstation.name}"
    file = file.absolute()
    size_bytes = _size(file, format_, doing)
    capacity_bytes = workstation.installed.disk_bytes
    if size_bytes > capacity_bytes:
        raise SpacegrayError(
            doing,
            f"the image's {size_bytes} bytes do not fit on the disk's {capacity_bytes}",
            "make a workstation with a larger SSD for it (`ssd_tb` in the spec)",
        )
    with hold.chip(workstation.at, doing, f"importing {file}", owner, wants="served") as chip:
        format_with(workstation, chip.mailbox)
        with _served(workstation, chip, doing) as (folder, address):
            _copy(
                ["-n", "--target-is-zero", "-f", format_, "-O", "raw", str(file), address],
                folder,
                Reach((*_READABLE, file), (Path("/dev/null"),), sockets=(socket.AF_UNIX,)),
                doing,
                progress,
                hint="see that the image is whole and in one file, then import it again",
            )
        other = not is_ours(chip.mailbox)
        create.note_empty(workstation.at, workstation.installed, empty=False, other=other)
        _note_what_it_is(workstation, chip, progress, other=other)


def _note_what_it_is(
    workstation: Workstation, chip: hold.Chip, progress: Progress, *, other: bool
) -> None:
    """Say beforehand what the boot policy will have to say of the new disk."""
    if other:
        progress.note("the disk is another system's: it starts as far as the policy lets it")
    elif not is_named(chip.mailbox, workstation.installed):
        progress.note(
            "the chip's ticket names another system than is on this disk: with Full Security "
            f"`reinstall {workstation.name}` puts one beside it that starts, and keeps the data"
        )


def _size(file: Path, format_: str, doing: str) -> int:
    """The size in bytes of the disk in an image; raises SpacegrayError where it is none."""
    try:
        with file.open("rb") as opened:
            if not stat.S_ISREG(os.fstat(opened.fileno()).st_mode):
                raise UsageError(doing, "it is no file", "give an image's file")
    except PermissionError:
        raise UsageError(
            doing,
            f"the user {host.user()} may not read it",
            f"let that user read it, or copy it to where it can, such as {Path.home()}",
        ) from None
    except OSError as error:
        raise UsageError(doing, error.strerror, "give the path of an image") from None
    child = _spawn(
        ["info", "--output=json", "-f", format_, str(file)],
        Reach(read=(*_READABLE, file), write=(Path("/dev/null"),)),
        doing,
    )
    try:
        said, words = child.communicate(timeout=_INFO_SECONDS)
    except subprocess.TimeoutExpired:
        raise SpacegrayError(doing, f"{_PROGRAM} hangs", "try again") from None
    finally:
        process.stop(child, timeout_seconds=0)
    if child.returncode:
        raise SpacegrayError(
            doing, _last_line(words), f"see that it is an image of the format {format_}"
        )
    try:
        facts: dict[str, Any] = json.loads(said[:_INFO_LIMIT_BYTES])
        size_bytes = int(facts["virtual-size"])
    except (ValueError, KeyError, TypeError) as error:
        raise SpacegrayError(doing, f"{_PROGRAM} says {error}", "see `doctor`") from None
    if others := [each for each in _other_files(facts) if each != str(file)]:
        raise SpacegrayError(
            doing,
            f"it is whole only with {others[0]}",
            "make one image in one file of it with `qemu-img convert`",
        )
    return size_bytes


def _other_files(facts: dict[str, Any]) -> Iterator[str]:
    """The files that an image speaks of: whoever made it must not choose which are read."""
    specific = (facts.get("format-specific") or {}).get("data") or {}
    for name in (facts.get("backing-filename"), specific.get("data-file")):
        if name:
            yield str(name)
    for extent in specific.get("extents") or ():
        yield str(extent.get("filename"))


def may_write(file: Path, doing: str, *, replace: bool) -> None:
    """Raise UsageError where `file` exists and is to be kept, or cannot be replaced."""
    try:
        mode = file.lstat().st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise unwritable(file, doing, error) from None
    if not stat.S_ISREG(mode):
        raise UsageError(doing, "there is something already, and no file", "choose another path")
    if not replace:
        raise UsageError(doing, "that file exists", "choose another name, or give --yes")


def unwritable(file: Path, doing: str, error: OSError) -> UsageError:
    """What to raise where `error` says that `file` cannot be written."""
    if not isinstance(error, PermissionError):
        return UsageError(doing, error.strerror, "choose another path")
    return UsageError(
        doing,
        f"the user {host.user()} may not make files in {file.parent}",
        f"choose a folder where that user may, such as {Path.home()}",
    )


@contextlib.contextmanager
def unfinished_file(file: Path, doing: str) -> Iterator[Path]:
    """An empty file beside `file`, for its owner alone; removed at the end if still there."""
    try:
        descriptor, name = tempfile.mkstemp(".part", f".{file.name}.", file.parent)
    except OSError as error:
        raise unwritable(file, doing, error) from None
    os.close(descriptor)
    unfinished = Path(name)
    try:
        yield unfinished
    finally:
        unfinished.unlink(missing_ok=True)


def _finish(unfinished: Path, file: Path, doing: str, *, replace: bool) -> None:
    """Give the finished file its name, durably, and to nobody else's loss."""
    try:
        with unfinished.open("rb") as written:
            os.fsync(written.fileno())
        may_write(file, doing, replace=replace)
        unfinished.rename(file)
    except OSError as error:
        raise SpacegrayError(doing, error.strerror, "see to that disk, then try again") from None


@contextlib.contextmanager
def _served(workstation: Workstation, chip: hold.Chip, doing: str) -> Iterator[tuple[int, str]]:
    """The disk served on a socket of our own; a descriptor of its folder, and its address.

    The path goes through that descriptor: the folder's own may be longer than a socket's may be.
    """
    ways_back.must_have_disk(workstation.at, doing, chip.mailbox.show())
    path = workstation.at.run / _SOCKET_NAME
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with bind_unix(path) as listener:
            chip.mailbox.serve_disk(listener)
        yield folder, f"nbd+unix:///?socket=/proc/self/fd/{folder}/{_SOCKET_NAME}"
        chip.mailbox.close_disk()
    finally:
        path.unlink(missing_ok=True)
        os.close(folder)


def _copy(
    words: Sequence[str],
    folder: int,
    reach: Reach,
    doing: str,
    progress: Progress,
    *,
    hint: str,
) -> None:
    """Run `qemu-img convert` to its end; raises SpacegrayError with its own last line."""
    label = doing.partition(" ")[0]
    with tempfile.TemporaryFile() as diagnostics:
        child = _spawn(["convert", "-p", *words], reach, doing, (folder,), diagnostics)
        assert child.stdout is not None
        try:
            with child.stdout as said:
                _follow(said, label, progress)
            status = child.wait()
        finally:
            process.stop(child)
        if status:
            diagnostics.seek(0)
            text = _last_line(diagnostics.read(_INFO_LIMIT_BYTES))
            full = "no space left" in text.lower()
            next_step = "make room on that disk and try again" if full else hint
            raise SpacegrayError(doing, text or f"{_PROGRAM}: status {status}", next_step)


def _follow(said: IO[bytes], label: str, progress: Progress) -> None:
    rest = b""
    while chunk := os.read(said.fileno(), _READ_BYTES):
        *lines, rest = (rest + chunk).split(b"\r")
        for line in lines:
            if match := _PERCENT.search(line):
                whole, hundredths = map(int, match.groups())
                progress.step(label, 100 * whole + hundredths, _PROGRESS_TOTAL)


def _spawn(
    words: Sequence[str],
    reach: Reach,
    doing: str,
    descriptors: Sequence[int] = (),
    diagnostics: IO[bytes] | None = None,
) -> "subprocess.Popen[bytes]":
    try:
        return process.spawn(
            [_PROGRAM, *words],
            descriptors=descriptors,
            reach=reach,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if diagnostics is None else diagnostics.fileno(),
        )
    except FileNotFoundError:
        raise SpacegrayError(
            doing, f"there is no {_PROGRAM}", "install the package qemu-utils"
        ) from None
    except (OSError, subprocess.SubprocessError) as error:
        raise SpacegrayError(doing, error, "see `doctor`") from None


def _last_line(text: bytes) -> str:
    lines = [line.strip() for line in text.decode(errors="replace").splitlines()]
    last = next((line for line in reversed(lines) if line), "")
    return last.removeprefix(f"{_PROGRAM}: ")
