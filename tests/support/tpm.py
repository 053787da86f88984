"""An emulated TPM for tests: swtpm in a folder of its own, with many connections to it.

swtpm serves one connection at a time. Here any number lead to it, as through the kernel's
/dev/tpmrm0: one command is carried out after the other, and what a connection has loaded is freed
when it ends. What passes is counted and kept, so that a test can look for secrets in it.
"""

import contextlib
import shutil
import socket
import struct
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

START_SECONDS = 20
ANSWER_SECONDS = 60
PAUSE_SECONDS = 0.002
"""Between two looks whether swtpm has come up."""

HEADER = struct.Struct(">HII")
"""Tag, size of all of it, code: of commands and answers alike (TPM 2.0 library, part 1, 18)."""

CREATE_PRIMARY = 0x131
FLUSH_CONTEXT = 0x165
START_AUTH_SESSION = 0x176
GET_CAPABILITY = 0x17A
CLEAR = 0x126
NV_INCREMENT = 0x134
"""How the host's counter is counted up; `commands[NV_INCREMENT]` says how often it was."""

NO_SESSIONS, SESSIONS = 0x8001, 0x8002
LOCKOUT, PASSWORD = 0x4000_000A, 0x4000_0009


class EmulatedTpm:
    """A TPM that is on. Its socket is what SPACEGRAY_TPM may name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.socket = folder / "tpm"
        self.commands: Counter[int] = Counter()
        """How often each command was carried out, by its code."""
        self.traffic: list[bytes] = []
        """Every command and answer, as they passed."""
        self._turn = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._tpm: socket.socket | None = None
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.socket))
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()
        self.start()

    def start(self) -> None:
        """Give the TPM power."""
        with self._turn:
            self._switch_on()

    def kill(self) -> None:
        """Cut the TPM's power without a word to it. Connections end."""
        with self._turn:
            self._switch_off()

    def restart(self) -> None:
        """Cut the power and give it back, as when the host is switched off. Connections stay."""
        with self._turn:
            self._switch_off()
            self._switch_on()

    def lose(self) -> None:
        """Put another TPM, a new one, in its place."""
        with self._turn:
            self._switch_off()
            shutil.rmtree(self.folder / "state")
            self._switch_on()

    def clear(self) -> None:
        """Have the TPM forget everything of its owner's: TPM2_Clear."""
        password = struct.pack(">IHBH", PASSWORD, 0, 0, 0)
        body = struct.pack(">II", LOCKOUT, len(password)) + password
        answer = self.carry_out(SESSIONS, CLEAR, body)
        assert HEADER.unpack_from(answer)[2] == 0, answer.hex()

    def indices(self) -> list[int]:
        """The handles of the indices in the TPM's memory."""
        answer = self.carry_out(
            NO_SESSIONS, GET_CAPABILITY, struct.pack(">III", 1, 0x0100_0000, 254)
        )
        (count,) = struct.unpack_from(">I", answer, 15)
        return list(struct.unpack_from(f">{count}I", answer, 19))

    def carry_out(self, tag: int, code: int, body: bytes) -> bytes:
        """Have a command carried out for the test itself; it is neither counted nor kept."""
        with self._turn:
            return self._exchange(HEADER.pack(tag, HEADER.size + len(body), code) + body)

    def close(self) -> None:
        """Switch it off for good."""
        self._listener.close()
        self.kill()

    def _switch_on(self) -> None:
        assert self._process is None
        state, place = self.folder / "state", self.folder / "swtpm"
        state.mkdir(exist_ok=True)
        place.unlink(missing_ok=True)
        program = shutil.which("swtpm")
        assert program, "this test needs the program swtpm: ./test installs it (package swtpm)"
        self._process = subprocess.Popen(
            [
                *(program, "socket", "--tpm2", "--flags", "not-need-init,startup-clear"),
                *("--tpmstate", f"dir={state}", "--server", f"type=unixio,path={place}"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + START_SECONDS
        while self._tpm is None:
            tpm = socket.socket(socket.AF_UNIX)
            tpm.settimeout(ANSWER_SECONDS)
            try:
                tpm.connect(str(place))
                self._tpm = tpm
            except OSError:
                tpm.close()
                if time.monotonic() > deadline:
                    raise
                time.sleep(PAUSE_SECONDS)

    def _switch_off(self) -> None:
        if self._process is not None and self._tpm is not None:
            self._process.kill()
            self._process.wait()
            self._tpm.close()
            self._process = self._tpm = None

    def _exchange(self, command: bytes) -> bytes:
        if self._tpm is None:
            raise ConnectionError("the TPM has no power")
        self._tpm.sendall(command)
        answer = receive(self._tpm)
        if answer is None:
            raise ConnectionError("swtpm ended")
        return answer

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        """One connection, to its end."""
        loaded: set[int] = set()
        with client, contextlib.suppress(OSError):
            while command := receive(client):
                with self._turn:
                    answer = self._exchange(command)
                    self.traffic += [command, answer]
                    self.commands[HEADER.unpack_from(command)[2]] += 1
                remember(loaded, command, answer)
                client.sendall(answer)
        for handle in loaded:
            with contextlib.suppress(OSError):
                self.carry_out(NO_SESSIONS, FLUSH_CONTEXT, struct.pack(">I", handle))


def receive(stream: socket.socket) -> bytes | None:
    """One whole command or answer; None at the connection's end."""
    header = stream.recv(HEADER.size, socket.MSG_WAITALL)
    if len(header) < HEADER.size:
        return None
    size = HEADER.unpack(header)[1] - HEADER.size
    body = stream.recv(size, socket.MSG_WAITALL) if size else b""
    return header + body if len(body) == size else None


def remember(loaded: set[int], command: bytes, answer: bytes) -> None:
    """Keep which objects and sessions a connection has loaded."""
    if HEADER.unpack_from(answer)[2] != 0:
        return
    code = HEADER.unpack_from(command)[2]
    if code in (CREATE_PRIMARY, START_AUTH_SESSION):
        loaded.add(*struct.unpack_from(">I", answer, HEADER.size))
    elif code == FLUSH_CONTEXT:
        loaded.discard(*struct.unpack_from(">I", command, HEADER.size))


@contextlib.contextmanager
def emulated_tpm(*, like: EmulatedTpm | None = None) -> Iterator[EmulatedTpm]:
    """A TPM, apart from every folder of the product's; gone with the context.

    It is new, or has the memory that `like` has now.
    """
    with tempfile.TemporaryDirectory(prefix="spacegray-tpm-") as folder:
        if like is not None:
            shutil.copytree(like.folder / "state", Path(folder) / "state")
        tpm = EmulatedTpm(Path(folder))
        try:
            yield tpm
        finally:
            tpm.close()
