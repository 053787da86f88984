"""The supervisor's socket: requests and answers with descriptors, and nothing from strangers."""

import asyncio
import contextlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from spacegray.errors import SpacegrayError
from spacegray.paths import Paths, WorkstationPaths
from spacegray.sockets import connect_unix, receive_message, send_message
from spacegray.workstation import control
from spacegray.workstation.control import ControlServer, Reply

ANSWER_SECONDS = 10


@pytest.fixture
def at(tmp_path: Path) -> WorkstationPaths:
    paths = Paths.current({"SPACEGRAY_HOME": str(tmp_path)}).workstation("pro")
    paths.run.mkdir(parents=True)
    return paths


async def answer(request: dict[str, Any], descriptors: Sequence[int]) -> Reply:
    """Reads what it is given, gives what it is asked for."""
    match request["op"]:
        case "read":
            return {"ok": True, "read": [os.read(each, 100).decode() for each in descriptors]}, []
        case "give":
            reader, writer = os.pipe()
            os.close(writer)
            return {"ok": True}, [reader]
        case _:
            raise SpacegrayError("asking", "it does not want to", "ask for less", link="disk")


def served(at: WorkstationPaths, ask: Any) -> Any:
    """What `ask`, in a thread of its own, gets from a server."""

    async def run() -> Any:
        server = ControlServer(at, answer)
        try:
            return await asyncio.wait_for(asyncio.to_thread(ask), ANSWER_SECONDS)
        finally:
            server.close()

    return asyncio.run(run())


def pipe(text: str) -> int:
    """The reading end of a pipe with `text` in it."""
    reader, writer = os.pipe()
    os.write(writer, text.encode())
    os.close(writer)
    return reader


def test_a_descriptor_goes_along_and_stays_the_askers(at: WorkstationPaths):
    reader = pipe("secret")
    reply, descriptors = served(at, lambda: control.ask(at, {"op": "read"}, (reader,)))
    assert (reply["read"], descriptors) == (["secret"], [])
    os.close(reader)


def test_a_descriptor_comes_back(at: WorkstationPaths):
    _, descriptors = served(at, lambda: control.ask(at, {"op": "give"}))
    assert len(descriptors) == 1
    os.close(descriptors[0])


def test_a_refusal_keeps_its_parts(at: WorkstationPaths):
    with pytest.raises(SpacegrayError) as caught:
        served(at, lambda: control.ask(at, {"op": "fly"}))
    assert str(caught.value) == "asking: it does not want to; ask for less"
    assert caught.value.link == "disk"


def test_more_than_a_request_may_bring_gets_no_answer_and_is_closed(at: WorkstationPaths):
    open_before = len(os.listdir("/proc/self/fd"))

    def ask() -> object:
        with connect_unix(at.control, timeout_seconds=ANSWER_SECONDS) as connection:
            both = [pipe("one"), pipe("two")]
            send_message(connection, json.dumps({"op": "read"}).encode(), both)
            for each in both:
                os.close(each)
            with contextlib.suppress(ConnectionResetError):
                return receive_message(connection)
            return None

    assert served(at, ask) is None
    assert len(os.listdir("/proc/self/fd")) == open_before
