"""The raw logs of one start, bounded: a guest may write on its serial console for ever."""

from pathlib import Path

SERIAL_LIMIT_BYTES = 8 << 20
TAIL_BYTES = 4096


class CappedLog:
    """A log that keeps the beginning of a start (the boot) and, beyond the limit, nothing."""

    def __init__(self, path: Path, limit_bytes: int = SERIAL_LIMIT_BYTES) -> None:
        self._file = path.open("wb", buffering=0)
        self._room = limit_bytes

    def write(self, data: bytes) -> None:
        """Append `data` as far as there is room; a full host disk loses the log, not the guest."""
        if self._room <= 0:
            return
        try:
            self._file.write(data[: self._room])
        except OSError:
            self._room = 0
            return
        self._room -= len(data)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def last_line(path: Path) -> str:
    """The last line of a child's log that is not empty; "" where there is none."""
    try:
        with path.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - TAIL_BYTES))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
