"""Who may come in: one-time tokens, and the sessions they are exchanged for.

Both live in memory only, as SHA-256 digests; they end with the process. A token counts once
and for TOKEN_SECONDS. A session is bound to the local user who redeemed the token: a cookie
knows no ports, so a browser shows it to every server on this host, and whoever reads it there
must not be able to use it.
"""

import hashlib
import hmac
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from spacegray.console.limits import (
    SESSION_BYTES,
    SESSION_LIMIT,
    SESSION_SECONDS,
    TOKEN_BYTES,
    TOKEN_LIMIT,
    TOKEN_SECONDS,
)


@dataclass
class _Session:
    digest: bytes
    uid: int | None
    expires: float


class Doors:
    """Issues tokens, redeems them for sessions, and recognises sessions; safe between threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._guard = threading.Lock()
        self._tokens: list[tuple[bytes, float]] = []
        self._sessions: list[_Session] = []

    def issue(self) -> str:
        """A new one-time token, to be put into an address."""
        token = secrets.token_urlsafe(TOKEN_BYTES)
        with self._guard:
            self._forget_expired()
            self._tokens.append((_digest(token), self._clock() + TOKEN_SECONDS))
            del self._tokens[:-TOKEN_LIMIT]
        return token

    def redeem(self, token: str, uid: int | None) -> str | None:
        """A new session's key for the local user `uid`; None for a token that does not count."""
        wanted = _digest(token)
        with self._guard:
            self._forget_expired()
            # Every token is compared, so that the time taken tells nothing.
            matches = [hmac.compare_digest(digest, wanted) for digest, _ in self._tokens]
            if not any(matches):
                return None
            del self._tokens[matches.index(True)]
            key = secrets.token_urlsafe(SESSION_BYTES)
            self._sessions.append(_Session(_digest(key), uid, self._clock() + SESSION_SECONDS))
            self._sessions.sort(key=lambda session: session.expires)
            del self._sessions[:-SESSION_LIMIT]
        return key

    def admits(self, key: str, uid: int | None) -> bool:
        """Whether `key` is a living session of the local user `uid`; using it prolongs it."""
        wanted = _digest(key)
        with self._guard:
            self._forget_expired()
            matches = [hmac.compare_digest(each.digest, wanted) for each in self._sessions]
            if not any(matches):
                return False
            session = self._sessions[matches.index(True)]
            if session.uid != uid:
                return False
            session.expires = self._clock() + SESSION_SECONDS
        return True

    def expecting(self) -> bool:
        """Whether somebody holds a token that still counts."""
        with self._guard:
            self._forget_expired()
            return bool(self._tokens)

    def _forget_expired(self) -> None:
        now = self._clock()
        self._tokens = [each for each in self._tokens if each[1] > now]
        self._sessions = [each for each in self._sessions if each.expires > now]


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()
