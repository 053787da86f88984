"""What a chip waits for before it opens the disk, and how its owner gives it.

A secret is a descriptor here (the reading end of a pipe whose writer is done), never an object.
Who is asked for it, a terminal or files that the command line names, is the `Owner`'s matter; the
chip alone counts and judges the tries.
"""

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol, Self, get_args

import msgspec

from spacegray.chip.client import ChipClient
from spacegray.chip.messages import Mode, With
from spacegray.chip.refusal import ChipRefusalError
from spacegray.errors import SpacegrayError
from spacegray.links import Target

Kind = Literal["passphrase", "password", "recovery_key", "firmware_password"]
Need = Literal["passphrase", "firmware_password", "password"]

KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
MODES: Final[tuple[Mode, ...]] = get_args(Mode)
WORDS: Final = {
    "passphrase": "passphrase",
    "password": "password",
    "recovery_key": "recovery key",
    "firmware_password": "firmware password",
}
Way = Literal["chip", "disk", "other", "recovery"]
"""What is to be done: speak to the chip, open the disk from within its own system, open it in any
other way, start recovery."""
_ASKED: Final[dict[Way, tuple[Need, ...]]] = {
    "chip": ("passphrase",),
    "disk": ("passphrase", "password"),
    "other": ("passphrase", "firmware_password", "password"),
    "recovery": ("passphrase", "firmware_password"),
}
"""What is asked for on each way, in this order, where there is one."""
_WAYS: Final[dict[Target, Way]] = {
    "main": "disk",
    "other": "other",
    "external": "other",
    "recovery": "recovery",
}
ANSWERS: Final = (
    "wrong",
    "wait",
    "disabled",
    "absent",
    "secret",
    "passphrase",
    "put_back",
)
"""Refusals that answer a try; all others mean that the chip could not look at it."""


class Budget(msgspec.Struct, kw_only=True, frozen=True):
    """One of the budgets of tries: failed ones, those left, and how long to wait now."""

    failures: int
    left: int
    wait_seconds: int


class Standing(msgspec.Struct, kw_only=True, frozen=True):
    """What the chip waits for, in this order, and its budgets by name (none while sealed)."""

    needs: tuple[Need, ...] = ()
    attempts: dict[str, Budget] = {}

    def budget(self, kind: str, mode: str) -> Budget | None:
        """The budget that a try is charged to; None where nothing counts."""
        return self.attempts.get("recovery" if (kind, mode) == ("password", "recovery") else kind)


class Answer(msgspec.Struct, kw_only=True, frozen=True):
    """What came of one try, and how things stand after it."""

    right: bool
    code: str | None = None
    """The vault's word for why not."""
    stopped_by: str = ""
    next_step: str = ""
    standing: Standing


@dataclass(frozen=True)
class Given:
    """A secret that was given. Owns its descriptor; a context manager."""

    kind: Kind
    descriptor: int
    mode: Mode = "normal"

    @property
    def proof(self) -> With:
        """What it is, as proof of the owner."""
        return "recovery_key" if self.kind == "recovery_key" else "password"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.descriptor)


class Owner(Protocol):
    """Who can be asked for secrets."""

    def give(self, doing: str, kind: Kind, standing: Standing, last: Answer | None) -> Given:
        """A secret of this `kind`, or for a password also a recovery key.

        `last` is the answer to the one given just before, if it was not right. Raises
        SpacegrayError where there is none to be had, or none that would be looked at now.
        """

    def new(self, doing: str, kind: Kind) -> Given:
        """A secret of this `kind` to be set; the same again, when asked again."""


class Nobody:
    """An owner who is not there."""

    def give(self, doing: str, kind: Kind, _: Standing, __: Answer | None) -> Given:
        """See `Owner`."""
        raise _nobody(doing, kind)

    def new(self, doing: str, kind: Kind) -> Given:
        """See `Owner`."""
        raise _nobody(doing, kind)


def _nobody(doing: str, kind: Kind) -> SpacegrayError:
    return SpacegrayError(
        doing,
        f"its chip needs the {WORDS[kind]}, and nobody is there to be asked",
        "give it on the command line",
        link="chip",
    )


def standing(mailbox: ChipClient, way: Way = "disk") -> Standing:
    """How things stand with a chip, on this `way`."""
    return standing_of(mailbox.show(), way)


def standing_of(shown: dict[str, Any], way: Way = "disk") -> Standing:
    """The same, from what a chip said of itself."""
    waits = [need for need in shown.get("needs") or () if need in _ASKED[way]]
    asked = shown.get("firmware_password") and not shown.get("firmware_password_given")
    if asked and "firmware_password" in _ASKED[way]:
        waits.append("firmware_password")
    needs = [need for need in _ASKED[way] if need in waits]
    return msgspec.convert({"needs": needs, "attempts": shown.get("attempts") or {}}, Standing)


def way_to(target: Target) -> Way:
    """The way of a start for `target`."""
    return _WAYS[target]


def attempt(mailbox: ChipClient, act: Callable[[], None], way: Way = "disk") -> Answer:
    """Do what takes a secret, and say what came of it and how things stand on this `way`.

    Raises SpacegrayError for refusals that answer no try.
    """
    try:
        act()
    except ChipRefusalError as refusal:
        if refusal.code not in ANSWERS:
            raise
        return Answer(
            right=False,
            code=refusal.code,
            stopped_by=refusal.stopped_by,
            next_step=refusal.next_step,
            standing=standing(mailbox, way),
        )
    return Answer(right=True, standing=standing(mailbox, way))


def unlock(
    mailbox: ChipClient, kind: Kind, descriptor: int, mode: Mode, way: Way = "disk"
) -> Answer:
    """Give a chip one secret of those that it waits for on this `way`."""

    def act() -> None:
        if kind == "passphrase":
            mailbox.unseal(descriptor)
        else:
            mailbox.unlock(descriptor, with_=kind, mode=mode)

    return attempt(mailbox, act, way)


def satisfy(doing: str, owner: Owner, now: Standing, give: Callable[[Given], Answer]) -> None:
    """Have `owner` give a chip all that it waits for, each until it is right.

    Raises what the owner raises.
    """
    last: Answer | None = None
    while now.needs:
        with owner.give(doing, now.needs[0], now, last) as given:
            last = give(given)
        now = last.standing
        if last.right:
            last = None


def prove(
    doing: str,
    owner: Owner,
    mailbox: ChipClient,
    kind: Kind,
    act: Callable[[Given], None],
) -> None:
    """Have `owner` give a secret of this `kind` to `act` until it is right."""
    now, last = standing(mailbox), None
    while last is None or not last.right:
        with owner.give(doing, kind, now, last) as given:
            last = attempt(mailbox, functools.partial(act, given))
        now = last.standing


def prove_if_locked(
    doing: str,
    owner: Owner,
    mailbox: ChipClient,
    act: Callable[[ChipClient, Given | None], None],
) -> None:
    """Do `act`, with proof of its `owner` where the chip has a password, else without any."""
    if mailbox.show()["password"]:
        prove(doing, owner, mailbox, "password", functools.partial(act, mailbox))
    else:
        act(mailbox, None)
