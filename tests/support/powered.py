"""A machine on the real board with nobody above it: its firmware's words, and QEMU's monitor.

What a start is given comes from the caller: a chip's own consent to a start, or things made by
hand. It is ended as soon as the caller knows enough.
"""

import contextlib
import json
import re
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO, Any

from spacegray import host, process
from spacegray.machine import board
from spacegray.machine.accelerator import choose
from spacegray.paths import Paths
from spacegray.spec import Spec

IDENTITY = board.Identity("test", 0x1122334455667788)
MEMORY_MB = 512
SECONDS_WITH_KVM = 20.0
STOP_SECONDS = 10.0
_CHUNK_BYTES = 64 * 1024
_CONTROL = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass
class Powered:
    """A machine that is on."""

    serial: socket.socket
    monitor: socket.socket
    patience_seconds: float
    heard: bytes = field(default=b"")
    """What was said on the serial line, without the codes that move a cursor."""
    _stream: IO[str] | None = None

    def wait_for(self, *words: bytes) -> bytes:
        """The first of these that is said; the empty string if the machine ends before.

        Fails after `patience_seconds`.
        """
        deadline = time.monotonic() + self.patience_seconds
        while True:
            found = {self.heard.find(word): word for word in words if word in self.heard}
            if found:
                return found[min(found)]
            left = deadline - time.monotonic()
            assert left > 0, f"none of {words} in {self.heard[-2000:]!r}"
            if not self.listen(left):
                return b""

    def listen(self, seconds: float) -> bool:
        """Hear what is said next within a time; whether the machine still runs."""
        self.serial.settimeout(seconds)
        try:
            data = self.serial.recv(_CHUNK_BYTES)
        except TimeoutError:
            return True
        except ConnectionError:
            return False
        self.heard = _CONTROL.sub(b"", self.heard + data)
        return bool(data)

    def type(self, keys: bytes) -> None:
        """Type on the serial line; what nobody reads is lost."""
        self.serial.setblocking(False)
        with contextlib.suppress(BlockingIOError, BrokenPipeError):
            self.serial.send(keys)

    def ask(self, line: str) -> str:
        """What QEMU's human monitor answers to a line."""
        if self._stream is None:
            self._stream = self.monitor.makefile("rw")
            assert "QMP" in json.loads(self._stream.readline())
            self._execute("qmp_capabilities", {})
        said: str = self._execute("human-monitor-command", {"command-line": line})
        return said.replace("\r\n", "\n")

    def _execute(self, command: str, arguments: dict[str, str]) -> Any:
        assert self._stream is not None
        self._stream.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self._stream.flush()
        while "return" not in (answer := json.loads(self._stream.readline())):
            assert "error" not in answer, answer
        return answer["return"]


def made() -> board.Board:
    """The board that is given here, small."""
    accelerator = choose(Paths.current())
    whole = board.scale(Spec(), host.Host.current(), accelerator)
    return board.Board(
        accelerator, 1, MEMORY_MB, whole.processor, whole.graphics, whole.ordered_cores
    )


@contextlib.contextmanager
def powered(
    *,
    firmware: int,
    variables: int,
    disk: int | None = None,
    medium: int | None = None,
    recovery_port: int | None = None,
    external: int | None = None,
) -> Iterator[Powered]:
    """A machine with these, from now until the end of the block; the descriptors stay ours."""
    here = made()
    pairs = [socket.socketpair() for _ in range(3)]
    (monitor, _), (serial, _), _ = pairs
    theirs = [pair[1].fileno() for pair in pairs]
    descriptors = board.Descriptors(
        firmware=firmware, variables=variables, disk=disk, medium=medium,
        recovery_port=recovery_port, external=external,
        monitor=theirs[0], serial=theirs[1], guest_port=theirs[2],
    )  # fmt: skip
    try:
        qemu = process.spawn(
            board.command(here, descriptors, IDENTITY),
            descriptors=descriptors.all(),
            reach=board.reach(here),
        )
        for _, end in pairs:
            end.close()
        try:
            patience = SECONDS_WITH_KVM * here.accelerator.timeout_factor
            monitor.settimeout(patience)
            yield Powered(serial, monitor, patience)
        finally:
            qemu.kill()
            qemu.wait(STOP_SECONDS)
    finally:
        for pair in pairs:
            for end in pair:
                end.close()
