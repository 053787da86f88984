"""One start of the machine: everything it gets, frozen first and compared then."""

import time
from types import ModuleType

import msgspec

from spacegray.chip import images, manifest, messages
from spacegray.chip.controller import Opened
from spacegray.chip.core import Core, Handler, Reply
from spacegray.links import LinkEvent
from spacegray.sockets import close_all


class Starting:
    """Answers `prepare_start`."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self.handlers: dict[type, Handler] = {messages.PrepareStart: self._prepare}

    def _prepare(self, request: messages.PrepareStart, _: list[int]) -> Reply:
        place, remembered = self._core.place, self._core.remembered
        events = [_seen("chip", f"vault open, ECID {remembered.ecid}")]
        descriptors: list[int] = []
        try:
            firmware = images.freeze(place.firmware)
            descriptors.append(firmware.descriptor)
            manifest.check(remembered.firmware, firmware, place.firmware, remembered.source)
            template = images.freeze(place.template)
            try:
                manifest.check(remembered.template, template, place.template, remembered.source)
                store = read_variables().build(template, self._core.identity)
            finally:
                template.close()
            descriptors.append(images.writable_copy(store, "variables"))
            events.append(
                _seen("firmware", f"SHA-256 {firmware.sha256[: manifest.SHOWN_DIGITS]}… as born")
            )
            connection, opened = self._core.disk.start("vhost-user-blk", strict=request.strict)
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


def read_variables() -> ModuleType:
    """The module that makes the variables; its library takes a third of the chip's start."""
    from spacegray.chip import variables

    return variables


def _seen(link: str, detail: str) -> LinkEvent:
    return LinkEvent(link=link, status="ok", detail=detail, at=time.time())


def _opened(opened: Opened, *, strict: bool) -> str:
    words = ["both modules open, newest state"]
    if opened.recovered:
        words.append("recovered after a power cut")
    if strict:
        words.append("strict")
    return ", ".join(words)
