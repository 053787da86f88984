"""Ctrl-C on the repair bench: what is said is true, and the job is done or it is not.

Also what becomes of a backup. The chips are real; the keyboard is not.
"""

import contextlib
import os
import select
from collections.abc import Iterator
from pathlib import Path
from socket import socket
from typing import Any

import pytest

from spacegray.chip import mailbox_line
from spacegray.chip.modules import NAMES, NEW_MAGIC
from spacegray.errors import SpacegrayError, StoppedError, UsageError
from spacegray.progress import Silent
from spacegray.service.jobs import bench, logic_board
from spacegray.sockets import receive_message, send_message
from spacegray.spec import Spec, dump
from spacegray.workstation import board, create, hold, image, jobs, life, under_way
from spacegray.workstation.unlock import Answer, Given, Kind, Nobody, Standing
from tests.support.authority import another_authority, the_authority
from tests.support.bench import Bench, made

SIGNED_SECONDS = 60.0
COPY = b"the plain disk"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """A machine whose owner trusts a provider."""
    it = made(tmp_path_factory.mktemp("interrupted") / "home")
    it.trust(the_authority())
    return it


@pytest.fixture
def it(whole: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A copy of it, of which no system is built."""
    monkeypatch.setattr(life, "lay_anew", lambda *_, **__: None)
    monkeypatch.setattr(logic_board, "build", lambda *_, **__: None)
    return whole.copied(tmp_path / "home")


@contextlib.contextmanager
def interrupted(monkeypatch: pytest.MonkeyPatch, *, signed: bool) -> Iterator[None]:
    """Ctrl-C once the chip was asked for the entry: when its answer is there, or before."""
    asked = []

    def sending(connection: socket, payload: bytes, *words: Any) -> None:
        if b"record_service" in payload:
            if not signed:
                raise KeyboardInterrupt
            asked.append(connection)
        send_message(connection, payload, *words)

    def receiving(connection: socket) -> tuple[bytes, list[int]] | None:
        if connection in asked:
            assert select.select([connection], [], [], SIGNED_SECONDS)[0], "it never signed"
            raise KeyboardInterrupt
        return receive_message(connection)

    with monkeypatch.context() as at_the_keyboard:
        at_the_keyboard.setattr(mailbox_line, "send_message", sending)
        at_the_keyboard.setattr(mailbox_line, "receive_message", receiving)
        yield


def new_board(it: Bench, order: bytes = b"", **named: Any) -> None:
    logic_board.perform(
        it.paths, it.workstation, Nobody(), order=order,
        mirror="none", password_hash="none", progress=Silent(), **named,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("memory 64", "`service history pro` says whether it was done$"),
        ("vesa-mount", "`service history pro` says whether it was done$"),
        ("ssd both", "ALL that was on its disk is lost, and `restore pro` comes next"),
    ],
)
def test_a_job_that_was_signed_is_done_and_nobody_is_told_to_do_it_again(
    it: Bench, monkeypatch: pytest.MonkeyPatch, text: str, says: str
):
    with interrupted(monkeypatch, signed=True), pytest.raises(StoppedError, match=says):
        it.do(text)
    assert it.at.under_way.exists(), "left for whoever opens the chip next"
    assert it.entries() == 1
    job = jobs.parse(text)
    assert it.spec == jobs.changed(it.spec, job)
    new = [(it.at.folder / name).read_bytes().startswith(NEW_MAGIC) for name in NAMES]
    assert new == [number in job.modules for number in range(2)]
    assert it.history().verified


def test_a_job_that_was_not_signed_is_not_done(it: Bench, monkeypatch: pytest.MonkeyPatch):
    before = it.spec
    with interrupted(monkeypatch, signed=False), pytest.raises(StoppedError, match="says whether"):
        it.do("memory 64")
    assert (it.entries(), it.spec) == (0, before)
    it.do("memory 64")
    assert it.history().verified


def test_what_is_left_undone_afterwards_is_said_too(it: Bench, monkeypatch: pytest.MonkeyPatch):
    """The entry is there, and Ctrl-C comes while the machine is changed."""

    def leave(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as at_the_keyboard:
        at_the_keyboard.setattr(jobs, "carry_out", leave)
        with pytest.raises(StoppedError, match="says whether"):
            it.do("memory 64")
    before = it.spec
    assert it.entries() == 1
    assert (before.memory_gb, it.spec.memory_gb) == (32, 64)


class Leaving(Nobody):
    """Somebody who is asked for the password, gives a wrong one at most, and leaves."""

    def __init__(self, wrong: Path | None = None) -> None:
        self._wrong = wrong

    def give(self, doing: str, kind: Kind, _: Standing, last: Answer | None) -> Given:
        if last is not None or self._wrong is None:
            raise KeyboardInterrupt
        return Given(kind, os.open(self._wrong, os.O_RDONLY))


@pytest.mark.parametrize("tries", [0, 1])
def test_whoever_leaves_when_asked_for_the_password_has_done_nothing(
    it: Bench, tmp_path: Path, tries: int
):
    """Even after a wrong one: so the one line for every Ctrl-C is true."""
    secret = tmp_path / "secret"
    secret.write_text("correct horse\n")
    with (
        hold.chip(it.at, "setting", "being changed", wants="chip") as chip,
        secret.open("rb") as new,
    ):
        chip.mailbox.set_password(new.fileno())
    secret.write_text("wrong\n")
    owner = Leaving(secret if tries else None)
    with pytest.raises(KeyboardInterrupt):
        bench.perform(it.workstation, jobs.parse("memory 64"), owner)
    assert not it.at.under_way.exists()
    with pytest.raises(KeyboardInterrupt):
        logic_board.perform(
            it.paths, it.workstation, owner, mirror="none", password_hash="none", progress=Silent()
        )
    assert not board.fresh(it.at).state_folder.exists(), "a chip that is nobody's"
    assert it.entries() == 0


def test_a_signed_board_comes(it: Bench, monkeypatch: pytest.MonkeyPatch):
    old = it.ecid
    with (
        interrupted(monkeypatch, signed=True),
        pytest.raises(StoppedError, match="`restore pro` puts a system"),
    ):
        new_board(it)
    assert it.entries() == 1, "the new chip's own"
    assert it.ecid != old
    assert it.history().verified


def test_a_board_that_is_not_asked_for_yet_is_left_in_the_one_line_for_all(
    it: Bench, monkeypatch: pytest.MonkeyPatch
):
    def leave(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(logic_board, "build", leave)
    with pytest.raises(KeyboardInterrupt):
        new_board(it)


# The day of an order.


def test_a_machine_bears_the_day_of_its_order_as_long_as_it_was_sold_then(it: Bench):
    it.at.spec.write_text(dump(Spec(edition="tiny", ordered="2017-12-14")))
    it.do("memory 64")
    assert it.spec.ordered == "2017-12-14"
    it.do("memory 256")
    assert it.spec == Spec(edition="tiny", memory_gb=256)
    it.do("memory 32")
    assert it.spec.ordered == ""
    assert it.history().verified


def test_a_job_that_was_cut_off_takes_the_day_away_all_the_same(
    it: Bench, monkeypatch: pytest.MonkeyPatch
):
    it.at.spec.write_text(dump(Spec(edition="tiny", ordered="2017-12-14")))
    with interrupted(monkeypatch, signed=True), pytest.raises(StoppedError):
        it.do("memory 256")
    assert it.spec.ordered == "2017-12-14"
    assert it.entries() == 1
    assert it.spec == Spec(edition="tiny", memory_gb=256)


# The backup.


@pytest.fixture
def copied(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Where disks were copied to: a few bytes are enough here."""
    copies = []

    def export(_: object, file: Path, __: str, *, replace: bool, **___: object) -> None:
        image.may_write(file, "exporting", replace=replace)
        file.write_bytes(COPY)
        copies.append(file)

    monkeypatch.setattr(image, "export", export)
    return copies


@pytest.mark.parametrize("replace", [False, True])
def test_nothing_is_copied_for_an_order_that_is_not_taken(
    it: Bench, tmp_path: Path, copied: list[Path], replace: bool
):
    file = tmp_path / "backup.qcow2"
    for order in (
        it.order(another_authority(), "logic-board"),
        it.order(the_authority(), "logic-board", ecid=1),
        it.order(the_authority(), "memory 64"),
        it.order(the_authority(), "logic-board", not_before=0, not_after=60),
    ):
        with pytest.raises(SpacegrayError, match="the work order is"):
            new_board(it, order, backup=file, replace=replace)
    assert not copied
    old = it.ecid
    new_board(it, it.order(the_authority(), "logic-board"), backup=file)
    assert file.read_bytes() == COPY
    assert it.ecid != old


def test_a_copy_for_a_job_that_is_refused_goes_again(
    it: Bench, tmp_path: Path, copied: list[Path], monkeypatch: pytest.MonkeyPatch
):
    """An order that was used before: only the chip knows. Then one who leaves before it signs."""
    file = tmp_path / "backup.qcow2"
    spent = it.order(the_authority(), "logic-board")
    with hold.chip(it.at, "spending", "being changed", wants="chip") as chip:
        chip.mailbox.record_service("logic-board", b"", order=spent)
    with pytest.raises(SpacegrayError, match="used before"):
        new_board(it, spent, backup=file)
    assert copied == [file]
    assert not file.exists()
    file.write_bytes(b"older")
    with pytest.raises(UsageError, match="give --yes"):
        new_board(it, backup=file)
    assert file.read_bytes() == b"older"
    with pytest.raises(SpacegrayError, match="used before"):
        new_board(it, spent, backup=file, replace=True)
    assert file.read_bytes() == COPY, "what it replaced is no more"
    file.unlink()

    def leave(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(logic_board, "build", leave)
    with pytest.raises(KeyboardInterrupt):
        new_board(it, backup=file)
    assert not file.exists()


def test_the_only_copy_of_a_lost_disk_stays(
    it: Bench, tmp_path: Path, copied: list[Path], monkeypatch: pytest.MonkeyPatch
):
    """Ctrl-C while the chip signs; then an error once the new one is there; then the same again."""
    file = tmp_path / "backup.qcow2"
    with interrupted(monkeypatch, signed=True), pytest.raises(StoppedError):
        new_board(it, backup=file)
    assert file.read_bytes() == COPY
    file.write_bytes(b"the only one")
    with pytest.raises(SpacegrayError, match="nothing on its disk"):
        new_board(it, backup=file, replace=True)
    assert file.read_bytes() == b"the only one"
    assert copied == [file]
    assert it.entries() == 1
    note = create.installed(it.at)
    assert note is not None
    create.note_empty(it.at, note, empty=False)
    file.unlink()

    def full(*_: object, **__: object) -> None:
        raise SpacegrayError("laying", "No space left on device", "make room")

    monkeypatch.setattr(life, "lay_anew", full)
    with pytest.raises(SpacegrayError, match="No space left"):
        new_board(it, backup=file)
    assert file.read_bytes() == COPY
    assert under_way.read(it.at) is None
