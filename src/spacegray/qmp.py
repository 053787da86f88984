"""QMP: how one supervisor drives one QEMU, over a socket that both inherited.

The library is QEMU's own (qemu.qmp). This wrapper adds what a supervisor needs of it: every
command has a time-out, events are bounded and their stream ends with QEMU, and whatever goes
wrong becomes a SpacegrayError. QEMU may die at any moment; it is a peer that a hostile guest
may have taken over, so that nothing it sends is believed before it is checked.

QEMU serves one QMP client for each socket, and it is this one.
"""

import asyncio
import contextlib
import itertools
import logging
import socket
from collections import deque
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

import msgspec
from qemu.qmp import (
    ConnectError,
    EventListener,
    ExecInterruptedError,
    ExecuteError,
    QMPClient,
    QMPError,
    Runstate,
)
from qemu.qmp.message import Message

from spacegray.errors import SpacegrayError

GREETING_SECONDS: Final = 10.0
"""How long QEMU may take to greet; it does so once its board is built."""

COMMAND_SECONDS: Final = 10.0
"""How long a command may take; QEMU answers between two slices of the guest's work."""

EVENT_LIMIT: Final = 256
"""Events kept for a slow reader. The oldest go first: what ends a machine comes last."""

NEXT_STEP: Final = "look at `spacegray logs`, then start the workstation again"

logging.getLogger("qemu.qmp").addHandler(logging.NullHandler())
"""The library logs each broken connection as an error of its own; we report it as ours."""


class Event(msgspec.Struct, frozen=True):
    """Something that QEMU said of its own accord; `at` is in Unix seconds."""

    name: str
    data: dict[str, Any]
    at: float


class QmpError(SpacegrayError):
    """Something between us and QEMU went wrong; which of the three below says what."""


class RefusedError(QmpError):
    """QEMU understood the command and did not carry it out."""


class GoneError(QmpError):
    """There is no QEMU at the other end any more."""


class NoAnswerError(QmpError):
    """QEMU did not answer within the time that a command has."""


class Qmp:
    """A negotiated connection; make it by `connect`, end it by `close` or `async with`."""

    def __init__(self, client: QMPClient, events: "_Events") -> None:
        self._client = client
        self._events = events
        self._descriptors = asyncio.Lock()
        self._names = itertools.count()
        self._watch = asyncio.create_task(self._until_gone())

    @classmethod
    async def connect(
        cls, connection: socket.socket, *, timeout_seconds: float = GREETING_SECONDS
    ) -> "Qmp":
        """Negotiate over `connection`, a connected unix socket, which is ours from then on.

        Raises GoneError when QEMU is not there or speaks something else, NoAnswerError when it
        is silent for `timeout_seconds`.
        """
        connection.setblocking(False)
        client = QMPClient("spacegray")
        events = _Events()
        client.register_listener(events)
        # The library's own listener keeps everything for ever, and nobody reads it.
        client.events.event_filter = lambda _: False
        try:
            async with asyncio.timeout(timeout_seconds):
                await client.connect(connection)
        except TimeoutError:
            raise NoAnswerError(
                "connecting to QEMU", f"no greeting in {timeout_seconds:g} s", NEXT_STEP
            ) from None
        except (ConnectError, OSError) as error:
            raise GoneError("connecting to QEMU", _cause(error), NEXT_STEP) from None
        except AssertionError:
            # The library asserts that a peer which answered is still there a moment later.
            await _leave(client)
            raise GoneError("connecting to QEMU", "QEMU is gone", NEXT_STEP) from None
        finally:
            if client.runstate is not Runstate.RUNNING:
                connection.close()
        return cls(client, events)

    async def __aenter__(self) -> "Qmp":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def execute(
        self,
        command: str,
        arguments: Mapping[str, object] | None = None,
        *,
        timeout_seconds: float = COMMAND_SECONDS,
    ) -> Any:
        """Run one QMP command and return its value.

        Raises RefusedError, NoAnswerError after `timeout_seconds`, or GoneError.
        """
        doing = f"asking QEMU for {command}"
        try:
            async with asyncio.timeout(timeout_seconds):
                return await self._client.execute(command, arguments)
        except TimeoutError:
            raise NoAnswerError(doing, f"no answer in {timeout_seconds:g} s", NEXT_STEP) from None
        except ExecuteError as error:
            raise RefusedError(doing, error, NEXT_STEP) from None
        except (ExecInterruptedError, QMPError, OSError, EOFError) as error:
            raise GoneError(doing, _cause(error), NEXT_STEP) from None

    async def monitor(self, line: str, *, timeout_seconds: float = COMMAND_SECONDS) -> str:
        """Run one line of QEMU's human monitor and return what it prints, stripped."""
        answer = await self.execute(
            "human-monitor-command", {"command-line": line}, timeout_seconds=timeout_seconds
        )
        return str(answer).strip()

    async def pass_descriptor(
        self, name: str, descriptor: int, *, timeout_seconds: float = COMMAND_SECONDS
    ) -> None:
        """Give QEMU a copy of `descriptor`, which it then knows as `name` (QMP's getfd)."""
        await self._send(descriptor, "getfd", {"fdname": name}, timeout_seconds)

    async def add_descriptor_set(
        self, number: int, descriptor: int, *, timeout_seconds: float = COMMAND_SECONDS
    ) -> None:
        """Give QEMU a copy of `descriptor`, which it then opens as the file /dev/fdset/`number`."""
        await self._send(descriptor, "add-fd", {"fdset-id": number}, timeout_seconds)

    async def _send(
        self, descriptor: int, command: str, arguments: dict[str, object], timeout_seconds: float
    ) -> None:
        """QEMU takes a descriptor by the command that comes right after it."""
        async with self._descriptors:
            try:
                self._client.send_fd_scm(descriptor)
            except (QMPError, OSError) as error:
                raise GoneError("passing a descriptor to QEMU", _cause(error), NEXT_STEP) from None
            await self.execute(command, arguments, timeout_seconds=timeout_seconds)

    async def wait_running(self) -> None:
        """Return when the processor runs, by QEMU's own word; raises SpacegrayError if it does not.

        QEMU starts the processor before it serves this socket, so that one question is enough.
        """
        answer = await self.execute("query-status")
        status = answer.get("status") if isinstance(answer, dict) else answer
        if status != "running":
            raise SpacegrayError(
                "starting the processor", f"QEMU says {status!r}", NEXT_STEP, link="machine"
            )

    async def add_vnc_client(self, descriptor: int) -> None:
        """Serve RFB 3.8 with security type None on the connected socket `descriptor`.

        QEMU listens nowhere (`-vnc none`): whoever holds the other end sees the screen and
        types, so check whom you give it to.
        """
        name = f"vnc{next(self._names)}"
        await self.pass_descriptor(name, descriptor)
        await self.execute("add_client", {"protocol": "vnc", "fdname": name, "skipauth": True})

    async def events(self) -> AsyncIterator[Event]:
        """Events in their order, from negotiation on; ends when QEMU is gone. One reader only."""
        while (message := await self._events.next()) is not None:
            with contextlib.suppress(msgspec.ValidationError):
                yield _event(message)

    async def wait_gone(self) -> None:
        """Return once QEMU has closed its end."""
        await asyncio.shield(self._watch)

    async def close(self) -> None:
        """Leave the connection, in whatever state it is; QEMU itself goes on."""
        await _leave(self._client)
        await self._watch

    async def _until_gone(self) -> None:
        # Nothing is awaited between the test and the wait, so that no change is missed.
        while self._client.runstate is Runstate.RUNNING:
            await self._client.runstate_changed()
        self._events.end()


async def _leave(client: QMPClient) -> None:
    # The library raises here what broke the connection, which its users know by now.
    with contextlib.suppress(QMPError, OSError, EOFError):
        if client.runstate is not Runstate.IDLE:
            await client.disconnect()


class _Events(EventListener):
    """The library's listener with a bound and an end."""

    def __init__(self) -> None:
        super().__init__()
        self._kept: deque[Message] = deque(maxlen=EVENT_LIMIT)
        self._changed = asyncio.Event()
        self._ended = False

    async def put(self, event: Message) -> None:
        self._kept.append(event)
        self._changed.set()

    def end(self) -> None:
        self._ended = True
        self._changed.set()

    async def next(self) -> Message | None:
        while not self._kept:
            if self._ended:
                return None
            self._changed.clear()
            await self._changed.wait()
        return self._kept.popleft()


class _Stamp(msgspec.Struct):
    seconds: int
    microseconds: int


class _Raw(msgspec.Struct):
    event: str
    timestamp: _Stamp
    data: dict[str, Any] = {}


def _event(message: Message) -> Event:
    """The typed event in `message`; raises msgspec.ValidationError for what is none."""
    raw = msgspec.convert(dict(message), _Raw)
    at = raw.timestamp.seconds + raw.timestamp.microseconds / 1_000_000
    return Event(raw.event, raw.data, at)


def _cause(error: BaseException) -> str:
    """What a user is told of a broken connection."""
    inner = error.exc if isinstance(error, ConnectError) else error
    if isinstance(inner, OSError) and inner.strerror:
        return f"QEMU is gone ({inner.strerror})"
    if isinstance(inner, EOFError | QMPError) and not isinstance(inner, ConnectError):
        return "QEMU is gone"
    return f"QEMU is gone ({type(inner).__name__})"
