"""What the vault says of starts is read strictly: the machine starts by it."""

from typing import Any

import cbor2
import pytest

from spacegray.chip import boot_state
from spacegray.chip.boot_state import read_boot, read_started
from spacegray.sockets import PeerError
from tests.support import authority
from tests.support.authority import EPOCH, PRODUCT, components, encode

ENTRY = {"components": components(), "epoch": EPOCH, "issued": 1, "product": PRODUCT}


def boot(**changes: object) -> dict[str, Any]:
    """An answer to `boot`."""
    reply: dict[str, Any] = {
        "ok": True,
        "policy": "full",
        "external_boot": False,
        "other_systems": False,
        "firmware_password": False,
        "firmware_password_given": False,
        "minimum_epoch": 2**64 - 1,
        "slot_a": encode(ENTRY),
        "slot_b": b"",
        "current": "a",
        "trying": False,
        "tries_left": 0,
        "target": "",
        "owner_present": False,
        "variables": b"",
    }
    return reply | changes


def started(**changes: object) -> dict[str, Any]:
    """An answer to `begin_start`."""
    reply: dict[str, Any] = {
        "ok": True,
        "slot": "b",
        "entry": encode(ENTRY),
        "trying": True,
        "policy": "medium",
        "external_boot": True,
        "other_systems": True,
        "variables": bytes(32),
    }
    return reply | changes


def test_every_field_is_read() -> None:
    """Promise: nothing is lost between the vault and the firmware, a 64-bit epoch neither."""
    now = read_boot(boot())
    assert (now.minimum_epoch, now.current, now.target) == (2**64 - 1, "a", "")
    assert now.slots["b"] is None
    entry = now.slots["a"]
    assert entry is not None
    assert (entry.product, entry.epoch, entry.issued) == (PRODUCT, EPOCH, 1)
    assert entry.components.recovery_kernel == components()["recovery_kernel"]
    start = read_started(started())
    assert (start.slot, start.trying, start.entry) == ("b", True, entry)
    assert boot_state.COMPONENTS == authority.COMPONENTS


@pytest.mark.parametrize(
    "changes",
    [
        {"policy": "permissive"},
        {"policy": None},
        {"external_boot": 1},
        {"other_systems": "deny"},
        {"minimum_epoch": -1},
        {"minimum_epoch": "0"},
        {"current": "c"},
        {"target": "network"},
        {"variables": "0"},
        {"slot_a": None},
        {"slot_b": b"\x01"},
        {"slot_b": encode(ENTRY | {"more": 1})},
        {"slot_b": encode(ENTRY | {"epoch": -1})},
        {"slot_b": encode(ENTRY | {"components": components(kernel=bytes(31))})},
        {"slot_b": cbor2.dumps(ENTRY) + b"\0"},
    ],
)
def test_no_other_state_is_read(changes: dict[str, Any]) -> None:
    """Promise: what is no state is an error, and never a looser one."""
    with pytest.raises(PeerError):
        read_boot(boot(**changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"slot": ""},
        {"entry": b""},
        {"entry": None},
        {"entry": encode(ENTRY)[:-1]},
        {"trying": 0},
        {"policy": "None"},
    ],
)
def test_no_other_start_is_read(changes: dict[str, Any]) -> None:
    """Promise: there is no start without a system and a policy."""
    with pytest.raises(PeerError):
        read_started(started(**changes))
    missing = started()
    del missing[next(iter(changes))]
    with pytest.raises(PeerError):
        read_started(missing)
