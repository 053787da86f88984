"""Attack: kill the vault before any of its system calls, while what may start changes.

Promise: the old state or the new one, never neither: what is current starts, the password is
right, and what was answered is done. (A power cut, where what was not flushed is lost too, is
tried at every write in `silicon/vault/src/tests/starts.rs`.)
"""

import contextlib
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cbor2
import pytest

from tests.support.authority import EPOCH, the_authority
from tests.support.ptrace import Call
from tests.support.starts import (
    PASSWORD,
    accept,
    install_chip,
    said,
    set_firmware_password,
    set_policy,
)
from tests.support.tracer import traced_vaultd
from tests.support.vaultd import Vaultd, vaultd

CHANGING = (1, 18, 257, 263, 264, 316, 46)
"""write, pwrite64, openat, unlinkat, renameat, renameat2, sendmsg, by x86-64's numbers. Killed
before any other call, the vault leaves what it leaves when it is killed before the next of these.
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install_chip(tmp_path_factory.mktemp("installed") / "state")


def own(vault: Vaultd) -> None:
    vault.own(PASSWORD)


def try_another(vault: Vaultd) -> None:
    assert vault.install("b", epoch=EPOCH + 1, tries=2) == {"ok": True}


def start_another(vault: Vaultd) -> None:
    try_another(vault)
    assert vault.ask("begin_start", target="main")["ok"] is True


class Answering:
    """A ticket that is signed before the vault is watched, and given after."""

    def __init__(self, tries: int) -> None:
        self.tries = tries
        self.ticket = b""

    def ask(self, vault: Vaultd) -> None:
        self.ticket = the_authority().sign_ticket(vault.request(epoch=EPOCH + 1))

    def give(self, vault: Vaultd) -> None:
        assert accept(vault, self.ticket, tries=self.tries) == "ok"


NOW, TRIED = Answering(0), Answering(2)


def begin(vault: Vaultd) -> None:
    assert vault.ask("begin_start", target="main")["ok"] is True


def come_up(vault: Vaultd) -> None:
    assert vault.ask("came_up") == {"ok": True}


def give_up(vault: Vaultd) -> None:
    assert vault.ask("give_up") == {"ok": True}


def loosen(vault: Vaultd) -> None:
    assert set_policy(vault) == "ok"


def guard(vault: Vaultd) -> None:
    assert set_firmware_password(vault) == "ok"


@pytest.mark.parametrize(
    ("prepare", "act"),
    [
        (NOW.ask, NOW.give),
        (TRIED.ask, TRIED.give),
        (try_another, begin),
        (start_another, come_up),
        (start_another, give_up),
        (own, loosen),
        (own, guard),
    ],
    ids=["ticket", "ticket to try", "a try", "came up", "given up", "rules", "firmware password"],
)
def test_killed_before_any_call_it_is_the_old_state_or_the_new(
    installed: Path,
    tmp_path: Path,
    prepare: Callable[[Vaultd], None],
    act: Callable[[Vaultd], None],
) -> None:
    """And the answer was no lie: what was said to be done is done."""

    def attempt(folder: Path, kill_at: int | None) -> tuple[list[Call], bool]:
        shutil.copytree(installed, folder)
        done = False
        with traced_vaultd(folder) as vault:
            assert vault.ask("open")["ok"] is True
            prepare(vault)
            vault.arm(kill_at)
            with contextlib.suppress(ConnectionError, AssertionError):
                act(vault)
                done = True
            vault.disarm()
        return vault.calls, done

    def found(folder: Path) -> dict[str, Any]:
        with vaultd(folder) as vault:
            assert vault.ask("open")["ok"] is True
            assert vault.ask("status")["put_back"] is False
            assert said(vault.give("unlock", PASSWORD)) == "ok"
            boot = vault.boot()
            # It is no state of neither: what is current starts.
            started = vault.ask("begin_start", target="main")
            assert started["entry"]
            for slot in ("slot_a", "slot_b"):
                boot[slot] = system(boot[slot])
            return boot

    shutil.copytree(installed, tmp_path / "before")
    with vaultd(tmp_path / "before") as vault:
        assert vault.ask("open")["ok"] is True
        prepare(vault)
        assert vault.close() == 0
    old = found(tmp_path / "before")
    calls, done = attempt(tmp_path / "whole", None)
    assert done
    new = found(tmp_path / "whole")
    assert old != new
    seen = Counter[str]()
    for kill_at, call in enumerate(calls, start=1):
        if call.number not in CHANGING:
            continue
        folder = tmp_path / str(kill_at)
        # A run may need a call less than the one before: then it was killed later, or not at all.
        _, done = attempt(folder, kill_at)
        state = found(folder)
        assert state in (old, new)
        assert state == new or not done
        seen["new" if state == new else "old"] += 1
        shutil.rmtree(folder)
    # The control: there were kills before the moment that counts, and after it.
    assert seen.keys() == {"old", "new"}


def system(entry: bytes) -> Any:
    """What an entry names; when it was signed differs from run to run."""
    return {**cbor2.loads(entry), "issued": 0} if entry else None
