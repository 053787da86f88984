"""Looks for byte strings where an attacker would: files, arguments, environments, memory."""

import contextlib
import os
import re
import stat
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import psutil

CHUNK_BYTES = 4 << 20
PAGE_BYTES = 4096
PAGEMAP = struct.Struct("=Q")
"""An entry of /proc/PID/pagemap: the top bits say whether the page is in memory or in swap."""
PAGE_EXISTS = 3 << 62
TEMPORARY = (Path("/tmp"), Path("/var/tmp"), Path("/dev/shm"))
_MAPPING = re.compile(r"([0-9a-f]+)-([0-9a-f]+) (r...) \S+ \S+ \S+ *(.*)")
_NOT_MEMORY = ("[vvar]", "[vsyscall]", "[vvar_vclock]")


def found_in_files(folders: Iterable[Path], needles: dict[str, bytes]) -> set[tuple[str, str]]:
    """(needle, file) for each needle that a file below `folders` holds; holes are passed over."""
    found = set()
    for folder in folders:
        for path in folder.rglob("*"):
            if path.is_file() and not path.is_symlink():
                found |= {(name, str(path)) for name in _found(_file(path), needles)}
    return found


def found_in_temporary_files(
    since: float, needles: dict[str, bytes], *, but: Path
) -> set[tuple[str, str]]:
    """The same for temporary files of this user's that were changed `since`, not those in `but`."""
    found = set()
    for path in _temporary_files(TEMPORARY, but):
        with contextlib.suppress(OSError):
            status = path.lstat()
            ours = status.st_uid == os.getuid() and stat.S_ISREG(status.st_mode)
            if ours and status.st_mtime >= since:
                found |= {(name, str(path)) for name in _found(_file(path), needles)}
    return found


def processes() -> list[psutil.Process]:
    """All processes that this user may look into, but for this one and those above it."""
    ours = {os.getpid(), *(each.pid for each in psutil.Process().parents())}
    return [each for each in psutil.process_iter() if each.pid not in ours and _open(each.pid)]


def found_in_process(pid: int, needles: dict[str, bytes]) -> set[tuple[str, str]]:
    """(needle, place) for each needle in a process's arguments, environment or memory.

    Raises PermissionError where this process may not look.
    """
    found = set()
    for place in ("cmdline", "environ"):
        content = Path(f"/proc/{pid}/{place}").read_bytes()
        found |= {(name, place) for name in _found([content], needles)}
    return found | {(name, "memory") for name in _found(_memory(pid), needles)}


def family(process: psutil.Process) -> list[psutil.Process]:
    """A process and all below it."""
    return [process, *process.children(recursive=True)]


def _open(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/mem", "rb"):
            return True
    except OSError:
        return False


def _temporary_files(folders: Iterable[Path], but: Path) -> Iterator[Path]:
    for folder in folders:
        for place, below, names in os.walk(folder):
            below[:] = [name for name in below if Path(place, name) != but]
            yield from (Path(place, name) for name in names)


def _found(chunks: Iterable[bytes], needles: dict[str, bytes]) -> set[str]:
    overlap = max(map(len, needles.values()))
    found: set[str] = set()
    tail = b""
    for chunk in _joined(chunks):
        window = tail + chunk
        found |= {
            name for name, needle in needles.items() if name not in found and needle in window
        }
        tail = window[-overlap:]
    return found


def _joined(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in fewer pieces, without those that are all zeros."""
    pieces, size_bytes = [], 0
    for chunk in chunks:
        if chunk.strip(b"\0"):
            pieces.append(chunk)
            size_bytes += len(chunk)
        if size_bytes >= CHUNK_BYTES:
            yield b"".join(pieces)
            pieces, size_bytes = [], 0
    yield b"".join(pieces)


def _file(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        size, position = os.fstat(file.fileno()).st_size, 0
        while position < size:
            try:
                position = os.lseek(file.fileno(), position, os.SEEK_DATA)
            except OSError:
                return
            hole = os.lseek(file.fileno(), position, os.SEEK_HOLE)
            while position < hole:
                chunk = os.pread(file.fileno(), min(CHUNK_BYTES, hole - position), position)
                if not chunk:
                    return
                position += len(chunk)
                yield chunk


def _memory(pid: int) -> Iterator[bytes]:
    """What is in a process's memory; pages that it has never touched are not looked for."""
    with (
        open(f"/proc/{pid}/maps") as maps,
        open(f"/proc/{pid}/mem", "rb", 0) as memory,
        open(f"/proc/{pid}/pagemap", "rb", 0) as pages,
    ):
        for line in maps:
            match = _MAPPING.match(line)
            if match is None or match[4] in _NOT_MEMORY:
                continue
            for start, end in _touched(pages, int(match[1], 16), int(match[2], 16)):
                for position in range(start, end, CHUNK_BYTES):
                    try:
                        memory.seek(position)
                        yield memory.read(min(CHUNK_BYTES, end - position))
                    except OSError:
                        break


def _touched(pages: BinaryIO, start: int, end: int) -> Iterator[tuple[int, int]]:
    """The parts of a mapping whose pages exist, in memory or in swap."""
    begin = None
    for position in range(start, end, CHUNK_BYTES):
        pages.seek(position // PAGE_BYTES * PAGEMAP.size)
        count = (min(CHUNK_BYTES, end - position)) // PAGE_BYTES
        entries = pages.read(count * PAGEMAP.size)
        for number, (entry,) in enumerate(PAGEMAP.iter_unpack(entries)):
            at = position + number * PAGE_BYTES
            if entry & PAGE_EXISTS and begin is None:
                begin = at
            elif not entry & PAGE_EXISTS and begin is not None:
                yield begin, at
                begin = None
    if begin is not None:
        yield begin, end
