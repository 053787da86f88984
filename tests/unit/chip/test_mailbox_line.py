"""A line to a chip that was cut off before an answer is never used again."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from socket import socket
from typing import Any

import pytest

from spacegray.chip import mailbox_line
from spacegray.chip.mailbox_line import MailboxLine
from spacegray.chip.messages import decode_map, encode_map
from spacegray.errors import SpacegrayError
from spacegray.sockets import bind_unix, receive_message, send_message


@pytest.fixture
def ends(tmp_path: Path) -> Iterator[tuple[MailboxLine, socket]]:
    """A line, and the chip's end of it."""
    with contextlib.ExitStack() as closed:
        listener = closed.enter_context(bind_unix(tmp_path / "mailbox"))
        line = closed.enter_context(MailboxLine(tmp_path / "mailbox"))
        chip, _ = listener.accept()
        yield line, closed.enter_context(chip)


def answer(chip: socket, **said: Any) -> None:
    """Say it before the question: it waits there for whoever reads next."""
    send_message(chip, encode_map({"ok": True, **said}))


def test_answers_come_in_order(ends: tuple[MailboxLine, socket]):
    line, chip = ends
    for number in range(3):
        answer(chip, number=number)
        assert line._ask({"op": "show"}) == ({"number": number}, [])


@pytest.mark.parametrize("where", ["send_message", "receive_message"])
@pytest.mark.parametrize(
    "stopped_by", [KeyboardInterrupt, SystemExit, TimeoutError, ConnectionResetError]
)
def test_no_question_gets_the_answer_to_one_that_was_cut_off(
    ends: tuple[MailboxLine, socket],
    monkeypatch: pytest.MonkeyPatch,
    where: str,
    stopped_by: type[BaseException],
):
    line, chip = ends
    answer(chip, entries=1)

    def cut_off(*_: object) -> None:
        raise stopped_by

    passed_on = SpacegrayError if issubclass(stopped_by, OSError) else stopped_by
    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(mailbox_line, where, cut_off)
        with pytest.raises(passed_on):
            line._ask({"op": "record_service"})
    for _ in range(2):
        with pytest.raises(SpacegrayError, match="cut off before an answer"):
            line._ask({"op": "show"})
    # The chip sees that it was hung up on, and is asked nothing else.
    if where == "receive_message":
        asked = receive_message(chip)
        assert asked is not None
        assert decode_map(asked[0]) == {"op": "record_service"}
    with contextlib.suppress(ConnectionResetError):
        assert receive_message(chip) is None


def test_a_refusal_cuts_nothing_off(ends: tuple[MailboxLine, socket]):
    line, chip = ends
    send_message(chip, encode_map({"ok": False, "doing": "a", "stopped_by": "b", "next_step": "c"}))
    with pytest.raises(SpacegrayError, match="a: b; c"):
        line._ask({"op": "show"})
    answer(chip, number=1)
    assert line._ask({"op": "show"})[0] == {"number": 1}
