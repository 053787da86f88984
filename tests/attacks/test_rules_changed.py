"""Attack: change what may start without being the owner in the recovery system.

Promise: the rules and the firmware password change only there, after the owner proved to be one,
in that very start; and that password guards all but the chosen system.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cbor2
import pytest

from tests.support.starts import (
    FIRMWARE_PASSWORD,
    LOOSEST,
    PASSWORD,
    STRICTEST,
    install_chip,
    running,
    said,
    set_firmware_password,
    set_policy,
)
from tests.support.vaultd import Vaultd, secret, vaultd


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install_chip(tmp_path_factory.mktemp("installed") / "state")


@pytest.fixture
def vault(installed: Path, tmp_path: Path) -> Iterator[Vaultd]:
    """A vault that is open on a copy of it."""
    with running(installed, tmp_path / "state") as vault:
        yield vault


def rules(vault: Vaultd) -> dict[str, Any]:
    boot = vault.boot()
    return {name: boot[name] for name in STRICTEST}


CHANGES: tuple[Callable[[Vaultd], str], ...] = (
    set_policy,
    set_firmware_password,
    lambda vault: said(vault.ask("remove_firmware_password")),
)


@pytest.mark.parametrize("target", ["", "main", "other"])
def test_rules_stay_outside_of_the_recovery_system(vault: Vaultd, target: str) -> None:
    """Whatever else was started, and whatever the owner has proven there."""
    if target:
        assert vault.ask("begin_start", target=target)["ok"] is True
    for mode in ("normal", "recovery"):
        assert said(vault.give("unlock", PASSWORD, mode=mode)) == "ok"
        assert vault.boot()["owner_present"] is False
        assert {change(vault) for change in CHANGES} == {"not_recovery"}
    assert rules(vault) == STRICTEST


def test_rules_stay_without_the_owner(vault: Vaultd) -> None:
    """In the recovery system, but unproven, wrongly proven, or proven as elsewhere or before."""
    assert said(vault.give("unlock", PASSWORD, mode="recovery")) == "ok"
    assert vault.ask("begin_start", target="recovery")["ok"] is True
    assert {change(vault) for change in CHANGES} == {"unauthorised"}
    assert said(vault.give("unlock", b"guess", mode="recovery")) == "wrong"
    assert said(vault.give("unlock", PASSWORD, mode="normal")) == "ok"
    with secret(PASSWORD) as wrong_kind:
        fields = {"with": "recovery_key", "mode": "recovery"}
        assert said(vault.ask("unlock", wrong_kind, **fields)) == "absent"
    assert {change(vault) for change in CHANGES} == {"unauthorised"}
    assert vault.boot()["owner_present"] is False
    assert rules(vault) == STRICTEST


def test_the_owner_is_there_in_that_very_start(vault: Vaultd) -> None:
    """Not in the next: the recovery system again, one that was refused, or a new vault's."""
    for end in (
        lambda: vault.ask("begin_start", target="recovery"),
        lambda: vault.ask("begin_start", target="main"),
        lambda: vault.ask("begin_start", target="external"),
        lambda: vault.ask("open"),
    ):
        vault.own(PASSWORD)
        assert vault.boot()["owner_present"] is True
        end()
        assert vault.boot()["owner_present"] is False
        assert set_policy(vault) in ("unauthorised", "not_recovery")
    assert rules(vault) == STRICTEST
    vault.own(PASSWORD)
    assert set_policy(vault) == "ok"
    assert rules(vault) == LOOSEST


def test_the_same_bytes_do_it_once(vault: Vaultd, tmp_path: Path) -> None:
    """Recorded in a session in which they did it, replayed in each kind of a later one."""
    strict = cbor2.dumps({"op": "set_policy", **STRICTEST})
    recorded = cbor2.dumps({"op": "set_policy", **LOOSEST})
    proof = cbor2.dumps({"op": "unlock", "with": "password", "mode": "recovery"})
    vault.own(PASSWORD)
    assert said(vault.ask_raw(recorded)) == "ok"
    assert said(vault.ask_raw(strict)) == "ok"
    start = cbor2.dumps({"op": "begin_start", "target": "recovery"})
    assert said(vault.ask_raw(start)) == "ok"
    assert said(vault.ask_raw(proof)) == "descriptor", "the proof is no part of the bytes"
    assert said(vault.ask_raw(recorded)) == "unauthorised"
    assert vault.close() == 0
    with vaultd(tmp_path / "state") as later:
        assert later.ask("open")["ok"] is True
        assert said(later.ask_raw(recorded)) == "not_recovery"
        assert said(later.ask_raw(start)) == "ok"
        assert said(later.ask_raw(recorded)) == "unauthorised"
        assert rules(later) == STRICTEST


def test_the_firmware_password_guards_all_but_the_chosen_system(vault: Vaultd) -> None:
    """Given once it opens one start; its tries end, and no other secret gives them back."""
    vault.own(PASSWORD)
    assert set_policy(vault) == "ok"
    assert set_firmware_password(vault) == "ok"
    for target in ("recovery", "other", "external"):
        assert said(vault.ask("begin_start", target=target)) == "firmware_password"
        assert said(vault.give("check_firmware_password", FIRMWARE_PASSWORD)) == "ok"
        assert said(vault.ask("begin_start", target=target)) == "ok"
        assert said(vault.ask("begin_start", target=target)) == "firmware_password"
    assert said(vault.ask("begin_start", target="main")) == "ok"
    for guess in (b"one", b"two", b"three"):
        assert said(vault.give("check_firmware_password", guess)) == "wrong"
    assert said(vault.give("unlock", PASSWORD)) == "ok"
    assert said(vault.give("change_password", PASSWORD, b"another")) == "ok"
    assert vault.ask("erase")["ok"] is True
    assert said(vault.give("check_firmware_password", FIRMWARE_PASSWORD)) == "wait"
    assert vault.ask("open")["ok"] is True
    status = vault.ask("status")
    assert (status["firmware_password_failures"], status["firmware_password_left"]) == (3, 7)
    assert vault.boot()["firmware_password"] is True
