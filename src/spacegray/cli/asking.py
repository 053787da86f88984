"""The owner at the command line: asked on the terminal, or by the files that the words name.

Fulfils `workstation.unlock.Owner`. Whatever is asked for can come from a file; where it does not,
and nobody is at a terminal, the error says which option to give.
"""

import contextlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Final

from spacegray.chip.messages import Mode
from spacegray.cli import secret
from spacegray.cli.interrupts import told_to_end
from spacegray.cli.secret import Secret
from spacegray.errors import SpacegrayError, UsageError
from spacegray.workstation import ways_back
from spacegray.workstation.unlock import WORDS, Answer, Given, Kind, Standing

UNCOUNTED_TRIES: Final = 3
"""How often the terminal is asked for what the chip does not count."""

_OPTIONS: Final[dict[Kind, str]] = {
    "passphrase": "--passphrase-file",
    "password": "--password-file",
    "recovery_key": "--recovery-key-file",
    "firmware_password": "--firmware-password-file",
}
_NEW_OPTIONS: Final[dict[Kind, str]] = {
    "passphrase": "--passphrase-file",
    "password": "--new-password-file",
    "firmware_password": "--new-firmware-password-file",
}


@dataclass(frozen=True, kw_only=True)
class Files:
    """The files that the command line names for secrets; - is standard input."""

    password: str | None = None
    passphrase: str | None = None
    recovery_key: str | None = None
    new_password: str | None = None
    firmware_password: str | None = None
    new_firmware_password: str | None = None

    def __post_init__(self) -> None:
        named = [getattr(self, each.name) for each in fields(self)]
        if named.count(secret.STDIN) > 1:
            raise UsageError(
                "reading the command line",
                "only one secret can come from standard input",
                "give a file for the others",
            )

    def of(self, kind: Kind) -> str | None:
        """The file for a secret of this `kind`."""
        return {
            "passphrase": self.passphrase,
            "password": self.password,
            "recovery_key": self.recovery_key,
            "firmware_password": self.firmware_password,
        }[kind]

    def of_new(self, kind: Kind) -> str | None:
        """The file for a secret of this `kind` that is to be set."""
        return {
            "passphrase": self.passphrase,
            "password": self.new_password,
            "firmware_password": self.new_firmware_password,
        }.get(kind)


def files_of(words: Mapping[str, str | None]) -> Files:
    """From a verb's options, named as in `options`."""
    return Files(**{name.removesuffix("_file"): value for name, value in words.items()})


class Asker:
    """Gives what a chip asks for. Keeps what was given, so that nobody is asked twice."""

    def __init__(
        self,
        name: str,
        files: Files | None = None,
        *,
        mode: Mode = "normal",
        ask: bool = True,
        pause: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext,
    ) -> None:
        """`ask`: whether a terminal may be asked; `pause` ends what else is drawn meanwhile."""
        self._name = name
        self._files = files or Files()
        self._mode = mode
        self._ask = ask and sys.stdin.isatty()
        self.pause = pause
        self._kept: dict[str, Secret] = {}
        self._uncounted = 0

    def give(self, doing: str, kind: Kind, standing: Standing, last: Answer | None) -> Given:
        """See `Owner`."""
        if kind == "password" and self._files.password is None and self._files.recovery_key:
            kind = "recovery_key"
        if last is not None:
            self._again(doing, kind, last)
        elif (budget := standing.budget(kind, self._mode)) is not None:
            _check_free(doing, kind, budget.left, budget.wait_seconds)
        if kind not in self._kept:
            self._kept[kind] = self._get(doing, kind)
        return Given(kind, self._kept[kind].copy(), self._mode)

    def new(self, doing: str, kind: Kind) -> Given:
        """See `Owner`."""
        kept = f"new {kind}"
        if kept not in self._kept:
            self._kept[kept] = self._get_new(doing, kind, self._files.of_new(kind))
        # One that was set a moment ago need not be typed again.
        if kind == "passphrase":
            self._kept[kind] = self._kept[kept]
        return Given(kind, self._kept[kept].copy())

    def must_have(self, doing: str, needs: list[str]) -> None:
        """Raise the error now if what is going to be asked for cannot be given then."""
        for kind in ("passphrase", "firmware_password", "password"):
            if kind not in needs or self._ask or kind in self._kept:
                continue
            named = self._files.of(kind)
            if kind == "password":
                named = named or self._files.recovery_key
            if named is None:
                raise _nobody(doing, kind)

    def _again(self, doing: str, kind: Kind, last: Answer) -> None:
        """After one that was not right: forget it, if there can be another."""
        budget = last.standing.budget(kind, self._mode)
        self._uncounted += budget is None
        free = (
            self._uncounted < UNCOUNTED_TRIES
            if budget is None
            else budget.left > 0 and budget.wait_seconds == 0
        )
        if last.code in ("absent", "put_back") or not free or not self._asks(kind):
            put_back = last.code == "put_back"
            next_step = ways_back.accepting(self._name) if put_back else last.next_step
            raise SpacegrayError(doing, last.stopped_by, next_step, link="chip")
        with self.pause():
            print(f"{last.stopped_by}", file=sys.stderr, flush=True)
        self._kept.pop(kind).close()

    def _asks(self, kind: Kind) -> bool:
        return self._ask and self._files.of(kind) is None

    def _get(self, doing: str, kind: Kind) -> Secret:
        source = self._files.of(kind)
        if source is not None:
            return secret.read(source, WORDS[kind])
        if not self._ask:
            raise _nobody(doing, kind)
        word = WORDS[kind].capitalize()
        with self.pause(), told_to_end():
            given = secret.ask(f"{word} of {self._name}: ")
        if given.length_bytes == 0:
            given.close()
            raise UsageError(doing, f"no {WORDS[kind]} was typed", "try again")
        return given

    def _get_new(self, doing: str, kind: Kind, source: str | None) -> Secret:
        if source is not None:
            return secret.read(source, WORDS[kind])
        if not self._ask:
            raise UsageError(
                doing,
                f"it needs a new {WORDS[kind]}, and nobody is there to be asked",
                f"give {_NEW_OPTIONS[kind]} FILE (- for standard input)",
            )
        with self.pause(), told_to_end():
            return secret.ask_new(doing, WORDS[kind])


def _check_free(doing: str, kind: Kind, left: int, wait_seconds: int) -> None:
    """Nobody is to type what the chip would not look at."""
    if left == 0:
        raise SpacegrayError(
            doing,
            f"the tries for the {WORDS[kind]} are used up",
            "see `chip show` for what is left",
            link="chip",
        )
    if wait_seconds > 0:
        raise SpacegrayError(
            doing,
            f"after wrong ones the next {WORDS[kind]} is looked at in {wait_seconds} s",
            f"wait that long; {left} tries are left",
            link="chip",
        )


def _nobody(doing: str, kind: Kind) -> UsageError:
    options = f"{_OPTIONS[kind]} FILE (- for standard input)"
    if kind == "password":
        options += f" or {_OPTIONS['recovery_key']} FILE"
    return UsageError(
        doing,
        f"its chip needs the {WORDS[kind]}, and nobody is there to be asked",
        f"give {options}",
    )
