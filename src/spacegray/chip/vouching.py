"""What the chip puts its name to: statements about itself.

The vault signs them and says what it knows: policy, keys, epochs. Of the software it knows only
what is said to it here: what this chip has tickets for, and what was seen of the last start.
"""

from typing import Any

from spacegray import __version__
from spacegray.chip import messages
from spacegray.chip.boot_state import Boot
from spacegray.chip.core import Core, Handler, Reply, Started
from spacegray.chip.manifest import Manifest
from spacegray.chip.messages import encode_canonical
from spacegray.paths import Slot


class Vouching:
    """Answers `attest`."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self.handlers: dict[type, Handler] = {messages.Attest: self._attest}

    def _attest(self, request: messages.Attest, _: list[int]) -> Reply:
        core = self._core
        claims = software(core.remembered, core.vault.boot(), core.started)
        return Reply({"statement": core.vault.attest(request.nonce, encode_canonical(claims))})


def software(remembered: Manifest, boot: Boot, started: Started | None) -> dict[str, Any]:
    """What a statement says of the software; docs/chip-protocol.md lists the fields."""
    return {
        "chip_firmware": __version__,
        "current": boot.current,
        "trying": boot.trying,
        "systems": {
            slot: _system(remembered, boot, slot) for slot, entry in boot.slots.items() if entry
        },
        "start": started and _start(started),
    }


def _system(remembered: Manifest, boot: Boot, slot: Slot) -> dict[str, Any]:
    entry, known = boot.slots[slot], remembered.slots.get(slot)
    assert entry is not None
    components = {
        name: getattr(entry.components, name) for name in entry.components.__struct_fields__
    }
    return {
        "product": entry.product,
        "epoch": entry.epoch,
        "issued": entry.issued,
        "source": known.source if known else "",
        "components": components,
    }


def _start(started: Started) -> dict[str, Any]:
    return {
        "target": started.target,
        "slot": started.slot,
        "trying": started.trying,
        "policy": started.policy,
        "since": int(started.since),
        "links": {each.link: each.status for each in started.links},
    }
