"""What the chip puts its name to: images that may boot, and statements about itself.

The vault signs both and builds what is signed. Of the software it knows only what is said to it
here: what this chip *authorised* to start. That something else did not start, nobody saw.
"""

from datetime import datetime
from typing import Any

from spacegray import __version__, authenticode
from spacegray.chip import images, manifest, messages
from spacegray.chip.core import Core, Handler, Reply
from spacegray.chip.manifest import Manifest
from spacegray.chip.messages import encode_canonical
from spacegray.errors import SpacegrayError


class Vouching:
    """Answers `sign_image` and `attest`."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self.handlers: dict[type, Handler] = {
            messages.SignImage: self._sign_image,
            messages.Attest: self._attest,
        }

    def _sign_image(self, _: messages.SignImage, descriptors: list[int]) -> Reply:
        try:
            content = images.read_regular(descriptors[0], authenticode.IMAGE_LIMIT_BYTES)
            image = authenticode.parse(content)
        except (OSError, ValueError) as error:
            raise SpacegrayError(
                "signing an image", error, "give an unsigned EFI image for x86-64", link="chip"
            ) from None
        signature = self._core.vault.sign_image(image.digest())
        signed = images.freeze_bytes(image.signed(signature), "signed-image")
        try:
            # Before anybody has it: nothing starts that the chip does not remember.
            self._core.remember(manifest.with_signed(self._core.remembered, signed.sha256))
        except BaseException:
            signed.close()
            raise
        return Reply({"sha256": signed.sha256, "size_bytes": signed.size_bytes}, [signed.detach()])

    def _attest(self, request: messages.Attest, _: list[int]) -> Reply:
        core = self._core
        claims = software(core.remembered, core.vault.status().policy)
        return Reply({"statement": core.vault.attest(request.nonce, encode_canonical(claims))})


def software(remembered: Manifest, policy: str) -> dict[str, Any]:
    """What a statement says of the software: the same for the same chip, whenever it is asked.

    docs/chip-protocol.md lists the fields.
    """
    trusted = remembered.trusted_since
    authorised = [
        _authorised("firmware image", remembered.firmware.sha256, trusted),
        _authorised("variable template", remembered.template.sha256, trusted),
        *(_authorised("boot image", each.sha256, each.since) for each in remembered.signed),
    ]
    return {
        "chip_firmware": __version__,
        "machine_firmware": remembered.source,
        "policy": policy,
        "authorised": authorised,
        "authorised_earlier": remembered.signed_earlier,
        "adopted": remembered.adopted,
    }


def _authorised(component: str, sha256: str, since: datetime) -> dict[str, Any]:
    return {
        "component": component,
        "sha256": bytes.fromhex(sha256),
        "since": int(since.timestamp()),
    }
