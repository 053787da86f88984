"""The encrypted disk: made, served, asked for its health, stopped.

This is the seam behind which the real SSD controller will stand. For now QEMU's storage
daemon does the work with its LUKS driver. What that means: the disk's key is in that daemon's
memory while the disk is served, there is no integrity, no rollback is noticed, and TRIM is
accepted but gives no space back (QEMU's LUKS driver drops it).

Invariants: the key goes from the vault through a pipe straight to the program that needs it;
this process closes its ends and never reads. One file, one user of it at a time. The daemon
reaches the disk's file and no other. A flush from the front end is an fdatasync of the file.
"""

import contextlib
import fcntl
import json
import os
import re
import select
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from spacegray import files, process
from spacegray.chip.messages import SECTOR_BYTES, Front
from spacegray.chip.part import Part, Watcher
from spacegray.errors import SpacegrayError
from spacegray.landlock import Reach
from spacegray.sockets import bind_unix, connect_unix

FILE_NAME: Final = "flash.luks"
DAEMON: Final = "qemu-storage-daemon"
CREATE_SECONDS: Final = 120.0
FORMAT_ATTEMPTS: Final = 20
_CLOCK_FAULT: Final = "accurate CPU usage"
"""QEMU before 9.1 times its key stretching by user time alone, and gives up at once where the
kernel happened to book all of it as system time. The next attempt mostly fares better."""
START_SECONDS: Final = 30.0
STOP_SECONDS: Final = 30.0
"""What the daemon may take to write its caches out before it is killed."""
KEY_STRETCHING_MS: Final = 10
"""The passphrase is 256 random bits: stretching it would only cost time at each start."""

_BLOCK_BYTES: Final = 512
"""The unit of st_blocks, see stat(2)."""
_UNFINISHED_NAME: Final = ".flash.luks.new"
_SOCKET_NAME: Final = "disk"
_IN_USE: Final = re.compile(r"Failed to (get|lock)|in use")
_READABLE: Final = tuple(
    map(Path, ("/usr", "/lib", "/lib64", "/etc/ld.so.cache", "/etc/gnutls", "/proc", "/dev"))
)
_INSTALL: Final = "install QEMU (packages qemu-utils, qemu-system-common)"


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """How the disk is: `none` (never made), `off`, `served` (to `front`) or `failed`.

    The file is sparse: it takes `allocated_bytes` of the host's disk, not `file_size_bytes`.
    """

    state: str
    front: str | None = None
    detail: str = ""
    file_size_bytes: int = 0
    allocated_bytes: int = 0


class Disk:
    """The disk of one workstation, in one file of its folder."""

    def __init__(
        self,
        folder: Path,
        run: Path,
        *,
        release_key: Callable[[int], None],
        watcher: Watcher,
        ended: Callable[[Part], None],
    ) -> None:
        """`release_key` has the key written into a pipe; `ended` hears of a daemon's death."""
        self.path = folder / FILE_NAME
        self._run = run
        self._release_key = release_key
        self._watcher = watcher
        self._report_end = ended
        self._daemon: Part | None = None
        self._control: socket.socket | None = None
        self._lock = -1
        self._front: Front | None = None
        self._failure = ""

    def create(self, size_bytes: int) -> None:
        """Make an empty disk of `size_bytes`, sparse; all of it or nothing.

        Raises SpacegrayError when there is one already, or the host has no room.
        """
        doing = f"making the disk {self.path}"
        if self.path.exists():
            raise SpacegrayError(
                doing, "there is one already", "delete the workstation first", link="disk"
            )
        unfinished = self.path.with_name(_UNFINISHED_NAME)
        try:
            unfinished.unlink(missing_ok=True)
            self._format_in_some_attempt(unfinished, size_bytes)
            descriptor = os.open(unfinished, os.O_RDWR | os.O_CLOEXEC)
            try:
                os.fchmod(descriptor, 0o600)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            unfinished.rename(self.path)
            files.sync_folder(self.path.parent)
        except (OSError, _ProgramError) as error:
            raise SpacegrayError(doing, *_explain(error), link="disk") from None
        finally:
            with contextlib.suppress(OSError):
                unfinished.unlink(missing_ok=True)

    def start(self, front: Front) -> socket.socket:
        """Serve the disk as `front`; returns the one connection to it, for the caller to own.

        Raises SpacegrayError when it is served already, here or elsewhere, or cannot be.
        """
        doing = f"opening the disk {self.path}"
        if self._daemon is not None:
            raise SpacegrayError(
                doing, f"it is in use ({self._front})", "stop the workstation first", link="disk"
            )
        self._failure = ""
        connection: socket.socket | None = None
        try:
            self._lock = _lock(self.path)
            listener, connection = self._socket_pair()
            with listener:
                self._serve(front, listener.fileno())
            self._await_ready()
        except BaseException as error:
            if connection is not None:
                connection.close()
            self._release()
            if isinstance(error, OSError | _ProgramError):
                raise SpacegrayError(doing, *_explain(error), link="disk") from None
            raise
        self._front = front
        return connection

    def health(self) -> Health:
        """How the disk is, now."""
        try:
            info = self.path.stat()
        except OSError as error:
            if isinstance(error, FileNotFoundError) and self._daemon is None:
                return Health(state="none")
            return Health(state="failed", detail=error.strerror or "")
        state, detail = "off", ""
        if self._failure:
            state, detail = "failed", self._failure
        elif self._daemon is not None and self._daemon.running:
            state = "served"
        elif self._daemon is not None:
            state, detail = "failed", self._daemon.how_ended()
        return Health(
            state=state,
            front=self._front if state == "served" else None,
            detail=detail,
            file_size_bytes=info.st_size,
            allocated_bytes=info.st_blocks * _BLOCK_BYTES,
        )

    def stop(self) -> None:
        """Stop serving; what was written is then on the host's disk or in its cache.

        Harmless when nothing is served. Raises SpacegrayError when the daemon failed or had to
        be killed, in which case the newest unflushed writes may be missing.
        """
        failure = self._release()
        if failure:
            raise SpacegrayError(
                f"closing the disk {self.path}",
                f"the storage daemon failed ({failure})",
                "see `logs`; the newest writes may be missing",
                link="disk",
            )

    def _release(self) -> str:
        """Let go of daemon and lock; returns what went wrong, or nothing."""
        daemon, self._daemon = self._daemon, None
        self._front = None
        failed = daemon is not None and daemon.stop(timeout_seconds=STOP_SECONDS) != 0
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1
        return daemon.last_words() if failed and daemon is not None else ""

    def _format_in_some_attempt(self, path: Path, size_bytes: int) -> None:
        for left in reversed(range(FORMAT_ATTEMPTS)):
            try:
                return self._format(path, size_bytes)
            except _ProgramError as error:
                if not left or _CLOCK_FAULT not in str(error):
                    raise
        raise AssertionError("there is at least one attempt")

    def _format(self, path: Path, size_bytes: int) -> None:
        with self._key_pipe() as key:
            child = process.spawn(
                [
                    "qemu-img",
                    "create",
                    "-q",
                    "-f",
                    "luks",
                    *_key_object(key),
                    "-o",
                    f"key-secret=key,iter-time={KEY_STRETCHING_MS}",
                    str(path),
                    str(size_bytes),
                ],
                descriptors=(key,),
                reach=Reach(read=_READABLE, write=(path.parent, Path("/dev/null"))),
                stderr=subprocess.PIPE,
            )
        try:
            _, words = child.communicate(timeout=CREATE_SECONDS)
        except subprocess.TimeoutExpired:
            raise _ProgramError(f"qemu-img took over {CREATE_SECONDS:.0f} s") from None
        finally:
            process.stop(child, timeout_seconds=0)
            if child.stderr is not None:
                child.stderr.close()
        if child.returncode:
            raise _ProgramError(_last_line(words) or f"qemu-img: status {child.returncode}")

    def _serve(self, front: Front, listener: int) -> None:
        """Start the daemon on a listening socket; afterwards `_control` greets when it is ready."""
        self._control, far_end = socket.socketpair()
        with far_end, self._key_pipe() as key:
            self._daemon = Part(
                [
                    DAEMON,
                    *_key_object(key),
                    *_block_devices(self.path),
                    *_export(front, listener),
                    "--chardev",
                    f"socket,id=control,fd={far_end.fileno()}",
                    "--monitor",
                    "chardev=control",
                ],
                descriptors=(listener, key, far_end.fileno()),
                reach=Reach(read=_READABLE, write=(self.path, Path("/dev/null"))),
                watcher=self._watcher,
                ended=self._daemon_ended,
            )

    def _await_ready(self) -> None:
        """Wait for the daemon's greeting: it greets only after all it was given stands."""
        assert self._control is not None
        assert self._daemon is not None
        readable, _, _ = select.select([self._control], [], [], START_SECONDS)
        greeted = bool(readable and self._control.recv(1, socket.MSG_PEEK))
        if not greeted:
            self._daemon.stop(timeout_seconds=0)
            raise _ProgramError(self._daemon.last_words())

    @contextlib.contextmanager
    def _key_pipe(self) -> Iterator[int]:
        """The read end of a pipe that holds the key; never read here."""
        read_end, write_end = os.pipe()
        try:
            try:
                self._release_key(write_end)
            finally:
                os.close(write_end)
            yield read_end
        finally:
            os.close(read_end)

    def _socket_pair(self) -> tuple[socket.socket, socket.socket]:
        """A listening socket that only the returned connection has ever reached."""
        path = self._run / _SOCKET_NAME
        listener = bind_unix(path)
        try:
            return listener, connect_unix(path)
        except BaseException:
            listener.close()
            raise
        finally:
            path.unlink(missing_ok=True)

    def _daemon_ended(self, daemon: Part) -> None:
        self._failure = daemon.last_words()
        self._report_end(daemon)


class _ProgramError(Exception):
    """QEMU's tool said no; the text is its last line."""


def _key_object(key: int) -> tuple[str, str]:
    return "--object", f"secret,id=key,file=/dev/fd/{key},format=raw"


def _block_devices(path: Path) -> Iterator[str]:
    common: dict[str, Any] = {
        "discard": "unmap",
        "cache": {"direct": False, "no-flush": False},
    }
    for node in (
        {"driver": "file", "node-name": "file", "filename": str(path)},
        {"driver": "luks", "node-name": "disk", "file": "file", "key-secret": "key"},
    ):
        yield "--blockdev"
        yield json.dumps(node | common)


def _export(front: Front, listener: int) -> tuple[str, ...]:
    if front == "nbd":
        return (
            "--nbd-server",
            f"addr.type=fd,addr.str={listener},max-connections=1",
            "--export",
            "type=nbd,id=front,node-name=disk,name=,writable=on",
        )
    return (
        "--export",
        f"type=vhost-user-blk,id=front,node-name=disk,addr.type=fd,addr.str={listener},"
        f"writable=on,num-queues=1,logical-block-size={SECTOR_BYTES}",
    )


def _lock(path: Path) -> int:
    """Hold the disk's file for this process alone; raises _ProgramError when another does."""
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise _ProgramError("in use by another process") from None
    return descriptor


def _explain(error: Exception) -> tuple[str, str]:
    """What stopped it and what to do, from an OSError or a tool's last line."""
    if isinstance(error, OSError):
        text = error.strerror or str(error)
        if isinstance(error, FileNotFoundError) and error.filename in (DAEMON, "qemu-img"):
            return f"{error.filename} is not there", _INSTALL
        if isinstance(error, FileNotFoundError):
            return text, "put the disk's file back, or delete the workstation and create it again"
    else:
        # "qemu-storage-daemon: --blockdev {...}: what happened"
        text = str(error).rpartition("}: ")[2]
    if "no space left" in text.lower() or "quota" in text.lower():
        return text, "make room on that disk and try again"
    if _IN_USE.search(text):
        return "it is in use by another process", "stop what uses it, then try again"
    if "Invalid password" in text:
        return "this chip's key does not open it", "put the disk of this workstation back"
    return text, "see `logs`"


def _last_line(text: bytes) -> str:
    lines = [line.strip() for line in text.decode(errors="replace").splitlines()]
    return next((line for line in reversed(lines) if line), "")
