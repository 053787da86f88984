"""Runs Python where the user of the tests is root over users of its own, without being root.

In there are other users (1 to 65535), and what only root may do can be tried: looking into the
memory of processes that hide it, being somebody else.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT_SECONDS = 300
STRANGER = 2000
"""The number of a user in there who owns nothing."""
_WORDS = ("unshare", "--user", "--map-root-user", "--map-auto", "--")


def run(script: str, **given: object) -> Any:
    """What `script` prints as JSON; `given` are its variables. Skips the test where it cannot be.

    Needs subordinate ids (newuidmap), which building a system needs as well.
    """
    tried = subprocess.run([*_WORDS, "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"needs user namespaces with subordinate ids: {tried.stderr.strip()}")
    head = "import json, sys\nglobals().update(json.loads(sys.argv[1]))\n"
    done = subprocess.run(
        [*_WORDS, sys.executable, "-c", head + script, json.dumps(given)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'src'}"},
        capture_output=True,
        text=True,
        timeout=SCRIPT_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)
