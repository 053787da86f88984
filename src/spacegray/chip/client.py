"""The client of a chip's mailbox, for the workstation above it. Synchronous; not for threads.

Trusts the chip, but not that it still runs: everything it says is checked for its form.
"""

import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self, TypeVar

import msgspec

from spacegray.chip.controller import Opened, Verified
from spacegray.chip.messages import Front, decode_map, encode_map
from spacegray.chip.ssd import Health
from spacegray.errors import SpacegrayError
from spacegray.links import LinkEvent
from spacegray.sockets import PeerError, close_all, connect_unix, receive_message, send_message

ANSWER_SECONDS: Final = 180.0
"""Longer than the longest thing a chip does (making or closing a disk on a slow host)."""

_Kind = TypeVar("_Kind")


@dataclass
class Start:
    """What one start of the machine needs. Owns its descriptors; a context manager."""

    links: tuple[LinkEvent, ...]
    firmware_version: str
    firmware: int
    """The verified firmware image: sealed, read only."""
    variables: int
    """The fresh variable store, read and write."""
    disk: int
    """A connected vhost-user-blk socket."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the descriptors; the machine has its own copies."""
        close_all([each for each in (self.firmware, self.variables, self.disk) if each >= 0])
        self.firmware = self.variables = self.disk = -1


class ChipClient:
    """One connection to a chip's mailbox; a context manager.

    Every method raises SpacegrayError, whose `link` names what broke, when the chip refuses
    or is gone.
    """

    def __init__(self, mailbox: Path, *, timeout_seconds: float = ANSWER_SECONDS) -> None:
        """Connect to the chip that listens at `mailbox`."""
        try:
            self._connection = connect_unix(mailbox, timeout_seconds=timeout_seconds)
        except OSError as error:
            raise _gone(error.strerror or str(error)) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Hang up; the chip and a disk it serves go on."""
        self._connection.close()

    def show(self) -> dict[str, Any]:
        """Who the chip is: docs/chip-protocol.md lists the fields."""
        return self._ask({"op": "show"})[0]

    def sign_image(self, image: int) -> int:
        """Sign the unsigned EFI image in the file behind the descriptor `image`.

        Returns a descriptor, the caller's to close, of the signed image (sealed, read only).
        """
        _, descriptors = self._ask({"op": "sign_image"}, (image,), expected=1)
        return descriptors[0]

    def sign_bytes(self, image: bytes) -> bytes:
        """The same for an image in memory."""
        unsigned = os.memfd_create("unsigned-image", os.MFD_CLOEXEC)
        with open(unsigned, "wb") as file:
            file.write(image)
            file.flush()
            signed = self.sign_image(unsigned)
        with open(signed, "rb") as file:
            return file.read()

    def create_disk(self, size_bytes: int) -> None:
        """Make the disk of `size_bytes`, a multiple of 4096, where there is none."""
        self._ask({"op": "create_disk", "size_bytes": size_bytes})

    def erase_disk(self, size_bytes: int) -> None:
        """Make a new empty disk under a new key in place of whatever there is."""
        self._ask({"op": "erase_disk", "size_bytes": size_bytes})

    def open_disk(self, front: Front, *, strict: bool = False) -> socket.socket:
        """Have the disk served; the returned connection is the only one to it.

        `strict`: every flush is anchored. Call `close_disk` when done, after having closed the
        connection.
        """
        request = {"op": "open_disk", "front": front, "strict": strict}
        _, descriptors = self._ask(request, expected=1)
        return socket.socket(fileno=descriptors[0])

    def serve_disk(self, listener: socket.socket, front: Front = "nbd") -> Opened:
        """Have the disk served to everyone who connects to `listener`, until `close_disk`."""
        request = {"op": "open_disk", "front": front}
        return _convert(self._ask(request, (listener.fileno(),))[0], Opened)

    def check_disk(self) -> Opened:
        """Open the disk without serving it, for `disk_health` and `verify_disk`."""
        return _convert(self._ask({"op": "open_disk"})[0], Opened)

    def disk_health(self) -> Health:
        """How the disk is."""
        return _convert(self._ask({"op": "disk_health"})[0], Health)

    def verify_disk(self, block: int, count: int) -> Verified:
        """Read and authenticate the blocks in use among `count` from `block` on."""
        request = {"op": "verify_disk", "block": block, "count": count}
        return _convert(self._ask(request)[0], Verified)

    def close_disk(self) -> None:
        """Close the disk; harmless when it is not open."""
        self._ask({"op": "close_disk"})

    def prepare_start(self, *, strict: bool = False) -> Start:
        """Have everything checked, the disk served, and get what the machine needs.

        `strict`: every flush of the disk is anchored. For a second start call `close_disk` first.
        """
        fields, descriptors = self._ask({"op": "prepare_start", "strict": strict}, expected=3)
        try:
            links = _convert(fields.get("links"), tuple[LinkEvent, ...])
            version = _convert(fields.get("firmware_version"), str)
        except BaseException:
            close_all(descriptors)
            raise
        return Start(links, version, *descriptors)

    def _ask(
        self, request: dict[str, Any], descriptors: Sequence[int] = (), *, expected: int = 0
    ) -> tuple[dict[str, Any], list[int]]:
        try:
            send_message(self._connection, encode_map(request), descriptors)
            message = receive_message(self._connection)
        except TimeoutError:
            raise _gone("no answer in time") from None
        except (OSError, PeerError) as error:
            raise _gone(str(error)) from None
        if message is None:
            raise _gone("it hung up")
        payload, received = message
        try:
            reply = decode_map(payload)
            if reply.pop("ok", None) is not True:
                raise _refusal(reply)
            if len(received) != expected:
                raise PeerError(f"{len(received)} descriptors instead of {expected}")
        except PeerError as error:
            close_all(received)
            raise _gone(f"a broken answer: {error}") from None
        except BaseException:
            close_all(received)
            raise
        return reply, received


def _refusal(reply: dict[str, Any]) -> SpacegrayError:
    words = [str(reply.get(name, "?")) for name in ("doing", "stopped_by", "next_step")]
    link = reply.get("link")
    return SpacegrayError(*words, link=link if isinstance(link, str) else None)


def _convert(value: object, kind: type[_Kind]) -> _Kind:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise _gone(f"a broken answer: {error}") from None


def _gone(stopped_by: str) -> SpacegrayError:
    return SpacegrayError(
        "speaking to the chip", stopped_by, "start the workstation again; see `logs`", link="chip"
    )
