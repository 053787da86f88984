"""Runs Python where two folders of a home are small file systems of their own, without root."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT_SECONDS = 300


def run(home: Path, script: str, *, modules_mb: int, state_kb: int) -> str:
    """What `script` prints; `home` is in its name space, with `workstations` and `state` small.

    Skips the test where this host grants no user namespaces with mounts.
    """
    inside = (
        f'mkdir -p "$0/workstations" "$0/state" && '
        f'mount -t tmpfs -o size={modules_mb}m,mode=700 none "$0/workstations" && '
        f'mount -t tmpfs -o size={state_kb}k,mode=700 none "$0/state" && exec "$@"'
    )
    words = ["unshare", "--map-current-user", "--user", "--mount", "--keep-caps"]
    words += ["sh", "-c", inside, str(home)]
    if subprocess.run([*words, "true"], capture_output=True, check=False).returncode:
        pytest.skip("needs user namespaces with mounts, for a small disk of its own")
    head = (
        "from pathlib import Path\nfrom tests.support import ssd\n"
        "from tests.support.small_disk import fill_up\n"
        f"home = Path({str(home)!r})\n"
    )
    done = subprocess.run(
        [*words, sys.executable, "-c", head + script],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'src'}"},
        capture_output=True,
        text=True,
        timeout=SCRIPT_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def fill_up(folder: Path, *, leave_bytes: int = 0) -> Path:
    """Fill the file system of `folder` up to all but `leave_bytes`; returns the file that does."""
    filler = folder / "filler"
    room = os.statvfs(folder)
    filler.write_bytes(bytes(max(0, room.f_bavail * room.f_frsize - leave_bytes)))
    if not leave_bytes:
        assert os.statvfs(folder).f_bavail == 0
    return filler
