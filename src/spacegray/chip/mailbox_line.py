"""The connection to a chip's mailbox: a question, asked until it is not busy, and its answer."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Self, TypeVar

import msgspec

from spacegray.chip.messages import decode_map, encode_map
from spacegray.chip.refusal import BUSY, ChipRefusalError
from spacegray.errors import SpacegrayError
from spacegray.sockets import (
    PeerError,
    close_all,
    connect_unix,
    peer_process,
    receive_message,
    send_message,
)

ANSWER_SECONDS: Final = 180.0
"""Longer than the longest thing a chip does (making or closing a disk on a slow host)."""
BUSY_SECONDS: Final = 0.1
"""How soon a chip that has too many messages is asked again."""

_Kind = TypeVar("_Kind")


class MailboxLine:
    """One connection; a context manager. Raises SpacegrayError when the chip is gone.

    One that was cut off between a question and its answer is closed, and asks nothing any more:
    the next question would get that answer.
    """

    def __init__(self, mailbox: Path, *, timeout_seconds: float = ANSWER_SECONDS) -> None:
        """Connect to the chip that listens at `mailbox`."""
        self._timeout_seconds = timeout_seconds
        self._cut_off = False
        try:
            self._connection = connect_unix(mailbox, timeout_seconds=timeout_seconds)
        except OSError as error:
            raise _gone(error.strerror or str(error)) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Hang up; the chip and a disk it serves go on."""
        self._connection.close()

    @property
    def process(self) -> int:
        """The chip's process, by its number."""
        return peer_process(self._connection)

    def _ask(
        self, request: dict[str, Any], descriptors: Sequence[int] = (), *, expected: int = 0
    ) -> tuple[dict[str, Any], list[int]]:
        """Ask until the chip is not busy; returns the reply and the descriptors it brought."""
        deadline = time.monotonic() + self._timeout_seconds
        while True:
            try:
                return self._ask_once(request, descriptors, expected)
            except ChipRefusalError as refusal:
                if refusal.code != BUSY or time.monotonic() >= deadline:
                    raise
            time.sleep(BUSY_SECONDS)

    def _ask_once(
        self, request: dict[str, Any], descriptors: Sequence[int], expected: int
    ) -> tuple[dict[str, Any], list[int]]:
        try:
            message = self._exchange(encode_map(request), descriptors)
        except TimeoutError:
            raise _gone("no answer in time") from None
        except (OSError, PeerError) as error:
            raise _gone(str(error)) from None
        if message is None:
            raise _gone("it hung up")
        payload, received = message
        try:
            reply = decode_map(payload)
            if reply.pop("ok", None) is not True:
                raise _refusal(reply)
            if len(received) != expected:
                raise PeerError(f"{len(received)} descriptors instead of {expected}")
        except PeerError as error:
            close_all(received)
            raise _gone(f"a broken answer: {error}") from None
        except BaseException:
            close_all(received)
            raise
        return reply, received

    def _exchange(
        self, payload: bytes, descriptors: Sequence[int]
    ) -> tuple[bytes, list[int]] | None:
        """Send one message and receive one, or never use this connection again."""
        if self._cut_off:
            raise PeerError("the connection was cut off before an answer")
        try:
            send_message(self._connection, payload, descriptors)
            return receive_message(self._connection)
        except BaseException:
            # Ctrl-C as well: what comes now is no answer to the next question.
            self._cut_off = True
            self.close()
            raise


def given(descriptor: int | None) -> tuple[int, ...]:
    """The descriptors of a request where one may come along."""
    return () if descriptor is None else (descriptor,)


def _refusal(reply: dict[str, Any]) -> ChipRefusalError:
    doing, stopped_by, next_step = (
        str(reply.get(name, "?")) for name in ("doing", "stopped_by", "next_step")
    )
    return ChipRefusalError(
        doing,
        stopped_by,
        next_step,
        code=_plain(reply.get("code"), str),
        link=_plain(reply.get("link"), str),
        left=_plain(reply.get("left"), int),
        wait_seconds=_plain(reply.get("wait_seconds"), int),
    )


def _plain(value: object, kind: type[_Kind]) -> _Kind | None:
    return value if isinstance(value, kind) else None


def convert(value: object, kind: type[_Kind]) -> _Kind:
    """What the chip answered as a `kind`; raises SpacegrayError where it is none."""
    try:
        return msgspec.convert(value, kind, builtin_types=(bytes,))
    except msgspec.ValidationError as error:
        raise _gone(f"a broken answer: {error}") from None


def _gone(stopped_by: str) -> SpacegrayError:
    return SpacegrayError(
        "speaking to the chip", stopped_by, "start the workstation again; see `logs`", link="chip"
    )
