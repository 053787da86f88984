"""Systems that may start: measured for a ticket, let in by one, settled once they came up.

The chip measures by itself what lies in a slot, and the vault judges the ticket. What was measured
is compared again at each start (`starting`): nothing rests on the files staying as they are.
"""

import contextlib

from spacegray import authenticode
from spacegray.chip import images, manifest, messages
from spacegray.chip.core import Core, Handler, Reply
from spacegray.errors import SpacegrayError
from spacegray.paths import Slot


class Tickets:
    """Answers whatever is about the systems in the slots."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self.handlers: dict[type, Handler] = {
            messages.RequestTicket: self._request,
            messages.AcceptTicket: self._accept,
            messages.CameUp: self._came_up,
            messages.GiveUp: self._give_up,
        }

    def _request(self, request: messages.RequestTicket, descriptors: list[int]) -> Reply:
        kernel, recovery = descriptors
        components = {
            **self._measured(request.slot),
            "kernel": _image_digest(kernel, "kernel image"),
            "system": request.system,
            "recovery_kernel": _image_digest(recovery, "recovery system's kernel image"),
        }
        asked = self._core.vault.request_ticket(
            product=request.product, epoch=request.epoch, components=components
        )
        return Reply({"request": asked})

    def _measured(self, slot: Slot) -> dict[str, bytes]:
        """The digests of a slot's files, by the names that tickets have for them."""
        paths = self._core.place.slot(slot)
        files = {
            "firmware": paths.firmware,
            "variables": paths.variables,
            "recovery": paths.recovery,
        }
        digests = {}
        for name, path in files.items():
            with contextlib.closing(images.freeze(path)) as frozen:
                digests[name] = bytes.fromhex(frozen.sha256)
        return digests

    def _accept(self, request: messages.AcceptTicket, _: list[int]) -> Reply:
        core = self._core
        before = core.remembered
        # First, as nothing may be in use of which is not known where it lies. What is in use
        # stays as it is: its slot the vault refuses.
        if core.vault.boot().current != request.slot:
            core.remember(
                manifest.with_system(before, request.slot, source=request.source, esp=request.esp)
            )
        try:
            core.vault.accept_ticket(request.slot, request.ticket, request.tries)
        except SpacegrayError:
            with contextlib.suppress(SpacegrayError):
                core.remember(before)
            raise
        return Reply()

    def _came_up(self, _: messages.CameUp, __: list[int]) -> Reply:
        self._core.vault.came_up()
        return Reply()

    def _give_up(self, _: messages.GiveUp, __: list[int]) -> Reply:
        self._core.vault.give_up()
        return Reply()


def _image_digest(descriptor: int, what: str) -> bytes:
    try:
        content = images.read_regular(descriptor, authenticode.IMAGE_LIMIT_BYTES)
        return authenticode.digest(content)
    except (OSError, ValueError) as error:
        raise SpacegrayError(
            f"measuring the {what}", error, "give an EFI image for x86-64", link="chip"
        ) from None
