"""What the chip says of itself to its owner; what it does not know (yet) is null."""

import base64
import textwrap
from typing import Any, Final

import msgspec

from spacegray import __version__
from spacegray.chip.boot_state import Boot, Entry
from spacegray.chip.core import Core, Handler, Reply, Started
from spacegray.chip.manifest import Manifest, System
from spacegray.chip.messages import Show
from spacegray.chip.promises import promises
from spacegray.chip.service_record import ServiceRecord
from spacegray.chip.vault import Status
from spacegray.paths import SLOTS

_PEM_COLUMNS = 64
_UNKNOWN: Final = (
    "life",
    "lives",
    "password",
    "recovery_key",
    "rollbacks",
    "put_back",
    "adopting",
)
"""What only an open vault knows of its life …"""
_UNKNOWN_BOOT: Final = (
    "policy",
    "external_boot",
    "other_systems",
    "firmware_password",
    "firmware_password_given",
    "minimum_epoch",
    "current",
    "trying",
    "boot",
)
"""… and of what may start."""
_SEALED_ROOTS: Final = {"tpm2": "tpm"}


class Showing:
    """Answers `show`."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self.handlers: dict[type, Handler] = {Show: self._show}

    def _show(self, _: Show, __: list[int]) -> Reply:
        core = self._core
        remembered = core.manifest
        opened = core.state == "open"
        status = core.vault.status() if opened else None
        return Reply(
            {
                "name": core.place.name,
                "state": core.state,
                "ecid": remembered and remembered.ecid,
                "born": remembered and remembered.born.isoformat().replace("+00:00", "Z"),
                "identity_key": _pem(core.identity.identity_public_key) if status else None,
                "seal": remembered and remembered.seal,
                "root": remembered and _SEALED_ROOTS.get(remembered.seal, "software"),
                "needs": self._needs(status),
                **_life(status),
                **_boot(core.vault.boot() if opened else None, remembered, core.started),
                "service": _service(core.vault.service()) if opened else None,
                "holds": promises(remembered.seal) if remembered else [],
                "version": __version__,
                "disk": msgspec.to_builtins(core.disk.health()),
            }
        )

    def _needs(self, status: Status | None) -> list[str]:
        if self._core.state == "sealed":
            return ["passphrase"]
        return ["password"] if status and status.password and not status.unlocked else []


def _life(status: Status | None) -> dict[str, Any]:
    """What the vault says, if it is open."""
    if status is None:
        return {**dict.fromkeys(_UNKNOWN), "unlocked": False, "attempts": {}}
    return {
        "life": status.life,
        "lives": status.lives,
        "root": status.root,
        "password": status.password,
        "recovery_key": status.recovery_key,
        "unlocked": status.unlocked,
        "rollbacks": status.rollbacks,
        "put_back": status.put_back,
        "adopting": status.adopting,
        "attempts": msgspec.to_builtins(status.attempts),
    }


def _boot(
    boot: Boot | None, remembered: Manifest | None, started: Started | None
) -> dict[str, Any]:
    """What may start, and what was started."""
    if boot is None or remembered is None:
        unknown = dict.fromkeys(_UNKNOWN_BOOT)
        return {**unknown, "slots": {}, "firmware_source": None, "firmware_sha256": None}
    slots = {slot: _system(boot.slots[slot], remembered.slots.get(slot)) for slot in SLOTS}
    current = slots[boot.current] if boot.current else None
    return {
        "policy": boot.policy,
        "external_boot": _switch(boot.external_boot),
        "other_systems": _switch(boot.other_systems),
        "firmware_password": boot.firmware_password,
        "firmware_password_given": boot.firmware_password_given,
        "minimum_epoch": boot.minimum_epoch,
        "slots": slots,
        "current": boot.current,
        "trying": boot.trying,
        "boot": started and msgspec.to_builtins(started),
        "firmware_source": current and current["source"],
        "firmware_sha256": current and current["firmware"],
    }


def _system(entry: Entry | None, known: System | None) -> dict[str, Any] | None:
    """The system in one slot: its ticket, and where it came from."""
    if entry is None:
        return None
    components = msgspec.structs.asdict(entry.components)
    return {
        "product": entry.product,
        "epoch": entry.epoch,
        "issued": entry.issued,
        "source": known.source if known else "",
        **{name: digest.hex() for name, digest in components.items()},
    }


def _service(record: ServiceRecord) -> dict[str, int]:
    """How much there is of what `service` tells."""
    return {"entries": record.entries, "providers": len(record.providers)}


def _switch(allowed: bool) -> str:
    return "allow" if allowed else "deny"


def _pem(der: bytes) -> str:
    """SubjectPublicKeyInfo as PEM text (RFC 7468)."""
    lines = textwrap.wrap(base64.b64encode(der).decode(), _PEM_COLUMNS)
    return "\n".join(["-----BEGIN PUBLIC KEY-----", *lines, "-----END PUBLIC KEY-----", ""])
