"""What a confined process keeps is what its reach names; the attacks on it are in tests/attacks."""

import json
import subprocess
import sys

import pytest

SCRIPT = """
import json, os, resource, socket, sys
from pathlib import Path
from spacegray.confinement import Reach, confine

def make(family):
    socket.socket(family).close()

def process():
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.kill(child, 0)
    os.waitpid(child, 0)

folder = Path(sys.argv[1])
confine(Reach(write=(folder,), **json.loads(sys.argv[2])))
outcomes = []
for name, attempt in {
    "internet": lambda: make(socket.AF_INET),
    "internet 6": lambda: make(socket.AF_INET6),
    "unix": lambda: make(socket.AF_UNIX),
    "netlink": lambda: make(socket.AF_NETLINK),
    "packets": lambda: make(socket.AF_PACKET),
    "processes": process,
    "modes": lambda: (folder / "file").chmod(0o600),
    "pair": lambda: [each.close() for each in socket.socketpair()],
    "pair of packets": lambda: socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET),
    "own signals": lambda: os.kill(os.getpid(), 0),
    "own limits": lambda: resource.getrlimit(resource.RLIMIT_NOFILE),
    "files": lambda: (folder / "file").write_text("x"),
}.items():
    try:
        attempt()
        outcomes.append(name)
    except PermissionError:
        pass
print(json.dumps(outcomes))
"""
ALWAYS = {"pair", "pair of packets", "own signals", "own limits", "files"}


@pytest.mark.parametrize(
    ("reach", "kept"),
    [
        ({}, set()),
        ({"sockets": [1]}, {"unix"}),
        ({"sockets": [2, 10]}, {"internet", "internet 6"}),
        ({"processes": True}, {"processes"}),
        ({"modes": True}, {"modes"}),
    ],
    ids=str,
)
def test_only_what_was_named_is_kept(tmp_path, reach, kept):
    (tmp_path / "file").write_text("x")
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path), json.dumps(reach)],
        capture_output=True,
        check=True,
    )
    assert set(json.loads(done.stdout)) == ALWAYS | kept
