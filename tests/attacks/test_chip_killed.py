"""Attack: kill the vault before any of its system calls, in the middle of any change.

Promise: the old state or the new one, never neither: it opens, nothing counts as put back, the one
password or the other is right. (A power cut, where what was not flushed is lost too, is tried at
every write in `silicon/vault/tests`.) That guesses are no more for it is in `test_chip_guessing`.
"""

import contextlib
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.ptrace import Call
from tests.support.tracer import traced_vaultd
from tests.support.vaultd import Vaultd, vaultd

OLD, NEW = b"the old one", b"the new one"
CHANGING = (1, 18, 257, 263, 264, 316, 46)
"""write, pwrite64, openat, unlinkat, renameat, renameat2, sendmsg, by x86-64's numbers. Killed
before any other call, the vault leaves what it leaves when it is killed before the next of these.
"""


@pytest.fixture(scope="module")
def born(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The state folder of a chip with a password and a disk."""
    state = tmp_path_factory.mktemp("killed") / "state"
    state.mkdir(mode=0o700)
    with vaultd(state) as vault:
        vault.birth()
        with vault.attach("format") as ssd:
            assert ssd.write(1, b"anchor") == {"ok": True}
        assert vault.give("set_password", OLD) == {"ok": True}
        assert vault.close() == 0
    return state


def change(vault: Vaultd) -> None:
    assert vault.give("change_password", OLD, NEW) == {"ok": True}


def erase(vault: Vaultd) -> None:
    assert vault.ask("erase")["ok"] is True


def format_(vault: Vaultd) -> None:
    vault.attach("format").link.close()


def which_password(vault: Vaultd) -> str:
    """The one that is right; the other is wrong."""
    right = [word for word, text in (("old", OLD), ("new", NEW)) if said(vault, text) == "ok"]
    assert len(right) == 1
    return right[0]


def said(vault: Vaultd, password: bytes) -> str:
    reply = vault.give("unlock", password)
    return "ok" if reply["ok"] else str(reply["error"])


def which_life(vault: Vaultd) -> str:
    """Erased, or not: then the password opens what it did."""
    if vault.ask("status")["life"] == "erased":
        assert said(vault, OLD) == "absent"
        return "new"
    assert said(vault, OLD) == "ok"
    return "old"


def which_disk(vault: Vaultd) -> str:
    """Whether it is the one with the anchor."""
    assert said(vault, OLD) == "ok"
    with vault.attach() as ssd:
        return "old" if ssd.anchor() == b"anchor" else "new"


@pytest.mark.parametrize(
    ("act", "judge", "unlocked"),
    [
        (change, which_password, False),
        (erase, which_life, False),
        (format_, which_disk, True),
    ],
    ids=["change_password", "erase", "format"],
)
def test_whatever_call_it_was_killed_before_it_is_the_old_state_or_the_new(
    born: Path,
    tmp_path: Path,
    act: Callable[[Vaultd], None],
    judge: Callable[[Vaultd], str],
    unlocked: bool,
) -> None:
    def attempt(folder: Path, kill_at: int | None) -> list[Call]:
        shutil.copytree(born, folder)
        with traced_vaultd(folder) as vault:
            assert vault.ask("open")["ok"] is True
            if unlocked:
                assert said(vault, OLD) == "ok"
            vault.arm(kill_at)
            with contextlib.suppress(ConnectionError, AssertionError):
                act(vault)
            vault.disarm()
        return vault.calls

    def found(folder: Path) -> str:
        with vaultd(folder) as vault:
            assert vault.ask("open")["ok"] is True
            assert vault.ask("status")["put_back"] is False
            return judge(vault)

    calls = attempt(tmp_path / "whole", None)
    assert found(tmp_path / "whole") == "new"
    seen = Counter[str]()
    for kill_at, call in enumerate(calls, start=1):
        if call.number not in CHANGING:
            continue
        folder = tmp_path / str(kill_at)
        # A run may need a call less than the one before: then it was killed later, or not at all.
        attempt(folder, kill_at)
        seen[found(folder)] += 1
        shutil.rmtree(folder)
    # The control: there were kills before the moment that counts, and after it.
    assert seen.keys() == {"old", "new"}
