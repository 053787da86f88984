"""The ways in which a user of a host may turn its clocks and boots, without being root."""

import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_OWN = ("unshare", "--user", "--map-current-user", "--keep-caps")


def since_boot(seconds: int) -> list[str]:
    """The words that start a program for which the host has been up so much longer.

    Skips the test where this host grants no name spaces of time.
    """
    words = [*_OWN, "--time", "--boottime", str(seconds), "--fork", "--kill-child"]
    return _usable(words, "user name spaces with clocks of their own")


@contextmanager
def another_boot() -> Iterator[list[str]]:
    """The words that start a program for which the host has just been started again.

    Skips the test where this host grants no name spaces with mounts.
    """
    script = 'mount --bind "$0" /proc/sys/kernel/random/boot_id && exec "$@"'
    with tempfile.NamedTemporaryFile() as file:
        Path(file.name).write_text(f"{uuid.uuid4()}\n")
        words = [*_OWN, "--mount", "sh", "-c", script, file.name]
        yield _usable(words, "user name spaces with mounts")


def _usable(words: list[str], what: str) -> list[str]:
    if subprocess.run([*words, "true"], capture_output=True, check=False).returncode:
        pytest.skip(f"needs {what}")
    return words
