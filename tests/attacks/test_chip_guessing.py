"""Promise: a guess needs the chip, and there are ten. No kill, restart or clock makes an eleventh.

What is counted are the guesses that were answered, or for which anything was computed: the work
for a guess begins with its memory, which is seen from outside.
"""

import contextlib
import itertools
import shutil
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from spacegray.chip.launch import launch
from spacegray.chip.refusal import ChipRefusalError
from tests.support import chip as chips
from tests.support import clocks, vault_store
from tests.support.ptrace import Call
from tests.support.seals import sealed
from tests.support.tracer import TracedVaultd, traced_vaultd
from tests.support.vaultd import Vaultd, secret, vaultd

TRIES = 10
FREE = 3
RIGHT = b"the right one"
MMAP = 9
CLOCK_GETTIME = 228
OTHER_CLOCKS = (96, 201)
"""gettimeofday, time: of x86-64, as the others here."""
GUESS_MEMORY_BYTES = 16 << 20
"""No mapping but that of a guess is as large."""
CLIENTS = 16
LONGEST_WAIT_SECONDS = 8 * 3600


@pytest.fixture(scope="module")
def born(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The state folder of a chip with a password; nobody has tried any yet."""
    state = tmp_path_factory.mktemp("guessing") / "state"
    state.mkdir(mode=0o700)
    with vaultd(state) as vault:
        vault.birth()
        assert vault.give("set_password", RIGHT) == {"ok": True}
        assert vault.close() == 0
    return state


@pytest.fixture
def state(born: Path, tmp_path: Path) -> Path:
    """A copy of it to attack."""
    shutil.copytree(born, tmp_path / "state")
    return tmp_path / "state"


def failures(state: Path) -> int:
    """What a vault that is started afterwards says of the tries; it must open and be whole."""
    with vaultd(state) as vault:
        assert vault.ask("open")["ok"] is True
        status = vault.ask("status")
        assert status["put_back"] is False
        return int(status["password_failures"])


def is_a_guess(call: Call) -> bool:
    return call.number == MMAP and call.second >= GUESS_MEMORY_BYTES


def test_killed_before_any_call_a_guess_is_charged_before_it_is_computed(
    born: Path, tmp_path: Path
) -> None:
    """Also: whatever call was the last, the chip opens, and its owner gets in."""

    def attempt(folder: Path, kill_at: int | None) -> TracedVaultd:
        shutil.copytree(born, folder)
        with traced_vaultd(folder) as vault:
            assert vault.ask("open")["ok"] is True
            vault.arm(kill_at)
            with contextlib.suppress(ConnectionError, AssertionError):
                answer = vault.give("unlock", b"wrong")
                assert answer["error"] == "wrong"
            vault.disarm()
        return vault

    whole = attempt(tmp_path / "whole", None)
    assert any(map(is_a_guess, whole.calls))
    assert failures(tmp_path / "whole") == 1
    seen = Counter[tuple[bool, int]]()
    # How many calls there are differs a little from run to run: until one is not reached.
    for kill_at in itertools.count(1):
        folder = tmp_path / str(kill_at)
        vault = attempt(folder, kill_at)
        if len(vault.calls) < kill_at:
            break
        computed, charged = any(map(is_a_guess, vault.calls)), failures(folder)
        assert charged == 1 or (charged == 0 and not computed), kill_at
        seen[computed, charged] += 1
        shutil.rmtree(folder)
    # The control: there were kills before the charge, between the two, and after the guess.
    assert seen.keys() == {(False, 0), (False, 1), (True, 1)}


def guess(vault: Vaultd, number: int, mode: str = "normal") -> str:
    """The vault's word for a guess."""
    return str(vault.give("unlock", b"wrong %d" % number, mode=mode)["error"])


def test_restarts_and_kills_give_no_further_guess(state: Path) -> None:
    """Killed right after each answer, and right after each question."""
    answers = Counter[str]()
    for number in range(TRIES):
        with vaultd(state) as vault:
            assert vault.ask("open")["ok"] is True
            if number % 2:
                answers[guess(vault, number)] += 1
            else:
                with contextlib.suppress(ConnectionError, AssertionError):
                    threading.Timer(0.05, vault.process.kill).start()
                    answers[guess(vault, number)] += 1
    assert answers["wrong"] <= FREE
    assert answers.keys() <= {"wrong", "wait"}
    assert failures(state) == FREE


@pytest.mark.parametrize("mode", ["normal", "recovery"])
@pytest.mark.parametrize("turn", ["forward", "back and forth", "restarted"])
def test_no_clock_and_no_restart_ends_a_wait(state: Path, turn: str, mode: str) -> None:
    """The host's clock is turned, for the chip alone, or the host seems to have been restarted."""
    answers = Counter[str]()
    for number in range(TRIES + 1):
        with contextlib.ExitStack() as stack:
            match turn:
                case "forward":
                    within = clocks.since_boot((number + 1) * 2 * LONGEST_WAIT_SECONDS)
                case "back and forth":
                    within = clocks.since_boot((number % 2) * 2 * LONGEST_WAIT_SECONDS)
                case _:
                    within = stack.enter_context(clocks.another_boot())
            vault = stack.enter_context(vaultd(state, within=within))
            assert vault.ask("open")["ok"] is True
            answers[guess(vault, number, mode)] += 1
            assert vault.close() == 0
    assert answers == {"wrong": FREE, "wait": TRIES + 1 - FREE}


@pytest.mark.parametrize("mode", ["normal", "recovery"])
def test_after_the_tenth_guess_the_right_one_is_none(state: Path, mode: str) -> None:
    """All that is left of the disk's key is its erasing; an eleventh guess is not looked at."""
    spend(state, "password" if mode == "normal" else "recovery")
    with vaultd(state) as vault:
        assert vault.ask("open")["ok"] is True
        for text in (RIGHT, b"wrong"):
            assert vault.give("unlock", text, mode=mode)["error"] == "disabled"
        # The other tries are not touched.
        other = "recovery" if mode == "normal" else "normal"
        assert vault.give("unlock", RIGHT, mode=other) == {"ok": True}
    spend(state, "recovery", "password", "recovery_key")
    with vaultd(state) as vault:
        vault.ask("open")
        assert vault.ask("status")["life"] == "locked out"
        for mode in ("normal", "recovery"):
            assert vault.give("unlock", RIGHT, mode=mode)["error"] == "disabled"
        assert vault.ask("erase")["ok"] is True
        assert vault.ask("status")["life"] == "erased"


def spend(state: Path, *budgets: str) -> None:
    """Make the chip believe that ten guesses were wrong: waiting for them takes most of a day."""
    path, key = state / "vault.sealed", vault_store.sealing_key(state)
    contents = vault_store.read_contents(path.read_bytes(), key)
    contents |= {f"{budget}_failures": TRIES for budget in budgets}
    path.write_bytes(vault_store.with_contents(path.read_bytes(), key, contents))


def test_sixteen_clients_at_once_get_no_more_guesses_than_one(tmp_path: Path) -> None:
    """All at the mailbox, each with guesses of its own, in a workstation that is off."""
    at = chips.workstation(tmp_path)
    with chips.born(at) as chip, chip.client() as owner, secret(RIGHT) as new:
        owner.set_password(new)
    with launch(at) as chip:
        answers = Counter[str]()
        ready = threading.Barrier(CLIENTS)

        def attack(number: int) -> None:
            with chip.client() as client:
                ready.wait(60)
                try:
                    with secret(b"wrong %d" % number) as wrong:
                        client.unlock(wrong)
                    answers["right"] += 1
                except ChipRefusalError as refusal:
                    answers[str(refusal.code)] += 1

        clients = [threading.Thread(target=attack, args=(number,)) for number in range(CLIENTS)]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
        assert answers["wrong"] == FREE
        assert answers.keys() == {"wrong", "wait"}
        with chip.client() as owner, secret(RIGHT) as right:
            assert owner.show()["attempts"]["password"]["failures"] == FREE
            with pytest.raises(ChipRefusalError) as caught:
                owner.unlock(right)
        assert caught.value.code == "wait"


def test_copies_of_a_chip_in_a_tpm_share_their_guesses(tmp_path: Path) -> None:
    """Where the seal is a TPM's, a copy that guesses makes all others older than the TPM says."""
    answers = Counter[str]()
    with sealed("tpm2", tmp_path / "chip") as place:
        with place.vault() as vault:
            place.birth(vault)
            assert vault.give("set_password", RIGHT) == {"ok": True}
            assert vault.close() == 0
        copies = [place.copy(tmp_path / str(number)) for number in range(TRIES)]
        for turn in range(2):
            for number, copy in enumerate(copies):
                with copy.vault() as vault:
                    opened = copy.open(vault)
                    answers[guess(vault, 10 * turn + number) if opened == "ok" else opened] += 1
    assert answers["wrong"] <= FREE
    assert answers.keys() <= {"wrong", "wait", "put_back", "sealed"}
    assert answers["put_back"] + answers["sealed"] >= TRIES


def test_the_wall_clock_is_never_asked(state: Path) -> None:
    """Whoever may set it gains nothing: the vault measures by the time since the host started."""
    with traced_vaultd(state, own_clock=False) as vault:
        vault.arm()
        vault.ask("open")
        for number in range(FREE + 1):
            guess(vault, number)
        vault.ask("status")
        vault.disarm()
    asked = {call.first for call in vault.calls if call.number == CLOCK_GETTIME}
    assert time.CLOCK_BOOTTIME in asked, "the control: no clock was seen at all"
    assert asked <= {time.CLOCK_BOOTTIME, time.CLOCK_MONOTONIC}
    assert not any(call.number in OTHER_CLOCKS for call in vault.calls)
