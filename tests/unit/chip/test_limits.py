"""The limits: honest clients never feel them, nobody gets past them, nobody is starved."""

from spacegray.chip import limits
from spacegray.chip.limits import Bucket, Limits


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_bucket_gives_its_burst_and_then_its_rate() -> None:
    clock = Clock()
    bucket = Bucket(3, 2.0, clock)
    assert [bucket.take() for _ in range(4)] == [True, True, True, False]
    clock.now += 0.5
    assert [bucket.take() for _ in range(2)] == [True, False]
    clock.now += 1000
    assert [bucket.take() for _ in range(4)] == [True, True, True, False]


def test_a_connection_gets_no_more_than_its_limit() -> None:
    """Promise: of a million messages at once the chip looks at a thousand."""
    clock = Clock()
    every = Limits(clock)
    peer = every.peer()
    assert sum(every.admit(peer) for _ in range(1_000_000)) == limits.CONNECTION_BURST
    clock.now += 1
    assert sum(every.admit(peer) for _ in range(10_000)) == limits.CONNECTION_PER_SECOND


def test_all_together_get_no_more_than_the_total_and_their_share() -> None:
    clock = Clock()
    every = Limits(clock)
    peers = [every.peer() for _ in range(16)]
    admitted = sum(every.admit(peer) for _ in range(2000) for peer in peers)
    assert admitted == limits.TOTAL_BURST


def test_who_asks_seldom_is_never_refused_for_the_others() -> None:
    """Promise: flooding from many connections, also new ones, starves nobody."""
    clock = Clock()
    every = Limits(clock)
    quiet = every.peer()
    for _ in range(50):
        for _ in range(10):
            noisy = every.peer()
            while every.admit(noisy):
                pass
        assert every.admit(quiet)
        clock.now += limits.SHARE_SECONDS


def test_what_takes_the_vault_long_is_limited_for_all_together() -> None:
    """Promise: guessing leaves the vault to the disk most of the time."""
    clock = Clock()
    every = Limits(clock)
    assert sum(every.admit_costly() for _ in range(100)) == limits.COSTLY_BURST
    clock.now += 10
    assert sum(every.admit_costly() for _ in range(100)) == min(
        limits.COSTLY_BURST, 10 * limits.COSTLY_PER_SECOND
    )
