"""What may start, as its owner reads and changes it.

Reading asks the chip. Changing goes through the one door that there is: recovery is started, the
owner authenticates to the chip while it runs, and recovery itself asks the chip for the change.
Here that happens without anybody at the screen.
"""

import contextlib
from collections.abc import Callable
from typing import Any, Literal

import msgspec

from spacegray.boot.policies import Policy, Switch
from spacegray.chip.client import ChipClient
from spacegray.errors import SpacegrayError, UsageError
from spacegray.progress import Progress
from spacegray.workstation import control, facts, known, unlock
from spacegray.workstation.api import START_SECONDS, Workstation
from spacegray.workstation.events import Event
from spacegray.workstation.recovering import DO_SECONDS
from spacegray.workstation.state import ALIVE
from spacegray.workstation.unlock import Given, Owner

KEYS = (
    "policy",
    "external_boot",
    "other_systems",
    "firmware_password",
    "minimum_epoch",
    "current",
    "trying",
)


class Change(msgspec.Struct, kw_only=True, frozen=True):
    """What is to be changed; None stays as it is."""

    policy: Policy | None = None
    external_boot: Switch | None = None
    other_systems: Switch | None = None
    firmware_password: Literal["new", "none"] | None = None
    """A new one, which the owner is asked for, or none any more."""

    def settings(self) -> str:
        """The words for recovery, `KEY=VALUE` each; empty where there is none."""
        named = {
            "policy": self.policy,
            "external_boot": self.external_boot,
            "other_systems": self.other_systems,
        }
        return " ".join(f"{key}={value}" for key, value in named.items() if value is not None)


def show(workstation: Workstation) -> dict[str, Any]:
    """What may start, ready for JSON; docs/show.md lists the keys.

    Asks for nothing: of a chip that is sealed or at work, what was noted last. Raises
    SpacegrayError where nothing is known.
    """
    try:
        shown, source = facts.show(workstation), "chip"
        if shown["state"] != "open":
            raise SpacegrayError(
                f"asking the chip of {workstation.name} what may start",
                "it is sealed, and nothing was noted yet",
                f"`start {workstation.name}` opens it",
            )
    except SpacegrayError:
        noted = known.read(workstation.at)
        if noted.policy is None:
            raise
        shown, source = msgspec.to_builtins(noted), "notes"
    return {
        **{key: shown[key] for key in KEYS},
        "systems": shown["slots"],
        "target": workstation.record().target,
        "from": source,
    }


def needs(workstation: Workstation) -> list[str]:
    """What `set_` is going to ask its owner for, as far as that is known; nothing where it cannot
    begin.
    """
    noted, state = known.read(workstation.at), workstation.record().state
    if state == "recovery":
        return ["password"] if noted.password else []
    if state in ALIVE or not noted.password:
        return []
    return [*noted.needs(), *(["firmware_password"] if noted.firmware_password else [])]


def set_(
    workstation: Workstation,
    change: Change,
    owner: Owner,
    *,
    accelerator: str | None = None,
    timeout_seconds: float = START_SECONDS,
    progress: Progress | None = None,
    on_event: Callable[[Event], None] = lambda event: None,
) -> dict[str, Any]:
    """Change what may start; returns what `show` says then. The machine is off before and after.

    Where recovery runs already, that one does it and goes on. Raises SpacegrayError: nothing was
    changed then, or, where it says so, the firmware password alone was.
    """
    doing = f"changing what may start on {workstation.name}"
    if change == Change():
        raise UsageError(doing, "nothing is to be changed", "say what, such as --policy medium")
    _must_have_password(workstation, doing)
    state = workstation.record().state
    if state in ALIVE and state != "recovery":
        raise SpacegrayError(
            doing, f"it is on ({state})", f"`stop {workstation.name}` first: recovery does it"
        )
    with contextlib.ExitStack() as kept:
        # Before anything starts: nothing is half done for want of it.
        new = None
        if change.firmware_password == "new":
            new = kept.enter_context(owner.new(doing, "firmware_password"))
        if state != "recovery":
            kept.callback(_stop, workstation)
            workstation.start(
                target="recovery",
                owner=owner,
                accelerator=accelerator,
                timeout_seconds=timeout_seconds,
                progress=progress,
                on_event=on_event,
            )
        with ChipClient(workstation.at.mailbox) as mailbox:
            _authenticate(doing, mailbox, owner)
            _ask(workstation, mailbox, change, new)
            known.note(workstation.at, mailbox.show())
            return show(workstation)


def _stop(workstation: Workstation) -> None:
    with contextlib.suppress(SpacegrayError):
        workstation.stop()


def _must_have_password(workstation: Workstation, doing: str) -> None:
    """Without a password nobody can be the owner; said before a start, as far as it is known."""
    if known.read(workstation.at).password is False:
        raise SpacegrayError(
            doing,
            "it has no password, so that nobody can prove to be its owner",
            f"`password set {workstation.name}` sets one",
        )


def _authenticate(doing: str, mailbox: ChipClient, owner: Owner) -> None:
    def act(given: Given) -> None:
        mailbox.unlock(given.descriptor, with_=given.proof, mode="recovery")

    unlock.prove(doing, owner, mailbox, "password", act)


def _ask(workstation: Workstation, mailbox: ChipClient, change: Change, new: Given | None) -> None:
    changed = False
    if new is not None:
        # Recovery could pass it on only by reading it; so it goes to the chip itself.
        mailbox.set_firmware_password(new.descriptor)
        changed = True
    elif change.firmware_password == "none" and mailbox.show()["firmware_password"]:
        _do(workstation, "firmware-password")
        changed = True
    if settings := change.settings():
        try:
            _do(workstation, f"set {settings}")
        except SpacegrayError as error:
            if not changed:
                raise
            raise SpacegrayError(
                error.doing,
                f"{error.stopped_by} (the firmware password was changed, nothing else)",
                error.next_step,
                link=error.link,
            ) from None


def _do(workstation: Workstation, words: str) -> None:
    control.ask(workstation.at, {"op": "do", "words": words}, timeout_seconds=2 * DO_SECONDS)
