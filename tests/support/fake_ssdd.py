"""A stand-in for the disk's controller that speaks its link and keeps no data.

`program` writes a script that behaves as told, so that the chip's side can be tested against
refusals, deaths and nonsense which the real controller does not show when asked.
"""

import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

import cbor2

ROOT = Path(__file__).resolve().parents[2]
PACKET_LIMIT_BYTES = 4096
VERIFY_BLOCKS = 16384
"""How many blocks one request to verify looks at."""
CAPACITY_BYTES = 64 * 1024**2
STATUS = {
    "used_bytes": 8192,
    "physical_bytes": 16384,
    "spare_bytes": CAPACITY_BYTES,
    "host_written_blocks": 2,
    "slots_written": 5,
    "blocks_cleaned": 0,
    "segments_cleaned": 0,
    "trimmed_blocks": 1,
    "read_errors": 0,
    "opens": 1,
    "power_cuts": 0,
    "sequence": 7,
    "anchored_sequence": 7,
    "cache_hits": 1,
    "cache_misses": 1,
    "stopped": 0,
}


def program(folder: Path, **behaviour: Any) -> Path:
    """A program in `folder` that behaves so.

    Each key is an operation, its value a refusal's fields, raw bytes to answer with, "die", "hang"
    or "hang up". `exit` is the status it ends with, or "hang".
    """
    path = folder / "fake-ssdd"
    path.write_text(
        f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(ROOT)!r})\n"
        f"from tests.support.fake_ssdd import run\nrun({behaviour!r})\n"
    )
    path.chmod(0o700)
    return path


def run(behaviour: dict[str, Any]) -> None:
    """Serve the link until it closes."""
    words = sys.argv[1:]
    given = [(words[at], int(words[at + 1])) for at in range(0, len(words), 2)]
    assert [name for name, _ in given] == ["--link-fd", "--vault-fd", "--module-fd", "--module-fd"]
    numbers = [number for _, number in given]
    link, modules = socket.socket(fileno=numbers[0]), numbers[2:]
    state = "closed"
    while True:
        packet, descriptors, _, _ = socket.recv_fds(link, PACKET_LIMIT_BYTES, 1)
        if not packet:
            if behaviour.get("exit") == "hang":
                time.sleep(1000)
            sys.exit(behaviour.get("exit", 0))
        request = cbor2.loads(packet)
        told = behaviour.get(request["op"])
        match told:
            case "die":
                print("the medium burns", file=sys.stderr, flush=True)
                os.kill(os.getpid(), signal.SIGKILL)
            case "hang":
                time.sleep(1000)
            case "hang up":
                sys.exit(1)
            case bytes():
                link.send(told)
                continue
            case dict():
                link.send(
                    cbor2.dumps({"ok": False, "detail": "module 0: damaged (a test)", **told})
                )
                continue
        answer: dict[str, Any] = {"ok": True}
        match request["op"]:
            case "format":
                for number, module in enumerate(modules):
                    os.ftruncate(module, 0)
                    os.pwrite(module, f"module {number} of {request['capacity_bytes']}".encode(), 0)
            case "open":
                state = "open"
                answer |= {
                    "capacity_bytes": CAPACITY_BYTES,
                    "recovered": request["strict"],
                    "incomplete": request["adopt"],
                }
            case "serve":
                state = "served"
                assert len(descriptors) == 1, "the listening socket is missing"
            case "status":
                answer |= {"state": state, "capacity_bytes": CAPACITY_BYTES, **STATUS}
            case "verify":
                count = min(request["count"], VERIFY_BLOCKS)
                end = request["block"] + count
                answer |= {"next": end, "checked": count, "bad": [request["block"]]}
            case "close":
                state = "closed"
        link.send(cbor2.dumps(answer))
