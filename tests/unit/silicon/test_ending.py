"""The programs of the silicon end with whoever started them, although others hold their links."""

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from spacegray.chip.launch import find_ssdd
from tests.support import authorityd, vaultd

NOTICE_SECONDS = 20
STARTER = """
import subprocess, sys, time
child = subprocess.Popen(sys.argv[2:], pass_fds=eval(sys.argv[1]))
print(child.pid, flush=True)
time.sleep(1000)
"""


@pytest.mark.parametrize("find", [vaultd.program, find_ssdd, authorityd.program])
def test_it_ends_with_its_parent(find: Callable[[], Path], tmp_path: Path) -> None:
    program = find()
    with contextlib.ExitStack() as held:
        links = [
            held.enter_context(end)
            for _ in range(2)
            for end in socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ]
        folder = os.open(tmp_path, os.O_RDONLY)
        held.callback(os.close, folder)
        modules = [held.enter_context((tmp_path / name).open("w+b")).fileno() for name in "01"]
        words = ["--link-fd", str(links[0].fileno())]
        if program.name == "ssdd":
            words += ["--vault-fd", str(links[2].fileno())]
            words += [word for module in modules for word in ("--module-fd", str(module))]
        else:
            words += ["--state-fd", str(folder)]
        given = (links[0].fileno(), links[2].fileno(), folder, *modules)
        starter = held.enter_context(
            subprocess.Popen(
                [sys.executable, "-c", STARTER, repr(given), program, *words],
                stdout=subprocess.PIPE, pass_fds=given,
            )
        )  # fmt: skip
        assert starter.stdout is not None
        child = psutil.Process(int(starter.stdout.readline()))
        # Once it is confined it has made itself ready, and waits.
        while "Seccomp:\t2" not in Path(f"/proc/{child.pid}/status").read_text():
            assert child.status() != psutil.STATUS_ZOMBIE, "it ended by itself"
        starter.kill()
        _, alive = psutil.wait_procs([child], timeout=NOTICE_SECONDS)
        assert not alive
