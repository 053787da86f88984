"""What the chip says of itself to its owner; what it does not know (yet) is null."""

import base64
import textwrap
from typing import Any, Final

import msgspec

from spacegray import __version__
from spacegray.chip.core import Core, Handler, Reply
from spacegray.chip.messages import Show
from spacegray.chip.promises import promises
from spacegray.chip.vault import Status

_PEM_COLUMNS = 64
_UNKNOWN: Final = (
    "life",
    "lives",
    "password",
    "recovery_key",
    "rollbacks",
    "policy",
    "put_back",
    "adopting",
)
"""What only an open vault knows."""
_SEALED_ROOTS: Final = {"tpm2": "tpm"}


class Showing:
    """Answers `show`."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self.handlers: dict[type, Handler] = {Show: self._show}

    def _show(self, _: Show, __: list[int]) -> Reply:
        core = self._core
        remembered = core.manifest
        status = core.vault.status() if core.state == "open" else None
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
                "holds": promises(remembered.seal) if remembered else [],
                "version": __version__,
                "firmware_source": remembered and remembered.source,
                "firmware_sha256": remembered and remembered.firmware.sha256,
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
        "policy": status.policy,
        "put_back": status.put_back,
        "adopting": status.adopting,
        "attempts": msgspec.to_builtins(status.attempts),
    }


def _pem(der: bytes) -> str:
    """SubjectPublicKeyInfo as PEM text (RFC 7468)."""
    lines = textwrap.wrap(base64.b64encode(der).decode(), _PEM_COLUMNS)
    return "\n".join(["-----BEGIN PUBLIC KEY-----", *lines, "-----END PUBLIC KEY-----", ""])
