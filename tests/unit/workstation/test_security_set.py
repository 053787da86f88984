"""Startup security from the host: read anywhere, changed through recovery and its owner only."""

import os
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from spacegray.chip.refusal import ChipRefusalError
from spacegray.errors import SpacegrayError, UsageError
from spacegray.paths import Paths
from spacegray.workstation import control, facts, known, security, state
from spacegray.workstation.api import Workstation
from spacegray.workstation.security import Change
from spacegray.workstation.state import Record
from spacegray.workstation.unlock import Answer, Given, Kind, Standing
from tests.conftest import ROOT

SHOWN: dict[str, Any] = {
    "state": "open",
    "policy": "full",
    "external_boot": "deny",
    "other_systems": "deny",
    "firmware_password": False,
    "minimum_epoch": 7,
    "slots": {"a": {"product": "tiny", "epoch": 7}, "b": None},
    "current": "a",
    "trying": False,
    "password": True,
    "seal": "keyfile",
    "attempts": {},
}


class Owner:
    """Gives one word after the other."""

    def __init__(self, *words: str) -> None:
        self.words = list(words)

    def give(self, doing: str, kind: Kind, _: Standing, __: Answer | None) -> Given:
        reader, writer = os.pipe()
        os.write(writer, self.words.pop(0).encode())
        os.close(writer)
        return Given(kind, reader)

    def new(self, doing: str, kind: Kind) -> Given:
        return self.give(doing, kind, Standing(), None)


class Fake:
    """A workstation whose recovery, mailbox and supervisor write down what they are asked."""

    def __init__(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.at = Paths.current({"SPACEGRAY_HOME": str(home)}).workstation("pro")
        for folder in (self.at.folder, self.at.state_folder, self.at.run):
            folder.mkdir(parents=True)
        self.name = "pro"
        self.now: state.State = "off"
        self.done: list[str] = []
        self.shown = dict(SHOWN)
        self.refuses = False
        monkeypatch.setattr(security, "ChipClient", self._client)
        monkeypatch.setattr(control, "ask", self._ask)
        monkeypatch.setattr(facts, "show", lambda _: self.shown)

    def record(self) -> Record:
        return Record(state=self.now)

    def start(self, *, target: str, **_: Any) -> None:
        self.done.append(f"start {target}")
        self.now = "recovery"

    def stop(self) -> None:
        self.done.append("stop")
        self.now = "off"

    @contextmanager
    def _client(self, _: Path) -> Any:
        yield self

    def show(self) -> dict[str, Any]:
        return self.shown

    def unlock(self, secret: int, *, with_: str, mode: str) -> None:
        word = os.read(secret, 100).decode()
        self.done.append(f"unlock {mode} {word}")
        if word != "right":
            raise ChipRefusalError("unlocking", "it is wrong", "try again", code="wrong")

    def set_firmware_password(self, new: int) -> None:
        self.done.append(f"firmware password {os.read(new, 100).decode()}")

    def _ask(self, _: Any, request: dict[str, Any], **__: Any) -> tuple[dict[str, Any], list[int]]:
        self.done.append(f"do {request['words']}")
        if self.refuses:
            raise SpacegrayError("asking recovery", "it does not answer", "see `logs`")
        return {"ok": True, "answer": ""}, []


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    return Fake(tmp_path, monkeypatch)


def set_(fake: Fake, change: Change, *words: str) -> dict[str, Any]:
    return security.set_(cast(Workstation, fake), change, Owner(*words))


def test_a_change_goes_through_recovery_and_its_owner(fake: Fake):
    change = Change(policy="medium", other_systems="allow", firmware_password="new")
    assert set_(fake, change, "secret", "wrong", "right")["policy"] == "full"
    assert fake.done == [
        "start recovery",
        "unlock recovery wrong",
        "unlock recovery right",
        "firmware password secret",
        "do set policy=medium other_systems=allow",
        "stop",
    ]


def test_a_new_firmware_password_that_cannot_be_had_changes_and_starts_nothing(fake: Fake):
    with pytest.raises(IndexError):
        set_(fake, Change(policy="medium", firmware_password="new"))
    assert fake.done == []


def test_what_was_changed_before_it_failed_is_said(fake: Fake):
    fake.refuses = True
    with pytest.raises(SpacegrayError, match=r"answer \(the firmware password was"):
        set_(fake, Change(policy="medium", firmware_password="new"), "secret", "right")
    assert "firmware password secret" in fake.done
    with pytest.raises(SpacegrayError, match="it does not answer; "):
        set_(fake, Change(policy="medium"), "right")


def test_a_recovery_that_runs_is_used_and_goes_on(fake: Fake):
    fake.now = "recovery"
    set_(fake, Change(firmware_password="none"), "right")
    assert fake.done == ["unlock recovery right"], "there is none to be taken away"
    fake.shown["firmware_password"] = True
    set_(fake, Change(firmware_password="none"), "right")
    assert fake.done[1:] == ["unlock recovery right", "do firmware-password"]


def test_a_machine_that_is_on_is_refused(fake: Fake):
    fake.now = "running"
    with pytest.raises(SpacegrayError, match="`stop pro` first"):
        set_(fake, Change(policy="none"), "right")
    assert fake.done == []


def test_nothing_to_change_and_nobody_to_prove_start_nothing(fake: Fake):
    with pytest.raises(UsageError, match="nothing is to be changed"):
        set_(fake, Change())
    fake.shown["password"] = False
    known.note(fake.at, fake.shown)
    with pytest.raises(SpacegrayError, match="it has no password"):
        set_(fake, Change(policy="none"))
    assert fake.done == []


def test_what_will_be_asked_for_is_known_before(fake: Fake):
    workstation = cast(Workstation, fake)
    assert security.needs(workstation) == [], "nothing is known: it is seen later"
    known.note(fake.at, {**SHOWN, "seal": "passphrase", "firmware_password": True})
    assert security.needs(workstation) == ["passphrase", "password", "firmware_password"]
    fake.now = "recovery"
    assert security.needs(workstation) == ["password"]
    fake.now = "running"
    assert security.needs(workstation) == []


def test_an_owner_who_gives_up_leaves_it_off_and_unchanged(fake: Fake):
    with pytest.raises(IndexError):
        set_(fake, Change(policy="none"), "wrong")
    assert fake.done == ["start recovery", "unlock recovery wrong", "stop"]


def test_every_key_is_documented(fake: Fake):
    text = (ROOT / "docs" / "show.md").read_text()
    _, _, section = text.partition("## What `security show --format json` says")
    section = section.partition("\n## ")[0]
    for key in security.show(cast(Workstation, fake)):
        assert f"`{key}`" in section
    for name in known.Known.__struct_fields__:
        assert f"`{name}`" in text


def test_it_is_shown_by_the_chip_or_else_as_noted(fake: Fake):
    workstation = cast(Workstation, fake)
    shown = security.show(workstation)
    assert (shown["policy"], shown["external_boot"], shown["from"]) == ("full", "deny", "chip")
    assert shown["systems"]["a"]["product"] == "tiny"
    msgspec.json.encode(shown)
    fake.shown = {**SHOWN, "state": "sealed", "policy": None}
    with pytest.raises(SpacegrayError, match="nothing was noted yet"):
        security.show(workstation)
    known.note(fake.at, SHOWN)
    assert security.show(workstation) == {**shown, "from": "notes"}
