"""What is said with recovery: one order at a time, its answer and no other, three wishes."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spacegray.errors import SpacegrayError
from spacegray.workstation import guest_port, recovering
from spacegray.workstation.guest_port import (
    Done,
    GuestError,
    order,
    parse_done,
    parse_ready,
    parse_want,
    size,
)
from spacegray.workstation.recovering import Recovering

NONCE = "00112233445566778899aabbccddeeff"
BOOT_ID = "01234567-89ab-cdef-0123-456789abcdef"
READY = (
    f"ready {NONCE} mode=recovery boot_id={BOOT_ID} secure_boot=1 setup_mode=0 kernel=6.12.48"
).encode()
GRACE_SECONDS = 10


class Guest:
    """A recovery system: its answers to each order, by a function."""

    def __init__(self, answer: Callable[[str], list[bytes]]) -> None:
        self.lines: list[str] = []
        self._answer = answer
        self.host = Recovering(self.send)

    async def send(self, data: bytes) -> None:
        line = data.decode()
        assert line.endswith("\n")
        self.lines.append(line.rstrip("\n"))
        for each in self._answer(line.split()[1]):
            done = parse_done(each)
            assert done is not None
            # Not at once: an answer takes a moment.
            asyncio.get_running_loop().call_soon(self.host.hear, done)


def run(test: Awaitable[None]) -> None:
    async def inside() -> None:
        await asyncio.wait_for(test, GRACE_SECONDS)

    asyncio.run(inside())


def test_an_order_gets_the_chips_answer():
    async def test() -> None:
        guest = Guest(lambda number: [f"done {number} ok policy=medium".encode()])
        assert await guest.host.do("set policy=medium") == "policy=medium"
        assert await guest.host.do("show") == "policy=medium"
        assert guest.lines == ["do 1 set policy=medium", "do 2 show"]

    run(test())


def test_a_refusal_is_an_error_in_the_chips_words():
    async def test() -> None:
        guest = Guest(lambda number: [f"done {number} no unauthorised it was not asked".encode()])
        with pytest.raises(SpacegrayError, match="it was not asked"):
            await guest.host.do("set policy=none")

    run(test())


def test_an_answer_to_another_order_is_none():
    async def test() -> None:
        guest = Guest(lambda number: [b"done 7 ok yesterday", f"done {number} ok today".encode()])
        assert await guest.host.do("show") == "today"
        assert not guest.host.hear(Done(2, True, "unasked"))

    run(test())


def test_no_answer_is_an_error(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(recovering, "DO_SECONDS", 0.01)

    async def test() -> None:
        guest = Guest(lambda _: [])
        with pytest.raises(SpacegrayError, match="did not answer"):
            await guest.host.do("show")

    run(test())


def test_a_second_waits_for_the_first():
    async def test() -> None:
        guest = Guest(lambda number: [f"done {number} ok n={number}".encode()])
        one, other = await asyncio.gather(guest.host.do("show"), guest.host.do("show"))
        assert (one, other) == ("n=1", "n=2")

    run(test())


@pytest.mark.parametrize(
    "words", ["", "set\npoweroff", "set  twice", " set", "sét", "set \0", "x" * 4096]
)
def test_what_is_no_line_of_words_is_not_sent(words: str):
    with pytest.raises(GuestError):
        order(1, words)


def test_wishes_are_three():
    assert [parse_want(f"want {wish}".encode()) for wish in guest_port.WISHES] == [
        "restart", "off", "reinstall",
    ]  # fmt: skip
    for line in (b"want", b"want erase", b"want off now", b"wants off", b"\xff", b"want OFF"):
        assert parse_want(line) is None


def test_its_answer_carries_the_nonce_and_says_that_it_is_recovery():
    ready = parse_ready(READY, NONCE, recovery=True)
    assert ready is not None
    assert (ready.kernel, ready.secure_boot, ready.host_key) == ("6.12.48", True, None)
    with pytest.raises(GuestError, match="nonce"):
        parse_ready(READY, guest_port.new_nonce(), recovery=True)
    with pytest.raises(GuestError, match="not the main system"):
        parse_ready(READY, NONCE)
    with pytest.raises(GuestError, match="not the recovery system"):
        parse_ready(READY.replace(b"mode=recovery", b"mode=main"), NONCE, recovery=True)


@given(st.binary(max_size=300))
def test_any_other_line_is_nothing(line: bytes):
    parse_want(line)
    done = parse_done(line)
    assert done is None or done.text.isprintable()


def test_a_size_is_rows_and_columns():
    assert size(24, 80) == b"size 24 80\n"
    for rows, columns in ((9, 80), (24, 501), ("24", 80), (None, 80), (24.0, 80), (True, 80)):
        assert size(rows, columns) == b""
