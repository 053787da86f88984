"""Guards: a token counts once and for a minute; a session ends, and is its user's own."""

from spacegray.console.doors import Doors
from spacegray.console.limits import SESSION_LIMIT, SESSION_SECONDS, TOKEN_LIMIT, TOKEN_SECONDS


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_token_counts_once():
    doors = Doors()
    token = doors.issue()
    assert doors.redeem(token, 1000) is not None
    assert doors.redeem(token, 1000) is None


def test_a_token_expires():
    clock = Clock()
    doors = Doors(clock)
    early, late = doors.issue(), doors.issue()
    clock.now = TOKEN_SECONDS - 0.1
    assert doors.redeem(early, 1000) is not None
    clock.now = TOKEN_SECONDS
    assert doors.redeem(late, 1000) is None


def test_tokens_are_long_and_never_the_same():
    doors = Doors()
    tokens = {doors.issue() for _ in range(50)}
    assert len(tokens) == 50
    assert min(map(len, tokens)) * 6 >= 128


def test_a_wrong_token_spoils_nothing():
    doors = Doors()
    token = doors.issue()
    for wrong in ("", token[:-1], token + "A", "\udcff"):
        assert doors.redeem(wrong, 1000) is None
    assert doors.redeem(token, 1000) is not None


def test_tokens_that_wait_are_bounded():
    doors = Doors()
    first = doors.issue()
    rest = [doors.issue() for _ in range(TOKEN_LIMIT)]
    assert doors.redeem(first, 1000) is None
    assert all(doors.redeem(token, 1000) for token in rest)


def test_a_session_is_the_users_who_redeemed_the_token():
    doors = Doors()
    key = doors.redeem(doors.issue(), 1000)
    assert key is not None
    assert doors.admits(key, 1000)
    assert not doors.admits(key, 1001)
    assert not doors.admits(key, None)
    assert not doors.admits(key + "A", 1000)
    assert not doors.admits("", 1000)


def test_a_session_ends_after_its_last_use():
    clock = Clock()
    doors = Doors(clock)
    key = doors.redeem(doors.issue(), 1000)
    assert key is not None
    clock.now += SESSION_SECONDS - 1
    assert doors.admits(key, 1000)
    clock.now += SESSION_SECONDS - 1
    assert doors.admits(key, 1000)
    clock.now += SESSION_SECONDS
    assert not doors.admits(key, 1000)


def test_sessions_are_bounded_and_the_longest_unused_goes_first():
    clock = Clock()
    doors = Doors(clock)
    keys = []
    for _ in range(SESSION_LIMIT):
        clock.now += 1
        keys.append(doors.redeem(doors.issue(), 1000) or "")
    clock.now += 1
    assert doors.admits(keys[0], 1000)
    doors.redeem(doors.issue(), 1000)
    assert doors.admits(keys[0], 1000)
    assert not doors.admits(keys[1], 1000)


def test_somebody_is_expected_while_a_token_waits():
    clock = Clock()
    doors = Doors(clock)
    assert not doors.expecting()
    doors.issue()
    assert doors.expecting()
    clock.now = TOKEN_SECONDS
    assert not doors.expecting()
