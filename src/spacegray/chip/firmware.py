"""The chip's state machine: born once, then opened; judges, signs, serves its disk.

Invariants: it answers only once the vault is open and is the vault its manifest was written
for; nothing reaches the machine that was not frozen first and compared then; when one of its
parts dies it says so once and ends, for half a chip is none.
"""

import base64
import os
import socket
import textwrap
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec

from spacegray import __version__
from spacegray.chip import authenticode, images, manifest, messages, variables
from spacegray.chip.controller import Opened, listens
from spacegray.chip.part import Part, Watcher
from spacegray.chip.ssd import Ssd
from spacegray.chip.vault import Vault, VaultRefusalError
from spacegray.errors import SpacegrayError
from spacegray.links import LinkEvent
from spacegray.sockets import PeerError, close_all

SEAL: Final = "keyfile"
"""What the vault's store is sealed with; the only kind there is so far."""

_DESCRIPTORS: Final[dict[type, tuple[int, ...]]] = {
    messages.SignImage: (1,),
    messages.OpenDisk: (0, 1),
}
"""How many descriptors come with a request; none with those not listed."""
_PEM_COLUMNS = 64


@dataclass(frozen=True)
class Place:
    """Where a chip's things lie, and what it runs."""

    name: str
    state_folder: Path
    folder: Path
    run: Path
    firmware: Path
    template: Path
    vault_program: Path
    ssd_program: Path


@dataclass
class Reply:
    """A successful answer; its descriptors are closed once it was sent."""

    fields: dict[str, Any] = field(default_factory=dict)
    descriptors: list[int] = field(default_factory=list)


class Firmware:
    """One running chip."""

    def __init__(self, place: Place, watcher: Watcher) -> None:
        """Start the vault; `birth` or `open` must follow. Raises SpacegrayError."""
        self._place = place
        self.failure: SpacegrayError | None = None
        """Why the chip must end or did not end well: a part died or did not stop in order."""
        self._vault = Vault(
            place.vault_program,
            place.state_folder,
            watcher=watcher,
            ended=self._part_ended("the vault", "chip"),
        )
        self._disk = Ssd(
            place.folder,
            place.run,
            program=place.ssd_program,
            attach=self._vault.attach_ssd,
            watcher=watcher,
            ended=self._part_ended("the disk's controller", "disk"),
        )
        self._handlers: dict[type, Callable[[Any, list[int]], Reply]] = {
            messages.Show: self._show,
            messages.SignImage: self._sign_image,
            messages.CreateDisk: self._create_disk,
            messages.EraseDisk: self._erase_disk,
            messages.OpenDisk: self._open_disk,
            messages.DiskHealth: self._disk_health,
            messages.VerifyDisk: self._verify_disk,
            messages.CloseDisk: self._close_disk,
            messages.PrepareStart: self._prepare_start,
        }

    def birth(self, source: str) -> None:
        """Make the keys, and remember the firmware found now, which is from `source`.

        A birth that was cut off is completed. Raises SpacegrayError when the chip exists.
        """
        if manifest.exists(self._place.state_folder):
            raise SpacegrayError(
                f"making the chip of {self._place.name}",
                "it exists already",
                "choose another name, or delete that workstation first",
                link="chip",
            )
        firmware = images.freeze(self._place.firmware)
        template = images.freeze(self._place.template)
        try:
            try:
                ecid = self._vault.birth()
            except VaultRefusalError as refusal:
                if refusal.code != "exists":
                    raise
                ecid = self._vault.open()
            self._manifest = manifest.make(
                ecid=ecid, source=source, firmware=firmware, template=template
            )
            manifest.write(self._place.state_folder, self._manifest)
        finally:
            firmware.close()
            template.close()
        self._identity = self._vault.identity()

    def open(self) -> None:
        """Open the vault and recall what is trusted; raises SpacegrayError, link `chip`."""
        self._manifest = manifest.read(self._place.state_folder)
        ecid = manifest.show_ecid(self._vault.open())
        if ecid != self._manifest.ecid:
            raise SpacegrayError(
                f"opening the chip of {self._place.name}",
                f"the vault is that of the chip {ecid}, not of {self._manifest.ecid}",
                "put the chip's state folder back as it was",
                link="chip",
            )
        self._identity = self._vault.identity()

    def answer(self, request: messages.Request, descriptors: list[int]) -> Reply:
        """Do what is asked; `descriptors` came along and stay the caller's.

        Raises SpacegrayError when it cannot be done, PeerError for descriptors it did not want.
        """
        wanted = _DESCRIPTORS.get(type(request), (0,))
        if len(descriptors) not in wanted:
            numbers = " or ".join(map(str, wanted))
            raise PeerError(f"{numbers} descriptors belong to this operation")
        return self._handlers[type(request)](request, descriptors)

    def stop(self) -> None:
        """Close the disk and the vault; `failure` says if that went wrong."""
        try:
            self._disk.stop()
        except SpacegrayError as error:
            self.failure = self.failure or error
        finally:
            self._vault.stop()

    def _part_ended(self, name: str, link: str) -> Callable[[Part], None]:
        def ended(part: Part) -> None:
            self.failure = self.failure or SpacegrayError(
                f"running the chip of {self._place.name}",
                f"{name} died ({part.last_words()})",
                "start the workstation again",
                link=link,
            )

        return ended

    def _show(self, _: messages.Show, __: list[int]) -> Reply:
        remembered = self._manifest
        return Reply(
            {
                "name": self._place.name,
                "ecid": remembered.ecid,
                "born": remembered.born.isoformat().replace("+00:00", "Z"),
                "identity_key": _pem(self._identity.identity_public_key),
                "seal": SEAL,
                "version": __version__,
                "firmware_source": remembered.source,
                "firmware_sha256": remembered.firmware.sha256,
                "disk": msgspec.to_builtins(self._disk.health()),
            }
        )

    def _sign_image(self, _: messages.SignImage, descriptors: list[int]) -> Reply:
        try:
            content = images.read_regular(descriptors[0], authenticode.IMAGE_LIMIT_BYTES)
            image = authenticode.parse(content)
        except (OSError, ValueError) as error:
            raise SpacegrayError(
                "signing an image", error, "give an unsigned EFI image for x86-64", link="chip"
            ) from None
        signature = self._vault.sign_image(image.digest())
        signed = images.freeze_bytes(image.signed(signature), "signed-image")
        return Reply({"sha256": signed.sha256, "size_bytes": signed.size_bytes}, [signed.detach()])

    def _create_disk(self, request: messages.CreateDisk, _: list[int]) -> Reply:
        self._disk.create(request.size_bytes)
        return Reply()

    def _erase_disk(self, request: messages.EraseDisk, _: list[int]) -> Reply:
        self._disk.erase(request.size_bytes)
        return Reply()

    def _open_disk(self, request: messages.OpenDisk, descriptors: list[int]) -> Reply:
        if descriptors and (request.front is None or not listens(descriptors[0])):
            raise PeerError("a front is served on a listening unix socket")
        opened = self._disk.open(strict=request.strict)
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

    def _verify_disk(self, request: messages.VerifyDisk, _: list[int]) -> Reply:
        return Reply(msgspec.to_builtins(self._disk.verify(request.block, request.count)))

    def _disk_health(self, _: messages.DiskHealth, __: list[int]) -> Reply:
        return Reply(msgspec.to_builtins(self._disk.health()))

    def _close_disk(self, _: messages.CloseDisk, __: list[int]) -> Reply:
        self._disk.stop()
        return Reply()

    def _prepare_start(self, request: messages.PrepareStart, _: list[int]) -> Reply:
        place, remembered = self._place, self._manifest
        events = [_seen("chip", f"vault open, ECID {remembered.ecid}")]
        descriptors: list[int] = []
        try:
            firmware = images.freeze(place.firmware)
            descriptors.append(firmware.descriptor)
            manifest.check(remembered.firmware, firmware, place.firmware, remembered.source)
            template = images.freeze(place.template)
            try:
                manifest.check(remembered.template, template, place.template, remembered.source)
                store = variables.build(template, self._identity)
            finally:
                template.close()
            descriptors.append(images.writable_copy(store, "variables"))
            events.append(
                _seen("firmware", f"SHA-256 {firmware.sha256[: manifest.SHOWN_DIGITS]}… as born")
            )
            connection, opened = self._disk.start("vhost-user-blk", strict=request.strict)
            descriptors.append(connection.detach())
            events.append(_seen("disk", _opened(opened, strict=request.strict)))
        except BaseException:
            close_all(descriptors)
            raise
        return Reply(
            {
                "links": [msgspec.to_builtins(event) for event in events],
                "firmware_version": remembered.source,
            },
            descriptors,
        )


def _seen(link: str, detail: str) -> LinkEvent:
    return LinkEvent(link=link, status="ok", detail=detail, at=time.time())


def _opened(opened: Opened, *, strict: bool) -> str:
    words = ["both modules open, newest state"]
    if opened.recovered:
        words.append("recovered after a power cut")
    if strict:
        words.append("strict")
    return ", ".join(words)


def _pem(der: bytes) -> str:
    """SubjectPublicKeyInfo as PEM text (RFC 7468)."""
    lines = textwrap.wrap(base64.b64encode(der).decode(), _PEM_COLUMNS)
    return "\n".join(["-----BEGIN PUBLIC KEY-----", *lines, "-----END PUBLIC KEY-----", ""])
