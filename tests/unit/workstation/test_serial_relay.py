"""The serial console for many: each hears all, all may type, and nobody holds up the others."""

import asyncio
import socket
from collections.abc import Awaitable, Callable

import pytest

from spacegray.errors import SpacegrayError
from spacegray.workstation import serial_relay
from spacegray.workstation.serial_relay import SerialRelay

GRACE_SECONDS = 10


class Guest:
    """What was typed to it; it reads only while `reads` is set."""

    def __init__(self) -> None:
        self.typed = bytearray()
        self.reads = asyncio.Event()
        self.reads.set()

    async def type(self, data: bytes) -> None:
        await self.reads.wait()
        self.typed += data


def run(test: Callable[[SerialRelay, Guest], Awaitable[None]]) -> None:
    async def inside() -> None:
        guest = Guest()
        relay = SerialRelay(guest.type)
        try:
            await asyncio.wait_for(test(relay, guest), GRACE_SECONDS)
        finally:
            await relay.close()

    asyncio.run(inside())


async def hear(listener: socket.socket, length: int) -> bytes:
    listener.setblocking(False)
    data = b""
    while len(data) < length:
        chunk = await asyncio.get_running_loop().sock_recv(listener, length - len(data))
        assert chunk, "it hung up"
        data += chunk
    return data


async def fill(listener: socket.socket) -> int:
    """Send until no more is taken; returns how many bytes were."""
    listener.setblocking(False)
    sent = 0
    while True:
        try:
            sent += listener.send(bytes(65536))
        except BlockingIOError:
            return sent
        await asyncio.sleep(0)


def test_all_hear_what_is_said_and_first_what_was_said_last():
    async def test(relay: SerialRelay, _: Guest) -> None:
        relay.feed(b"before ")
        with relay.join() as one, relay.join() as other:
            relay.feed(b"after")
            assert await hear(one, 12) == b"before after"
            assert await hear(other, 12) == b"before after"

    run(test)


def test_what_is_typed_gets_to_the_guest_from_each_of_them():
    async def test(relay: SerialRelay, guest: Guest) -> None:
        with relay.join() as one, relay.join() as other:
            one.sendall(b"\x1b[A")
            other.sendall(b"yes\n")
            while len(guest.typed) < 7:
                await asyncio.sleep(0)
            assert sorted(guest.typed) == sorted(b"\x1b[Ayes\n")

    run(test)


def test_a_guest_that_does_not_read_bounds_what_is_taken():
    async def test(relay: SerialRelay, guest: Guest) -> None:
        guest.reads.clear()
        with relay.join() as one:
            sent = await fill(one)
            assert guest.typed == b""
            guest.reads.set()
            while len(guest.typed) < sent:
                await asyncio.sleep(0)

    run(test)


def test_who_does_not_listen_is_dropped_and_the_others_are_not(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(serial_relay, "PENDING_LIMIT_BYTES", 1 << 16)

    async def test(relay: SerialRelay, _: Guest) -> None:
        with relay.join() as deaf, relay.join() as awake:
            for _time in range(200):
                relay.feed(bytes(8192))
                await hear(awake, 8192)
            deaf.setblocking(True)
            deaf.settimeout(GRACE_SECONDS)
            heard = 0
            while data := await asyncio.to_thread(deaf.recv, 1 << 16):
                heard += len(data)
            assert heard < 200 * 8192
            relay.feed(b"still here")
            assert await hear(awake, 10) == b"still here"

    run(test)


def test_there_are_only_so_many_and_who_leaves_makes_room():
    async def test(relay: SerialRelay, _: Guest) -> None:
        all_ = [relay.join() for _ in range(serial_relay.LISTENER_LIMIT)]
        with pytest.raises(SpacegrayError, match="are attached already"):
            relay.join()
        all_.pop().close()
        while True:
            try:
                all_.append(relay.join())
            except SpacegrayError:
                await asyncio.sleep(0)
            else:
                break
        for each in all_:
            each.close()

    run(test)


def test_only_the_last_of_what_was_said_is_kept():
    async def test(relay: SerialRelay, _: Guest) -> None:
        relay.feed(b"x" * serial_relay.RECENT_LIMIT_BYTES)
        relay.feed(b"end")
        with relay.join() as late:
            heard = await hear(late, serial_relay.RECENT_LIMIT_BYTES)
            assert heard.endswith(b"xend")

    run(test)


def test_the_end_is_heard_and_hangs_up():
    async def test(relay: SerialRelay, _: Guest) -> None:
        with relay.join() as listener:
            relay.feed(b"goodbye")
            await relay.close()
            assert await hear(listener, 7) == b"goodbye"
            assert await asyncio.get_running_loop().sock_recv(listener, 1) == b""

    run(test)
