"""`spacegray shell [NAME] [-- COMMAND…]`: a command in the guest, or a shell.

Becomes ssh on the connection that the supervisor keeps; only where that is not there yet does
it take the time to look. Light imports only.
"""

import json
import os
import re
import sys
import time

from spacegray.errors import SpacegrayError, UsageError
from spacegray.paths import Paths, WorkstationPaths

USAGE = """\
Usage: spacegray shell [NAME] [-- COMMAND [ARGUMENT…]]

A command in the guest (NAME defaults to pro), or without one an interactive shell. Streams,
terminal and exit status are the command's own; 255 means that the connection failed.
"""
MASTER_SECONDS = 60.0
"""How long to wait for the kept connection while it is being made."""
MASTER_POLL_SECONDS = 0.05


def shell(words: list[str]) -> int:
    """Run one session; returns only where the usage was asked for."""
    if words[:1] in (["--help"], ["-h"]):
        print(USAGE, end="")
        return 0
    name, command = _parse(words)
    at = Paths.current().workstation(name)
    record = _running(at)
    from spacegray.workstation import ssh

    deadline = time.monotonic() + MASTER_SECONDS
    while not ssh.has_master(at) and time.monotonic() < deadline:
        record = _running(at)
        time.sleep(MASTER_POLL_SECONDS)
    user = _user(at)
    ssh.execute(at, command, port=int(str(record["ssh_port"])), user=user)
    return 0


def _parse(words: list[str]) -> tuple[str, list[str]]:
    """The workstation and the command: everything behind `--`, or behind the name."""
    before, command = words, []
    if "--" in words:
        position = words.index("--")
        before, command = words[:position], words[position + 1 :]
    if before and before[0].startswith("-"):
        raise UsageError("opening a shell", f"no such option: {before[0]}", "see `shell --help`")
    if "--" not in words and len(before) > 1:
        before, command = before[:1], before[1:]
    if len(before) > 1:
        raise UsageError("opening a shell", f"unexpected {before[1]!r}", "see `shell --help`")
    return (before[0] if before else "pro"), command


def _running(at: WorkstationPaths) -> dict[str, object]:
    """The state file, if its supervisor runs; raises SpacegrayError otherwise."""
    doing = f"opening a shell on {at.name}"
    try:
        record: dict[str, object] = json.loads(at.state.read_bytes())
    except (OSError, ValueError):
        record = {"state": "off"}
    if not at.installed.exists():
        raise UsageError(doing, "there is no such workstation", f"make it with `up {at.name}`")
    pid = str(record.get("supervisor") or "").partition("@")[0]
    alive = pid and os.path.exists(f"/proc/{pid}")  # noqa: PTH110
    if record.get("state") == "locked" and alive:
        raise SpacegrayError(
            doing, f"it is locked, {record.get('reason')}", f"`start {at.name}` asks for that"
        )
    if record.get("state") == "recovery" and alive:
        raise SpacegrayError(doing, "it is in recovery", f"`restart {at.name}` starts its system")
    if record.get("state") != "running" or not alive:
        raise SpacegrayError(doing, "it is not running", f"`start {at.name}` first")
    if record.get("target", "main") != "main":
        raise SpacegrayError(
            doing, "what runs is not its own system", f"`open {at.name}` shows its screen"
        )
    return record


def _user(at: WorkstationPaths) -> str:
    match = re.search(r'^user *= *"(\w+)"', at.spec.read_text(), re.MULTILINE)
    return match[1] if match else "owner"


if __name__ == "__main__":
    sys.exit(shell(sys.argv[1:]))
