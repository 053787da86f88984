"""A real authority process for tests: start it on a folder, ask it, watch it end.

The program is the one in SPACEGRAY_AUTHORITYD, else the release build of this checkout.
"""

import contextlib
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.support.vaultd import ANSWER_TIMEOUT_SECONDS, ROOT, Link, opened


def program() -> Path:
    """The authority's program; a plain error if nobody has built it."""
    built = ROOT / ".build" / "silicon" / "release" / "authorityd"
    path = Path(os.environ.get("SPACEGRAY_AUTHORITYD") or built)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: build the Rust programs first")
    return path


class Authorityd(Link):
    """One authority process and the other end of its link."""

    def __init__(self, process: "subprocess.Popen[str]", link: socket.socket) -> None:
        super().__init__(link)
        self.process = process

    def ticket_key(self) -> bytes:
        """What its tickets are verified with."""
        return bytes(self.ask("identity")["ticket_key"])

    def close(self) -> tuple[int, str]:
        """Close the link; returns the exit status and what it said on standard error."""
        self.link.close()
        _, said = self.process.communicate(timeout=ANSWER_TIMEOUT_SECONDS)
        return self.process.returncode, said


def private_keys(folder: Path) -> dict[str, bytes]:
    """What nobody else may have, out of the folder: its three private keys, PKCS#8 DER."""
    rest = (folder / "authority.keys").read_bytes()[8:]
    found = {}
    for name in ("ticket_key", "vendor_key", "vendor", "order_key"):
        size = int.from_bytes(rest[:2])
        found[name], rest = rest[2 : 2 + size], rest[2 + size :]
    del found["vendor"]
    return found


@contextlib.contextmanager
def authorityd(folder: Path, user: int | None = None) -> Iterator[Authorityd]:
    """An authority on this folder, as another user if the caller may choose one."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        with theirs, opened(folder, os.O_DIRECTORY) as state, opened(program()) as code:
            # Through a descriptor, since another user may not reach the checkout.
            process = subprocess.Popen(
                ["authorityd", "--state-fd", str(state), "--link-fd", str(theirs.fileno())],
                executable=f"/proc/self/fd/{code}",
                pass_fds=(state, theirs.fileno(), code),
                stdin=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                user=user,
            )
        with process:
            try:
                yield Authorityd(process, ours)
            finally:
                process.kill()
