"""Systems in a machine without a chip: recovery, with one that only says its lines, and others.

The board is the product's, the firmware without keys, so that images start which nobody signed.
"""

import base64
import contextlib
import re
import secrets
import select
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from spacegray.machine import board
from tests.support.powered import made

FIRMWARE = Path("/usr/share/OVMF/OVMF_CODE_4M.secboot.fd")
VARIABLES = Path("/usr/share/OVMF/OVMF_VARS_4M.fd")
SECONDS = 120.0
"""How long anything may take to appear."""
ECID = "0011223344556677"
SILENCE_SECONDS = 0.7
"""After this long without a byte a window is complete."""
_READ_BYTES = 65536
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[()][A-Z0-9]|\x1b[=>78]|\x0e|\x0f")


@dataclass
class FakeChip:
    """The chip's end of the recovery port: the lines of docs/recovery-port.md, and no vault."""

    password: bytes = b"correct horse"
    recovery_key: bytes = b"ABCD-EFGH"
    settings: dict[str, str] = field(
        default_factory=lambda: {"policy": "full", "external_boot": "deny", "other_systems": "deny"}
    )
    firmware_password: bytes | None = None
    owner: bool = False
    bad: int = 0
    heard: list[str] = field(default_factory=list)
    """The operations that it was asked for, without their arguments."""
    erased: bool = False
    _session: str = ""

    def answer(self, line: str) -> str:
        """What it says to one line."""
        words = line.split()
        if words == ["hello"]:
            self._session = secrets.token_hex(16)
            return f"session {self._session}"
        session, number, operation, *given = words
        if session != self._session or number != "1":
            return f"{number} no replayed That was said before."
        self._session = ""
        self.heard.append(operation)
        return f"{number} {self._do(operation, given)}"

    def _do(self, operation: str, given: list[str]) -> str:
        match operation, given:
            case "show", []:
                return self._show()
            case "authenticate", ["password", secret]:
                if base64.b64decode(secret) != self.password:
                    return "no wrong The password is not right; 8 tries are left."
                self.owner = True
                return "ok"
            case "new-password", [key, secret]:
                if base64.b64decode(key) != self.recovery_key:
                    return "no wrong The recovery key is not right; 8 tries are left."
                self.password = base64.b64decode(secret)
                return "ok"
            case "verify", [block]:
                following = min(int(block) + 250, 1000)
                return f"ok next={following} checked=250 bad={self.bad} blocks=1000"
            case "erase", [ecid] if ecid == ECID:
                self.erased = True
                return "ok"
        if not self.owner:
            return "no unauthorised The owner has not authenticated."
        match operation, given:
            case "set", changes:
                self.settings.update(dict(change.split("=", 1) for change in changes))
                return "ok"
            case "firmware-password", []:
                self.firmware_password = None
                return "ok"
            case "firmware-password", [secret]:
                self.firmware_password = base64.b64decode(secret)
                return "ok"
        return "no unknown There is no such operation."

    def _show(self) -> str:
        facts: dict[str, Any] = {
            **self.settings,
            "firmware_password": int(self.firmware_password is not None),
            "password": 1,
            "recovery_key": 1,
            "owner": int(self.owner),
            "ecid": ECID,
            "product": "tiny",
            "epoch": 1789199741,
            "life": "alive",
            "disk_blocks": 1000,
        }
        return "ok " + " ".join(f"{key}={value}" for key, value in facts.items())


class Machine:
    """A running recovery system: its serial console, the guest's port, its display, its end."""

    def __init__(self, child: "subprocess.Popen[bytes]", ends: dict[str, socket.socket]) -> None:
        self.child = child
        self._ends = ends
        self.began = time.monotonic()
        self.console = ""
        """All that came over the serial console, without escape sequences."""
        self.raw = b""
        self._looked = 0
        self._guest = b""

    def until(self, text: str) -> None:
        """Wait until `text` appears on the serial console, behind what was waited for before.

        And until all that belongs to it is there: what is typed earlier is thrown away.
        """
        deadline = time.monotonic() + SECONDS
        while (at := self.console.find(text, self._looked)) < 0:
            assert time.monotonic() < deadline, f"no {text!r} in {self.console[self._looked :]}"
            self._read_console()
        self._looked = at + len(text)
        while self._read_console(SILENCE_SECONDS):
            pass

    def until_true(self, true: Callable[[], bool]) -> None:
        """Wait for something else than words; the console is read meanwhile, or the guest waits."""
        deadline = time.monotonic() + SECONDS
        while not true():
            assert time.monotonic() < deadline, self.console[self._looked :]
            self._read_console()

    def type(self, text: str) -> None:
        """Type at the serial console."""
        self._ends["serial"].sendall(text.encode())

    def tell(self, line: str) -> None:
        """Say a line to the guest."""
        self._ends["guest"].sendall(line.encode() + b"\n")

    def hear(self) -> str:
        """The next line that the guest says."""
        deadline = time.monotonic() + SECONDS
        while b"\n" not in self._guest:
            assert time.monotonic() < deadline, "the guest says nothing"
            if select.select([self._ends["guest"]], [], [], 0.1)[0]:
                self._guest += self._ends["guest"].recv(_READ_BYTES)
            self._read_console(0)
        line, _, self._guest = self._guest.partition(b"\n")
        return line.decode()

    def ready(self) -> str:
        """Greet the guest and wait until it says that it is ready; returns its words."""
        nonce = secrets.token_hex(16)
        self.until("spacegray: link kernel ok")
        self.tell(f"hello {nonce}")
        self.tell("go")
        line = self.hear()
        assert line.startswith(f"ready {nonce} "), line
        return line

    def command(self, name: str, **arguments: object) -> Any:
        """Run one QMP command."""
        monitor = self._ends["monitor"]
        monitor.sendall(msgspec.json.encode({"execute": name, "arguments": arguments}))
        while True:
            said = msgspec.json.decode(self._monitor_line())
            if "return" in said or "error" in said:
                return said.get("return", said.get("error"))

    def picture(self, path: Path) -> None:
        """The display as it is now, as a PNG file."""
        self.command("screendump", filename=str(path), format="png")

    def end(self) -> int:
        """Wait until the machine is off; returns QEMU's exit status."""
        deadline = time.monotonic() + SECONDS
        while self.child.poll() is None:
            assert time.monotonic() < deadline, "the machine is still on"
            self._read_console()
        return self.child.returncode

    def _monitor_line(self) -> bytes:
        line = b""
        while not line.endswith(b"\n"):
            byte = self._ends["monitor"].recv(1)
            assert byte, "QEMU is gone"
            line += byte
        return line

    def _read_console(self, seconds: float = 0.1) -> bool:
        """Take in what comes; returns whether anything did."""
        if not select.select([self._ends["serial"]], [], [], seconds)[0]:
            return False
        with contextlib.suppress(OSError):
            chunk = self._ends["serial"].recv(_READ_BYTES)
            self.raw += chunk
            self.console = _ESCAPES.sub("", self.raw.decode(errors="replace"))
            return bool(chunk)
        return False


@contextlib.contextmanager
def recovery(medium: Path, chip: FakeChip) -> Iterator[Machine]:
    """Start the recovery system on `medium` and `chip`; it is off at the end."""
    ours, theirs = socket.socketpair()
    with ours, theirs, medium.open("rb") as image:
        served = threading.Thread(target=_serve, args=(ours, chip), daemon=True)
        served.start()
        given = {"medium": image.fileno(), "recovery_port": theirs.fileno()}
        with _machine(board.command, **given) as machine:
            yield machine
        ours.shutdown(socket.SHUT_RDWR)
        served.join()


@contextlib.contextmanager
def plain(disk: Path) -> Iterator[Machine]:
    """Start the system on the raw image `disk`; it is off at the end."""
    with disk.open("r+b") as image, _machine(board.plain_command, disk=image.fileno()) as machine:
        yield machine


@contextlib.contextmanager
def _machine(command: Callable[..., list[str]], **given: int) -> Iterator[Machine]:
    with contextlib.ExitStack() as stack:
        pairs = {name: socket.socketpair() for name in ("monitor", "serial", "guest")}
        for end in (end for pair in pairs.values() for end in pair):
            stack.enter_context(end)
        variables = stack.enter_context(tempfile.TemporaryFile())
        variables.write(VARIABLES.read_bytes())
        variables.flush()
        descriptors = board.Descriptors(
            firmware=stack.enter_context(FIRMWARE.open("rb")).fileno(),
            variables=variables.fileno(),
            monitor=pairs["monitor"][1].fileno(),
            serial=pairs["serial"][1].fileno(),
            guest_port=pairs["guest"][1].fileno(),
            **given,
        )
        words = command(made(), descriptors, board.Identity("pro", int(ECID, 16)))
        child = subprocess.Popen(words, stdin=subprocess.DEVNULL, pass_fds=descriptors.all())
        stack.callback(child.wait)
        stack.callback(child.kill)
        machine = Machine(child, {name: pairs[name][0] for name in pairs})
        machine.command("qmp_capabilities")
        yield machine


def _serve(end: socket.socket, chip: FakeChip) -> None:
    with contextlib.suppress(OSError), end.makefile("rwb", buffering=0) as stream:
        for line in stream:
            stream.write(chip.answer(line.decode().strip()).encode() + b"\n")
