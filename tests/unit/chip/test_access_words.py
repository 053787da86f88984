"""What the owner is told of a refused secret: how many tries are left, how long to wait."""

import pytest

from spacegray.chip.access import duration, explain
from spacegray.chip.messages import Mode, With
from spacegray.chip.vault import BUDGETS, Budget, Status, VaultRefusalError


def status(*, recovery_key: bool = True, **left: int) -> Status:
    """A vault with so many tries `left` by name, else ten, and a wait of 64 s."""
    attempts = {
        name: Budget(failures=10 - left.get(name, 10), left=left.get(name, 10), wait_seconds=64)
        for name in BUDGETS
    }
    return Status(
        ecid=1, life="in use", lives=1, seal="keyfile", root="software", password=True,
        recovery_key=recovery_key, unlocked=False, rollbacks=0, boundaries=1, policy="full",
        put_back=False, adopting=False, attempts=attempts,
    )  # fmt: skip


def said(code: str, now: Status, with_: With = "password", mode: Mode = "normal") -> str:
    refusal = VaultRefusalError("unlocking", code, "")
    explained = explain(refusal, now, with_, mode)
    assert explained.code == code
    return f"{explained.stopped_by}; {explained.next_step}"


def test_a_wrong_one_says_how_many_are_left_and_when_the_next_is_looked_at() -> None:
    assert said("wrong", status()) == (
        "this is not the password; 10 tries are left; try again in 1 minute 4 seconds"
    )


def test_the_numbers_are_those_of_the_secret_that_was_given() -> None:
    now = status(recovery=1)
    now.attempts["recovery_key"] = Budget(failures=5, left=5, wait_seconds=64)
    assert "1 try is left" in said("wrong", now, mode="recovery")
    assert "5 tries are left" in said("wrong", now, with_="recovery_key", mode="recovery")
    explained = explain(VaultRefusalError("", "wrong", ""), now, "recovery_key", "normal")
    assert (explained.left, explained.wait_seconds) == (5, 64)


def test_a_wait_says_that_nothing_was_looked_at() -> None:
    words = said("wait", status(recovery=6), mode="recovery")
    assert "has not looked at this password in recovery mode; 6 tries are left" in words
    assert words.endswith("try again in 1 minute 4 seconds")


@pytest.mark.parametrize("code", ["wrong", "disabled"])
def test_after_the_last_try_it_names_the_ways_that_are_left(code: str) -> None:
    words = said(code, spent("password"))
    assert "last try" in words or "are spent" in words
    assert words.endswith(
        "give the password with `--recovery-mode` or the recovery key (`--recovery-key-file`)"
    )
    assert said(code, spent("password", "recovery"), mode="recovery").endswith(
        "give the recovery key (`--recovery-key-file`)"
    )


def test_when_nothing_is_left_only_erasing_is() -> None:
    for now in (spent(*BUDGETS), spent("password", "recovery", recovery_key=False)):
        assert said("disabled", now).endswith("`erase` or `restore`")


def spent(*names: str, recovery_key: bool = True) -> Status:
    """A vault whose budgets of these names are spent."""
    now = status(recovery_key=recovery_key)
    for name in names:
        now.attempts[name] = Budget(failures=10, left=0, wait_seconds=0)
    return now


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 seconds"),
        (1, "1 second"),
        (60, "1 minute"),
        (899, "14 minutes 59 seconds"),
        (3600, "1 hour"),
        (3 * 3600 + 61, "3 hours 1 minute"),
        (8 * 3600, "8 hours"),
    ],
)
def test_a_time_is_said_in_words(seconds: int, words: str) -> None:
    assert duration(seconds) == words
