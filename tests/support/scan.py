"""Looks for byte strings where an attacker would: files, arguments, environments, memory."""

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import psutil

CHUNK_BYTES = 4 << 20
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


def _found(chunks: Iterable[bytes], needles: dict[str, bytes]) -> set[str]:
    overlap = max(map(len, needles.values()))
    found: set[str] = set()
    tail = b""
    for chunk in chunks:
        window = tail + chunk
        found |= {name for name, needle in needles.items() if needle in window}
        tail = window[-overlap:]
    return found


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
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as memory:
        for line in maps:
            match = _MAPPING.match(line)
            if match is None or match[4] in _NOT_MEMORY:
                continue
            start, end = int(match[1], 16), int(match[2], 16)
            for position in range(start, end, CHUNK_BYTES):
                try:
                    memory.seek(position)
                    yield memory.read(min(CHUNK_BYTES, end - position))
                except OSError:
                    break
