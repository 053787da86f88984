"""How much of the chip's time its clients get: so much at once, and so much per second.

What is over a limit is refused unread, which costs next to nothing. Invariant: a connection
that asks seldom is never refused for what the others do, however much that is.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

CONNECTION_BURST: Final = 1000
"""Requests that one connection may send at once …"""
CONNECTION_PER_SECOND: Final = 200.0
"""… and how many more each second."""
TOTAL_BURST: Final = 4000
"""Requests of all connections together at once …"""
TOTAL_PER_SECOND: Final = 800.0
"""… and how many more each second."""
SHARE_SECONDS: Final = 0.1
"""A connection that was not answered for as long is answered though the total is spent."""
COSTLY_BURST: Final = 16
"""Requests that take the vault long (a guess: 80 ms), of all connections together, at once …"""
COSTLY_PER_SECOND: Final = 2.0
"""… and how many more each second: guessing leaves the vault five sixths of its time."""

Clock = Callable[[], float]


class Bucket:
    """So many at once, refilled by so many per second."""

    def __init__(self, burst: int, per_second: float, clock: Clock = time.monotonic) -> None:
        self._burst = float(burst)
        self._per_second = per_second
        self._clock = clock
        self._left = self._burst
        self._at = clock()

    def take(self) -> bool:
        """Take one; False where none is left."""
        now = self._clock()
        self._left = min(self._burst, self._left + (now - self._at) * self._per_second)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


@dataclass
class Peer:
    """What one connection has used."""

    bucket: Bucket
    answered_at: float | None = None


class Limits:
    """The limits of one mailbox."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._total = Bucket(TOTAL_BURST, TOTAL_PER_SECOND, clock)
        self._costly = Bucket(COSTLY_BURST, COSTLY_PER_SECOND, clock)

    def peer(self) -> Peer:
        """A new connection."""
        return Peer(Bucket(CONNECTION_BURST, CONNECTION_PER_SECOND, self._clock))

    def admit(self, peer: Peer) -> bool:
        """Whether a message of this connection may be looked at now."""
        if not peer.bucket.take():
            return False
        now = self._clock()
        waited = peer.answered_at is None or now - peer.answered_at >= SHARE_SECONDS
        if not self._total.take() and not waited:
            return False
        peer.answered_at = now
        return True

    def admit_costly(self) -> bool:
        """Whether another request that takes the vault long may be done now."""
        return self._costly.take()
