"""A chip gets what it waits for, in its order, until it is right or nobody has more to give."""

import os
from typing import Any, cast

import pytest

from spacegray.chip.client import ChipClient
from spacegray.chip.refusal import ChipRefusalError
from spacegray.errors import SpacegrayError
from spacegray.links import TARGETS
from spacegray.workstation import unlock
from spacegray.workstation.unlock import Answer, Given, Kind, Standing


class FakeChip:
    """Waits for secrets, each one line of text."""

    def __init__(self, passphrase: str | None, password: str | None) -> None:
        self.secrets = {"passphrase": passphrase, "password": password}
        self.open: set[str] = set()
        self.failures = 0
        self.refuse: str | None = None

    def show(self) -> dict[str, Any]:
        needs = [
            name
            for name, word in self.secrets.items()
            if word is not None and name not in self.open
        ]
        budget = {"failures": self.failures, "left": 10 - self.failures, "wait_seconds": 0}
        return {"needs": needs[:1], "attempts": {"password": budget}}

    def unseal(self, descriptor: int) -> None:
        self._look("passphrase", descriptor)

    def unlock(self, descriptor: int, *, with_: str, mode: str) -> None:
        assert (with_, mode) == ("password", "normal")
        self._look("password", descriptor)

    def _look(self, name: str, descriptor: int) -> None:
        if self.refuse:
            raise ChipRefusalError("unlocking", "no", "never", code=self.refuse)
        if os.read(descriptor, 100).decode() != self.secrets[name]:
            self.failures += 1
            raise ChipRefusalError("unlocking", "it is wrong", "try again", code="wrong")
        self.open.add(name)


class Typist:
    """Gives words, one after the other."""

    def __init__(self, *words: str) -> None:
        self.words = list(words)
        self.asked: list[tuple[str, bool]] = []
        self.given: list[int] = []

    def give(self, doing: str, kind: Kind, _: Standing, last: Answer | None) -> Given:
        self.asked.append((kind, last is None))
        if not self.words:
            raise SpacegrayError(doing, "nothing left to give", "go home")
        reader, writer = os.pipe()
        os.write(writer, self.words.pop(0).encode())
        os.close(writer)
        self.given.append(reader)
        return Given(kind, reader)

    def new(self, doing: str, kind: Kind) -> Given:
        return self.give(doing, kind, Standing(), None)


def satisfy(chip: FakeChip, typist: Typist, *, way: unlock.Way = "disk") -> None:
    mailbox = cast(ChipClient, chip)

    def give(given: Given) -> Answer:
        return unlock.unlock(mailbox, given.kind, given.descriptor, given.mode, way)

    unlock.satisfy("starting", typist, unlock.standing(mailbox, way), give)


def test_what_needs_nothing_asks_nothing():
    typist = Typist()
    satisfy(FakeChip(None, None), typist)
    assert typist.asked == []


def test_passphrase_then_password_each_until_it_is_right():
    chip, typist = FakeChip("p", "w"), Typist("x", "p", "y", "z", "w")
    satisfy(chip, typist)
    assert chip.open == {"passphrase", "password"}
    assert typist.asked == [
        ("passphrase", True), ("passphrase", False),
        ("password", True), ("password", False), ("password", False),
    ]  # fmt: skip
    for descriptor in typist.given:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)


def test_without_the_disk_the_password_is_not_asked_for():
    chip, typist = FakeChip("p", "w"), Typist("p")
    satisfy(chip, typist, way="chip")
    assert chip.open == {"passphrase"}


@pytest.mark.parametrize(
    ("way", "asked"),
    [
        ("chip", []),
        ("disk", ["password"]),
        ("other", ["firmware_password", "password"]),
        ("recovery", ["firmware_password"]),
    ],
)
def test_the_firmware_password_is_asked_for_off_the_beaten_way(way: unlock.Way, asked: list[str]):
    shown = {"needs": ["password"], "firmware_password": True, "firmware_password_given": False}
    assert list(unlock.standing_of(shown, way).needs) == asked
    given = {**shown, "firmware_password_given": True}
    assert "firmware_password" not in unlock.standing_of(given, way).needs


def test_each_target_has_its_way():
    assert {target: unlock.way_to(target) for target in TARGETS} == {
        "main": "disk", "other": "other", "external": "other", "recovery": "recovery",
    }  # fmt: skip


def test_an_owner_who_gives_up_ends_it():
    with pytest.raises(SpacegrayError, match="starting: nothing left to give"):
        satisfy(FakeChip(None, "w"), Typist("x"))
    with pytest.raises(SpacegrayError, match="nobody is there to be asked"):
        unlock.Nobody().give("starting", "password", Standing(), None)


def test_a_chip_that_could_not_look_at_it_is_an_error():
    chip = FakeChip(None, "w")
    chip.refuse = "storage"
    with pytest.raises(ChipRefusalError) as caught:
        satisfy(chip, Typist("w"))
    assert caught.value.code == "storage"


def test_a_proof_is_asked_for_until_it_is_right():
    chip, typist = FakeChip(None, "w"), Typist("x", "w")
    mailbox = cast(ChipClient, chip)

    def act(given: Given) -> None:
        mailbox.unlock(given.descriptor, with_=given.proof, mode=given.mode)

    unlock.prove("changing", typist, mailbox, "password", act)
    assert typist.asked == [("password", True), ("password", False)]


def test_budgets_are_found_by_kind_and_mode():
    shown = {
        "needs": ["password"],
        "attempts": {
            name: {"failures": 0, "left": left, "wait_seconds": 0}
            for name, left in (("password", 1), ("recovery", 2), ("recovery_key", 3))
        },
    }
    now = unlock.standing_of(shown)
    found = [
        now.budget(*each)
        for each in (
            ("password", "normal"),
            ("password", "recovery"),
            ("recovery_key", "normal"),
            ("passphrase", "normal"),
        )
    ]
    assert [each and each.left for each in found] == [1, 2, 3, None]
    sealed = unlock.standing_of({"needs": ["passphrase"], "attempts": {}})
    assert sealed.budget("password", "normal") is None
