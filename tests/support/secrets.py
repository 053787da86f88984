"""What tests of the owner's verbs share: secrets in files, and errors of one line."""

import subprocess
from pathlib import Path


def line(done: "subprocess.CompletedProcess[str]", status: int = 1) -> str:
    """The one line of an error."""
    assert done.returncode == status, done.stdout + done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    return lines[0]


def written(folder: Path, **words: str) -> dict[str, str]:
    """A file for each of `words`, by its name; returns their paths."""
    paths = {}
    for name, word in words.items():
        (folder / name).write_text(f"{word}\n")
        paths[name] = str(folder / name)
    return paths
