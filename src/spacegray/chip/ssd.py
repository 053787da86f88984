"""The SSD of one workstation: made, opened, served, verified, erased, closed.

The work is done by its controller, a process that lives as long as the disk is open
(`controller`), on the two modules (`modules`), with the key that the vault gives to it alone.

Invariants: one opener at a time, held by locks on both modules; a new disk is under a new key, so
that nothing of an older one can be read any more; a front is served until `stop`.
"""

import contextlib
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from spacegray.chip.controller import Controller, Opened, Status, Verified
from spacegray.chip.messages import AttachMode, Front
from spacegray.chip.modules import Module, Modules
from spacegray.chip.part import Part, Watcher
from spacegray.errors import SpacegrayError
from spacegray.sockets import bind_unix, connect_unix

VERIFY_SECONDS: Final = 0.2
"""How long the chip is away for a part of the disk."""
BAD_LIMIT: Final = 1024
"""With this many bad blocks a part is over, so that they fit into a message."""
_SOCKET_NAME: Final = "disk"


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """How the disk is.

    `state`: `none` (never made), `off`, `open`, `served` (to `front`) or `failed`, which `detail`
    explains. `status` is there while it is open.
    """

    state: str
    front: str | None = None
    detail: str = ""
    status: Status | None = None
    modules: list[Module] = []


class Ssd:
    """The disk of one workstation, in two files of its folder."""

    def __init__(
        self,
        folder: Path,
        run: Path,
        *,
        program: Path,
        attach: Callable[[AttachMode], int],
        watcher: Watcher,
        ended: Callable[[Part], None],
    ) -> None:
        """`program` is the controller; `attach(mode)` gives a descriptor of a link to the vault.

        `folder` has the workstation's name; `ended` hears of a controller's death. Nothing is
        started yet.
        """
        self.modules = Modules(folder)
        self._run = run
        self._program = program
        self._attach = attach
        self._watcher = watcher
        self._report_end = ended
        self._controller: Controller | None = None
        self._front: Front | None = None
        self._failure = ""

    def create(self, capacity_bytes: int) -> None:
        """Make an empty disk, thin; all of it or nothing.

        Raises SpacegrayError when there is one already, or the host has no room.
        """
        doing = f"making the disk in {self.modules.folder}"
        if any(path.exists() for path in self.modules.paths):
            raise SpacegrayError(
                doing, "there is one already", "delete the workstation first", link="disk"
            )
        try:
            self._format(doing, capacity_bytes)
        except BaseException:
            self.modules.remove()
            raise

    def erase(self, capacity_bytes: int) -> None:
        """Make a new empty disk of whatever modules there are, or none: what was is gone.

        The old key is forgotten first. Raises SpacegrayError while the disk is open.
        """
        self._format(f"erasing the disk in {self.modules.folder}", capacity_bytes)

    def open(self, *, strict: bool = False, adopt: bool = False) -> Opened:
        """Check and open the disk, for `verify`, `health` and `serve`.

        `adopt`: in the newest state that the modules have themselves, if the vault allows it.
        Raises SpacegrayError when it is open already, here or elsewhere, or does not open: the
        error names the module that is new, missing, foreign, exchanged, stale, adopted by another
        chip or damaged.
        """
        doing = f"{'adopting' if adopt else 'opening'} the disk in {self.modules.folder}"
        controller = self._launch(doing, "adopt" if adopt else "open")
        try:
            opened = controller.open(doing, strict=strict, adopt=adopt)
        except BaseException:
            controller.stop()
            raise
        self._controller = controller
        return opened

    def serve(self, front: Front, listener: socket.socket | None = None) -> socket.socket | None:
        """Serve the open disk as `front` on `listener`, to everyone who connects.

        Without a listener there is one connection and no way to another: it is returned, for
        the caller to own.
        """
        doing = f"serving the disk in {self.modules.folder}"
        controller = self._controller
        if controller is None or self._front is not None:
            state = "closed" if controller is None else f"in use ({self._front})"
            raise SpacegrayError(doing, f"it is {state}", "open it first", link="disk")
        connection: socket.socket | None = None
        try:
            with contextlib.ExitStack() as ours:
                if listener is None:
                    listener, connection = self._socket_pair(doing)
                    ours.callback(listener.close)
                controller.serve(doing, front, listener.fileno())
        except BaseException:
            if connection is not None:
                connection.close()
            raise
        self._front = front
        return connection

    def start(self, front: Front, *, strict: bool = False) -> tuple[socket.socket, Opened]:
        """Open the disk and serve it; returns the one connection, for the caller to own."""
        opened = self.open(strict=strict)
        try:
            connection = self.serve(front)
        except BaseException:
            self.stop()
            raise
        assert connection is not None
        return connection, opened

    @property
    def opened(self) -> bool:
        """Whether it is open, served or not."""
        return self._controller is not None

    def refuse_new(self, doing: str) -> None:
        """Raise ChipRefusalError `unpaired` where a module is new, so that nothing opens."""
        self.modules.refuse_new(doing, self.modules.folder.name)

    def health(self) -> Health:
        """How the disk is, now."""
        controller, status = self._controller, None
        try:
            modules = self.modules.found()
        except OSError as error:
            return Health(state="failed", detail=error.strerror or "")
        state, detail = "off" if modules else "none", ""
        if self._failure:
            state, detail = "failed", self._failure
        elif controller is not None:
            try:
                status = controller.status("asking the disk's controller")
                state = "open" if self._front is None else "served"
            except SpacegrayError as error:
                state, detail = "failed", error.stopped_by
        return Health(
            state=state,
            front=self._front if state == "served" else None,
            detail=detail,
            status=status,
            modules=modules,
        )

    def verify(self, block: int, count: int) -> Verified:
        """Read and authenticate the blocks in use among `count` from `block` on.

        It returns after VERIFY_SECONDS, or with many bad blocks, and says where to go on.
        """
        doing = f"verifying the disk in {self.modules.folder}"
        if self._controller is None:
            raise SpacegrayError(doing, "it is closed", "open it first", link="disk")
        end, deadline = block + count, time.monotonic() + VERIFY_SECONDS
        checked, bad = 0, list[int]()
        while True:
            part = self._controller.verify(doing, block, end - block)
            if part.next <= block:
                raise SpacegrayError(
                    doing, "the disk's controller does not go on", "see `logs`", link="disk"
                )
            block = part.next
            checked += part.checked
            bad += part.bad
            if block >= end or len(bad) >= BAD_LIMIT or time.monotonic() > deadline:
                return Verified(next=block, checked=checked, bad=bad)

    def kill(self) -> None:
        """End the controller at once, whatever it is doing: to the disk a power cut.

        Harmless when none runs; nothing is reported, and a failure is forgotten. Never raises.
        """
        controller, self._controller = self._controller, None
        self._front, self._failure = None, ""
        if controller is not None:
            controller.kill()

    def stop(self) -> None:
        """Close the disk; what was written is then durable, and all fronts have ended.

        Harmless when it is not open. Raises SpacegrayError when the controller failed or had to
        be killed, in which case the newest unflushed writes may be missing.
        """
        controller, self._controller = self._controller, None
        self._front = None
        failure = controller.stop() if controller is not None else ""
        if failure:
            raise SpacegrayError(
                f"closing the disk in {self.modules.folder}",
                f"its controller failed ({failure})",
                "see `logs`; the newest writes may be missing",
                link="disk",
            )

    def _format(self, doing: str, capacity_bytes: int) -> None:
        controller = self._launch(doing, "format")
        try:
            controller.format(doing, capacity_bytes)
        except BaseException:
            controller.stop()
            raise
        if trouble := controller.stop():
            raise SpacegrayError(doing, trouble, "see `logs`, then try again", link="disk")

    def _launch(self, doing: str, mode: AttachMode) -> Controller:
        """A controller with both modules and a link to the vault; it has nothing open yet."""
        if self._controller is not None:
            raise SpacegrayError(doing, "it is in use", "stop the workstation first", link="disk")
        self._failure = ""
        if mode != "format":
            self.refuse_new(doing)
        with contextlib.ExitStack() as ours:
            modules = ours.enter_context(self.modules.held(doing, make=mode == "format"))
            # Only now: from here on what lies on the modules is lost, where the key is new.
            link = socket.socket(fileno=self._attach(mode))
            ours.callback(link.close)
            return Controller(
                self._program,
                name=self.modules.folder.name,
                modules=modules,
                vault=link.fileno(),
                watcher=self._watcher,
                ended=self._controller_ended,
            )

    def _socket_pair(self, doing: str) -> tuple[socket.socket, socket.socket]:
        """A listening socket that only the returned connection has ever reached."""
        path = self._run / _SOCKET_NAME
        try:
            listener = bind_unix(path)
            try:
                return listener, connect_unix(path)
            except BaseException:
                listener.close()
                raise
            finally:
                path.unlink(missing_ok=True)
        except OSError as error:
            raise SpacegrayError(doing, error.strerror, "see `logs`", link="disk") from None

    def _controller_ended(self, controller: Part) -> None:
        self._failure = controller.last_words()
        self._report_end(controller)
