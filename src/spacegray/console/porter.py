"""The console's porter: does for the console what the console itself must not be able to do.

The console listens to browsers and is confined: it reads the workstations' folders, and can reach
neither a chip, nor a supervisor, nor start a program. The porter is not confined, and listens to
the console alone, over the one socket pair between them. It does these things and no others:
`start`, `stop` and `restart` a workstation, start its `recovery`, `show` it, verify its `service`
record, connect to its `screen`, `unlock` it by a secret whose descriptor comes along and is passed
on unread. It ends with the console; what was started goes on.

A request is a JSON object with the descriptors [channel, secret?]; the answer comes over that
channel, which is the request's own: whoever asks may wait without keeping others from asking.
"""

import argparse
import contextlib
import json
import os
import resource
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from spacegray.console.limits import ERRAND_OUTPUT_LIMIT_CHARACTERS, PORTER_REQUEST_LIMIT
from spacegray.console.machines import VERBS
from spacegray.errors import SpacegrayError
from spacegray.paths import Paths
from spacegray.process import minimal_environment, python
from spacegray.service import history
from spacegray.sockets import PeerError, close_all, receive_message, send_message
from spacegray.workstation import facts
from spacegray.workstation.api import Workstation
from spacegray.workstation.unlock import KINDS, MODES

_OPTION: Final = "--channel-fd"
Answered = tuple[dict[str, Any], list[int]]
"""What came of a request, ready for JSON, and the descriptors that go with it."""


class Porter:
    """The console's end; safe between threads."""

    def __init__(self) -> None:
        """Start the porter. Raises OSError when it cannot be started."""
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [*python("spacegray.console.porter"), f"{_OPTION}={theirs.fileno()}"],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=minimal_environment(),
                cwd="/",
                start_new_session=True,
            )
        self._channel = ours
        self._guard = threading.Lock()

    def ask(self, op: str, name: str, descriptors: Sequence[int] = (), **fields: str) -> Answered:
        """Have it done, to the end; `descriptors` stay the caller's, those that come back too.

        Raises SpacegrayError, as the porter or who it asked does.
        """
        doing = f"{op} {name}"
        ours, theirs = socket.socketpair()
        with ours:
            try:
                with theirs, self._guard:
                    request = json.dumps({"op": op, "name": name, **fields}).encode()
                    send_message(self._channel, request, [theirs.fileno(), *descriptors])
                message = receive_message(ours)
            except (OSError, PeerError) as error:
                raise SpacegrayError(doing, error, "open the console again") from None
        if message is None:
            raise SpacegrayError(doing, "the console's porter ended", "open the console again")
        answer, received = json.loads(message[0]), message[1]
        if parts := answer.get("error"):
            close_all(received)
            *words, link = parts
            raise SpacegrayError(*words, link=link)
        return answer, received


def serve(channel: socket.socket, paths: Paths) -> None:
    """Do what is asked over `channel` until its other end is closed."""
    room = threading.BoundedSemaphore(PORTER_REQUEST_LIMIT)

    def work(payload: bytes, descriptors: list[int]) -> None:
        try:
            _answer(paths, payload, descriptors)
        finally:
            close_all(descriptors)
            room.release()

    # The console may have been taken over: what makes no sense ends the porter, and with it that.
    with contextlib.suppress(OSError, PeerError):
        while (message := receive_message(channel)) is not None:
            if message[1] and room.acquire(blocking=False):
                threading.Thread(target=work, args=message, daemon=True).start()
            else:
                # Whoever asks sees the end of its channel.
                close_all(message[1])


def _answer(paths: Paths, payload: bytes, given: list[int]) -> None:
    """Do what is asked, and say over the first of the `given` descriptors what came of it."""
    received: list[int] = []
    try:
        answer, received = _do(paths, json.loads(payload), given[1:])
    except SpacegrayError as error:
        answer = {"error": [error.doing, error.stopped_by, error.next_step, error.link]}
    except (AttributeError, KeyError, TypeError, ValueError):
        answer = {"error": ["asking the console's porter", "it does not do that", "", None]}
    try:
        with (
            contextlib.suppress(OSError, PeerError),
            socket.socket(fileno=os.dup(given[0])) as channel,
        ):
            send_message(channel, json.dumps(answer).encode(), received)
    finally:
        close_all(received)


def _do(paths: Paths, request: dict[str, Any], given: list[int]) -> Answered:
    op, name = str(request["op"]), str(request["name"])
    workstation = Workstation.find(paths, name)
    if op in VERBS:
        _errand(op, name)
        return {}, []
    match op, given:
        case "show", []:
            if workstation.record().state == "recovery":
                # There its owner may just have changed what was noted last.
                with contextlib.suppress(SpacegrayError):
                    facts.show(workstation)
            return {"show": workstation.show()}, []
        case "service", []:
            return {}, [_in_memory(msgspec.json.encode(history.history(workstation)))]
        case "screen", []:
            return {}, [workstation.screen_socket().detach()]
        case "unlock", [secret]:
            kind = KINDS[KINDS.index(request["kind"])]
            mode = MODES[MODES.index(request["mode"])]
            return {"answer": msgspec.to_builtins(workstation.unlock(kind, secret, mode))}, []
    raise ValueError(op)


def _in_memory(content: bytes) -> int:
    """A descriptor of a file in memory: a record grows with the years, a message does not."""
    descriptor = os.memfd_create("service record", os.MFD_CLOEXEC)
    with open(descriptor, "wb", closefd=False) as file:
        file.write(content)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def _errand(verb: str, name: str) -> None:
    """By a process of its own, which lives on without the porter."""
    done = subprocess.run(
        [*python("spacegray.console.errand"), verb, name],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        env=minimal_environment(),
        cwd="/",
        start_new_session=True,
        check=False,
    )
    if done.returncode != 0:
        raise _of_errand(done.stdout.decode("utf-8", "replace"), verb, name)


def _of_errand(output: str, verb: str, name: str) -> SpacegrayError:
    """The error an errand printed as JSON, or what else can be said of its end."""
    try:
        doing, stopped_by, next_step = json.loads(output[:ERRAND_OUTPUT_LIMIT_CHARACTERS])
    except ValueError:
        return SpacegrayError(f"{verb} {name}", "it ended without a word", f"see `logs {name}`")
    return SpacegrayError(str(doing), str(stopped_by), str(next_step))


def main() -> int:
    """Run the porter; returns when the console has ended."""
    parser = argparse.ArgumentParser(prog="spacegray.console.porter")
    parser.add_argument(_OPTION, type=int, required=True)
    # What passes through here may be a secret's descriptor: no core of it may lie about.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.umask(0o077)
    with socket.socket(fileno=parser.parse_args().channel_fd) as channel:
        serve(channel, Paths.current())
    return 0


if __name__ == "__main__":
    sys.exit(main())
