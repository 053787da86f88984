"""How a machine ended, from what QEMU reports.

The machine is started so that a power-off and a reset end QEMU and a panic is told (see
`board.command`). A reset never goes past the chip, because QEMU may not carry it out.
"""

from dataclasses import dataclass
from typing import Final, Literal

from spacegray.qmp import Event

Kind = Literal["off", "reset", "panicked", "stopped"]

_BY_REASON: Final[dict[str, tuple[Kind, str]]] = {
    "guest-shutdown": ("off", "the guest powered off"),
    "guest-reset": ("reset", "the guest asked for a restart"),
    "subsystem-reset": ("reset", "a part of the board asked for a restart"),
    "host-qmp-system-reset": ("reset", "a restart was asked for over QMP"),
    "guest-panic": ("panicked", "the guest's kernel panicked"),
    "host-qmp-quit": ("stopped", "QEMU was told to quit"),
    "host-signal": ("stopped", "QEMU was ended by a signal"),
    "host-error": ("stopped", "QEMU met an error of the host"),
}


@dataclass(frozen=True)
class Outcome:
    """Why no more is to be expected of this machine; `text` is for the user."""

    kind: Kind
    text: str


def outcome(event: Event) -> Outcome | None:
    """What `event` says of the machine's end, or None when it goes on."""
    if event.name == "GUEST_PANICKED":
        return Outcome(*_BY_REASON["guest-panic"])
    if event.name != "SHUTDOWN":
        return None
    reason = event.data.get("reason")
    kind, text = _BY_REASON.get(str(reason), ("stopped", f"QEMU shut down ({reason})"))
    return Outcome(kind, text)
