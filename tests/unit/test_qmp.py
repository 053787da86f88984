"""QMP survives whatever QEMU does: each way of failing is one clear error, and nothing hangs."""

import asyncio
import contextlib
import json
import os
import socket
import subprocess
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from spacegray import process
from spacegray.errors import SpacegrayError
from spacegray.host import QEMU
from spacegray.qmp import EVENT_LIMIT, Event, GoneError, NoAnswerError, Qmp, RefusedError

VERSION = {"qemu": {"major": 7, "minor": 2, "micro": 0}, "package": ""}
GREETING = {"QMP": {"version": VERSION, "capabilities": []}}
TEST_SECONDS = 20.0

Peer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def run(test: Coroutine[Any, Any, None]) -> None:
    """Run one test; hanging is failing."""
    asyncio.run(asyncio.wait_for(test, TEST_SECONDS))


@contextlib.contextmanager
def qemu(*words: str) -> Iterator[tuple[socket.socket, "subprocess.Popen[bytes]"]]:
    """A real QEMU without a machine, and our end of its monitor."""
    ours, theirs = socket.socketpair()
    monitor = ["-chardev", f"socket,id=m,fd={theirs.fileno()}", "-mon", "chardev=m,mode=control"]
    command = [QEMU, "-machine", "none", "-nodefaults", "-display", "none", *monitor, *words]
    with theirs:
        child = process.spawn(command, descriptors=(theirs.fileno(),))
    try:
        yield ours, child
    finally:
        ours.close()
        child.kill()
        child.wait()


async def speak(peer: Peer) -> tuple[socket.socket, "asyncio.Task[None]"]:
    """Somebody who plays QEMU at the other end of the socket that is returned."""
    ours, theirs = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=theirs)

    async def play() -> None:
        with contextlib.suppress(ConnectionError):
            await peer(reader, writer)
        writer.close()

    return ours, asyncio.create_task(play())


async def negotiate(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await send(writer, GREETING)
    await answer(reader, writer, {})


async def request(reader: asyncio.StreamReader) -> dict[str, Any]:
    """The next request: one JSON value, which the library does not end by a line break."""
    text = b""
    while True:
        text += await reader.readexactly(1)
        with contextlib.suppress(ValueError):
            parsed: dict[str, Any] = json.loads(text)
            return parsed


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, value: object) -> None:
    asked = await request(reader)
    await send(writer, {"return": value} | {key: asked[key] for key in ("id",) if key in asked})


async def send(writer: asyncio.StreamWriter, message: object) -> None:
    writer.write(json.dumps(message).encode() + b"\n")
    await writer.drain()


def event(name: str, **data: object) -> dict[str, object]:
    return {"event": name, "data": data, "timestamp": {"seconds": 5, "microseconds": 500_000}}


def test_commands_are_answered_or_refused() -> None:
    async def test() -> None:
        with qemu() as (ours, _):
            async with await Qmp.connect(ours) as qmp:
                version = await qmp.execute("query-version")
                assert version["qemu"]["major"] >= 7
                assert (await qmp.monitor("info version"))[0].isdigit()
                with pytest.raises(RefusedError, match="no-such-command"):
                    await qmp.execute("no-such-command")
                assert await qmp.execute("query-name") is not None

    run(test())


def test_a_descriptor_arrives_as_the_very_file() -> None:
    async def test() -> None:
        with qemu() as (ours, child):
            async with await Qmp.connect(ours) as qmp:
                read, write = os.pipe()
                await qmp.pass_descriptor("pipe", write)
                os.close(write)
                held = {file.readlink() for file in Path(f"/proc/{child.pid}/fd").iterdir()}
                assert Path(f"/proc/self/fd/{read}").readlink() in held
                os.close(read)

    run(test())


def test_a_killed_qemu_ends_the_events_and_every_later_command() -> None:
    async def test() -> None:
        with qemu() as (ours, child):
            qmp = await Qmp.connect(ours)
            child.kill()
            assert [seen async for seen in qmp.events()] == []
            await qmp.wait_gone()
            with pytest.raises(GoneError):
                await qmp.execute("query-version")
            with pytest.raises(GoneError):
                await qmp.pass_descriptor("pipe", 0)
            await qmp.close()
            await qmp.close()

    run(test())


def test_quitting_is_seen_as_an_event_before_the_end() -> None:
    async def test() -> None:
        with qemu() as (ours, _):
            async with await Qmp.connect(ours) as qmp:
                await qmp.execute("quit")
                seen = [event async for event in qmp.events()]
        assert [(event.name, event.data["reason"]) for event in seen] == [
            ("SHUTDOWN", "host-qmp-quit")
        ]
        assert seen[0].at > 1_600_000_000

    run(test())


def test_a_machine_that_does_not_run_is_no_success() -> None:
    async def test() -> None:
        with qemu("-S") as (ours, _):
            async with await Qmp.connect(ours) as qmp:
                with pytest.raises(SpacegrayError, match="prelaunch") as caught:
                    await qmp.wait_running()
                assert caught.value.link == "machine"
                await qmp.execute("cont")
                await qmp.wait_running()

    run(test())


@pytest.mark.parametrize("words", [b"", b"hello\n", b"{}\n", b'{"QMP": 1}\n', b"\xff\xfe\n"])
def test_a_peer_that_is_no_qemu(words: bytes) -> None:
    async def peer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(words)
        await writer.drain()

    async def test() -> None:
        ours, playing = await speak(peer)
        with pytest.raises(GoneError):
            await Qmp.connect(ours)
        assert ours.fileno() == -1, "the socket leaked"
        await playing

    run(test())


def test_silence_ends_with_the_time_that_is_given() -> None:
    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await negotiate(reader, writer)
        late = await request(reader)
        asked = await request(reader)
        await send(writer, {"return": "late", "id": late["id"]})
        await send(writer, {"return": "in time", "id": asked["id"]})
        await reader.read()

    async def test() -> None:
        ours, playing = await speak(peer)
        async with await Qmp.connect(ours) as qmp:
            with pytest.raises(NoAnswerError):
                await qmp.execute("slow", timeout_seconds=0.05)
            assert await qmp.execute("next") == "in time"
        await playing

    run(test())


def test_no_greeting_in_time() -> None:
    async def test() -> None:
        ours, theirs = socket.socketpair()
        with theirs, pytest.raises(NoAnswerError):
            await Qmp.connect(ours, timeout_seconds=0.05)
        assert ours.fileno() == -1, "the socket leaked"

    run(test())


def test_dying_right_after_the_negotiation() -> None:
    async def test() -> None:
        ours, playing = await speak(negotiate)

        async def ask() -> None:
            async with await Qmp.connect(ours) as qmp:
                await qmp.execute("query-status")

        with pytest.raises(GoneError):
            await ask()
        assert ours.fileno() == -1, "the socket leaked"
        await playing

    run(test())


def test_dying_in_the_middle_of_a_command() -> None:
    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await negotiate(reader, writer)
        await request(reader)

    async def test() -> None:
        ours, playing = await speak(peer)
        async with await Qmp.connect(ours) as qmp:
            with pytest.raises(GoneError):
                await qmp.execute("query-status")
        await playing

    run(test())


def test_of_too_many_events_the_newest_are_kept() -> None:
    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await negotiate(reader, writer)
        for number in range(EVENT_LIMIT * 2):
            await send(writer, event("RTC_CHANGE", number=number))
        await send(writer, event("SHUTDOWN", reason="guest-panic"))
        await request(reader)

    async def test() -> None:
        ours, playing = await speak(peer)
        async with await Qmp.connect(ours) as qmp:
            with pytest.raises(GoneError):
                await qmp.execute("query-status")
            await playing
            await qmp.wait_gone()
            seen = [event async for event in qmp.events()]
        assert len(seen) == EVENT_LIMIT
        assert seen[-1] == Event("SHUTDOWN", {"reason": "guest-panic"}, 5.5)

    run(test())


def test_events_that_are_none_are_passed_over() -> None:
    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await negotiate(reader, writer)
        for broken in (
            {"event": 5, "timestamp": {"seconds": 1, "microseconds": 1}},
            {"event": "STOP"},
            {"event": "STOP", "timestamp": {"seconds": "soon", "microseconds": 1}},
            {"event": "STOP", "data": [], "timestamp": {"seconds": 1, "microseconds": 1}},
        ):
            await send(writer, broken)
        await send(writer, event("RESUME"))
        await reader.read()

    async def test() -> None:
        ours, playing = await speak(peer)
        async with await Qmp.connect(ours) as qmp:
            assert (await anext(qmp.events())).name == "RESUME"
        await playing

    run(test())
