"""What attacks on the start of a system share: an installed chip, and what its vault says."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.support.vaultd import Vaultd, vaultd

PASSWORD, FIRMWARE_PASSWORD = b"correct horse", b"battery staple"
LOOSEST = {"policy": "none", "external_boot": True, "other_systems": True}
STRICTEST = {"policy": "full", "external_boot": False, "other_systems": False}


def install_chip(state: Path) -> Path:
    """Make a chip with a password and a system in slot a that came up; returns its folder."""
    state.mkdir(mode=0o700)
    with vaultd(state) as vault:
        vault.birth()
        assert vault.give("set_password", PASSWORD) == {"ok": True}
        assert vault.install("a") == {"ok": True}
        assert vault.ask("begin_start", target="main")["ok"]
        assert vault.ask("came_up") == {"ok": True}
        assert vault.close() == 0
    return state


@contextlib.contextmanager
def running(installed: Path, folder: Path) -> Iterator[Vaultd]:
    """A vault that is open on a copy of an installed chip."""
    shutil.copytree(installed, folder)
    with vaultd(folder) as vault:
        assert vault.ask("open")["ok"] is True
        yield vault


def said(reply: dict[str, Any]) -> str:
    """`ok`, or the code of a refusal."""
    return "ok" if reply["ok"] else str(reply["error"])


def accept(vault: Vaultd, ticket: bytes, *, slot: str = "b", tries: int = 0) -> str:
    """What a vault says to a ticket."""
    return said(vault.ask("accept_ticket", slot=slot, ticket=ticket, tries=tries))


def set_policy(vault: Vaultd) -> str:
    """What a vault says to the loosest rules."""
    return said(vault.ask("set_policy", **LOOSEST))


def set_firmware_password(vault: Vaultd) -> str:
    """What a vault says to a firmware password."""
    return said(vault.give("set_firmware_password", FIRMWARE_PASSWORD))
