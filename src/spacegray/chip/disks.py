"""The disk as it is asked for: made, opened, served, verified, closed. `ssd` does the work."""

import os
import socket

import msgspec

from spacegray.chip import messages
from spacegray.chip.controller import listens
from spacegray.chip.core import Core, Handler, Reply
from spacegray.chip.starting import Starting
from spacegray.chip.vault_words import VaultRefusalError
from spacegray.sockets import PeerError


class Disks:
    """Answers whatever is about the disk alone."""

    def __init__(self, core: Core, starting: Starting) -> None:
        self._core = core
        self._disk = core.disk
        self._starting = starting
        self.handlers: dict[type, Handler] = {
            messages.CreateDisk: self._create,
            messages.EraseDisk: self._erase,
            messages.OpenDisk: self._open,
            messages.DiskHealth: self._health,
            messages.VerifyDisk: self._verify,
            messages.CloseDisk: self._close,
        }

    def _create(self, request: messages.CreateDisk, _: list[int]) -> Reply:
        self._starting.release_disk()
        self._disk.create(request.size_bytes)
        return Reply()

    def _erase(self, request: messages.EraseDisk, _: list[int]) -> Reply:
        self._starting.release_disk()
        self._disk.erase(request.size_bytes)
        return Reply()

    def _open(self, request: messages.OpenDisk, descriptors: list[int]) -> Reply:
        if descriptors and (request.front is None or not listens(descriptors[0])):
            raise PeerError("a front is served on a listening unix socket")
        self._starting.release_disk()
        if request.front == "nbd":
            self._refuse_without_firmware_password()
        opened = self._disk.open(strict=request.strict, adopt=request.adopt)
        fields = msgspec.to_builtins(opened)
        if request.front is None:
            return Reply(fields)
        try:
            if descriptors:
                with socket.socket(fileno=os.dup(descriptors[0])) as listener:
                    self._disk.serve(request.front, listener)
                return Reply(fields)
            connection = self._disk.serve(request.front)
        except BaseException:
            self._disk.stop()
            raise
        assert connection is not None
        return Reply(fields, [connection.detach()])

    def _verify(self, request: messages.VerifyDisk, _: list[int]) -> Reply:
        return Reply(msgspec.to_builtins(self._disk.verify(request.block, request.count)))

    def _health(self, _: messages.DiskHealth, __: list[int]) -> Reply:
        return Reply(msgspec.to_builtins(self._disk.health()))

    def _close(self, _: messages.CloseDisk, __: list[int]) -> Reply:
        self._disk.stop()
        self._starting.machine_off()
        return Reply()

    def _refuse_without_firmware_password(self) -> None:
        """Who reads or writes the disk from outside gives it first, unless recovery was started
        last: not without it either.
        """
        boot = self._core.vault.boot()
        given = boot.firmware_password_given or boot.target == "recovery"
        if boot.firmware_password and not given:
            raise VaultRefusalError("opening the disk", messages.FIRMWARE_PASSWORD, "")
