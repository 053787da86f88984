"""The everyday verbs: up, create, start, stop, restart, delete, open."""

import contextlib
import os
import secrets
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from spacegray import host
from spacegray import spec as specs
from spacegray.catalog import order as ordering
from spacegray.cli import secret
from spacegray.cli.asking import Asker, Files
from spacegray.cli.output import Bars, event_line
from spacegray.console import launch as consoles
from spacegray.errors import SpacegrayError, UsageError
from spacegray.links import Target
from spacegray.paths import Paths
from spacegray.workstation import create as creation
from spacegray.workstation import hold, jobs, ways_back
from spacegray.workstation.api import Workstation
from spacegray.workstation.events import Event

PASSWORD_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"
"""No letters that look like others: it is read off one screen and typed at another."""
PASSWORD_GROUPS, PASSWORD_GROUP_LENGTH = 4, 4
"""16 of 31 characters: 79 bits."""


@dataclass(frozen=True)
class Order:
    """What the command line says about a workstation to be created."""

    edition: str | None
    seal: str | None
    spec: str | None
    mirror: str | None
    ask: bool

    def resolve(self) -> specs.Spec:
        """The spec: the file's if one is given, the single options over it.

        Raises UsageError where it is wrong, or bears a day on which it could not be ordered.
        """
        fields = {
            name: value
            for name, value in (("edition", self.edition), ("seal", self.seal))
            if value is not None
        }
        if self.spec is None:
            return specs.build(fields, source="of the command line")
        if self.spec == "-":
            source = "standard input"
            base = specs.parse(sys.stdin.read(specs.SPEC_LIMIT_BYTES), source=source)
        else:
            source = self.spec
            base = specs.load(Path(source))
        ordering.check(base, source=source)
        return specs.replace(base, fields)


def up(
    name: str,
    order: Order,
    files: Files,
    *,
    accelerator: str | None,
    timeout_seconds: float,
    headless: bool,
) -> None:
    """Create what is absent, start what is off, print the console's address and open it."""
    paths = Paths.current()
    asker = Asker(name, files, ask=order.ask)
    if name in Workstation.names(paths):
        _must_match(Workstation.find(paths, name), order)
    elif (password := _create(paths, name, order, files.password, asker)) is not None:
        print(password, flush=True)
    _start(name, asker, accelerator=accelerator, timeout_seconds=timeout_seconds)
    open_console(name, headless=headless)


def create(name: str, order: Order, files: Files) -> None:
    """Create a workstation; one that exists is an error."""
    paths = Paths.current()
    if name in Workstation.names(paths):
        raise UsageError(
            f"creating {name}", "it exists already", f"`start {name}`, or choose another name"
        )
    asker = Asker(name, files, ask=order.ask)
    password = _create(paths, name, order, files.password, asker)
    print(f"{name} is created; `start {name}` powers it on")
    if password is not None:
        print(password)


def start(
    name: str,
    files: Files,
    *,
    accelerator: str | None,
    timeout_seconds: float,
    external: Path | None = None,
    from_external: bool = False,
) -> None:
    """Power on, telling each link of the boot chain as it is passed.

    `external` is the image of a disk to be plugged in: while the system runs, or with
    `from_external` before, to be started from.
    """
    _start(
        name,
        Asker(name, files),
        accelerator=accelerator,
        timeout_seconds=timeout_seconds,
        external=external,
        target="external" if from_external else None,
    )


def _start(
    name: str,
    asker: Asker,
    *,
    accelerator: str | None,
    timeout_seconds: float,
    external: Path | None = None,
    target: Target | None = None,
) -> None:
    workstation = Workstation.find(Paths.current(), name)
    state = workstation.record().state
    if state == "recovery":
        raise SpacegrayError(f"starting {name}", "it is in recovery", f"`restart {name}` leaves it")
    if state == "running":
        if external is not None:
            raise SpacegrayError(f"starting {name}", "it is running", f"`stop {name}` first")
        print(f"{name} is running already")
        return
    with Bars() as bars:
        asker.pause = bars.paused
        workstation.start(
            target=target,
            external=external,
            owner=asker,
            accelerator=accelerator,
            timeout_seconds=timeout_seconds,
            progress=bars,
            on_event=lambda event: tell(bars, event),
        )
    match workstation.record().target:
        case "external":
            print(f"{name} is running from {external}; `open {name}` shows its screen")
        case "other":
            print(f"{name} is running another system; `open {name}` shows its screen")
        case _:
            print(f"{name} is running; `shell {name}` logs in")


def stop(name: str, *, timeout_seconds: float) -> None:
    """Shut down."""
    workstation = Workstation.find(Paths.current(), name)
    was_on = workstation.stop(timeout_seconds=timeout_seconds)
    print(f"{name} is off" if was_on else f"{name} was off already")


def restart(name: str, files: Files, *, accelerator: str | None, timeout_seconds: float) -> None:
    """Shut down and power on again; not where it could not be unlocked again."""
    workstation = Workstation.find(Paths.current(), name)
    asker = Asker(name, files)
    asker.must_have(f"restarting {name}", hold.needs(workstation))
    workstation.stop()
    _start(name, asker, accelerator=accelerator, timeout_seconds=timeout_seconds)


def delete(name: str, *, ask: bool) -> None:
    """Remove a workstation for good."""
    workstation = Workstation.to_delete(Paths.current(), name)
    if ask and not confirmed(
        f"deleting {name}",
        "this destroys its disk and its keys",
        f"Delete {name}, its disk and its keys, for good? Type its name: ",
        name,
    ):
        print("nothing was deleted")
        return
    seal = creation.seal_of(workstation.at)
    destroyed = workstation.delete()
    print(f"{name} is deleted")
    if not destroyed and seal == "tpm2":
        print("the TPM could not be reached: what it keeps for that chip, useless now, stays there")


def confirmed(doing: str, harm: str, question: str, name: str) -> bool:
    """Whether somebody typed the name; raises UsageError where nobody is there to be asked."""
    if not sys.stdin.isatty():
        raise UsageError(doing, f"{harm}, and nobody is there to confirm", "give --yes")
    return input(question).strip() == name


def open_console(name: str, *, headless: bool) -> None:
    """Print the console's one-time address, and open it where there is a browser."""
    paths = Paths.current()
    Workstation.find(paths, name)
    with Bars() as bars:
        address = consoles.ensure(paths, name, progress=bars)
    print(f"Console: {address}", flush=True)
    opener = shutil.which("xdg-open")
    has_display = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if not headless and opener and has_display:
        subprocess.Popen(
            [opener, address],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )


def first_user(source: str | None, user: str, *, ask: bool) -> tuple[str, str | None]:
    """The hash of the first user's password; and, if that was generated, what to show of it."""
    if source is not None:
        with secret.read(source, "password") as given:
            return _hash(given), None
    if ask and sys.stdin.isatty():
        with secret.ask(f"Password for the user {user} (empty: one is generated): ") as first:
            if first.length_bytes > 0:
                with secret.ask("Once more: ") as second:
                    if not first.same_as(second):
                        raise UsageError("setting the password", "the two differ", "try again")
                return _hash(first), None
    password = generated()
    reader, writer = os.pipe2(os.O_CLOEXEC)
    with open(writer, "wb") as pipe:
        pipe.write(password.encode())
    with secret.Secret(reader) as made:
        return _hash(made), f"User {user}, password {password} (shown this once)"


def generated() -> str:
    """A password of the house's own making."""
    groups = (
        "".join(secrets.choice(PASSWORD_ALPHABET) for _ in range(PASSWORD_GROUP_LENGTH))
        for _ in range(PASSWORD_GROUPS)
    )
    return "-".join(groups)


def _hash(password: secret.Secret) -> str:
    copy = password.copy()
    try:
        return creation.hash_password(copy)
    finally:
        os.close(copy)


def _create(
    paths: Paths, name: str, order: Order, password_file: str | None, asker: Asker
) -> str | None:
    """Create; returns what is to be shown once about the password, if it was generated."""
    at = paths.workstation(name)
    spec = order.resolve()
    password_hash, shown = first_user(password_file, spec.user, ask=order.ask)
    mirror = order.mirror or host.mirror()
    with contextlib.ExitStack() as kept, Bars() as bars:
        asker.pause = bars.paused
        passphrase: int | None = None
        if spec.seal == "passphrase":
            new = kept.enter_context(asker.new(f"creating {name}", "passphrase"))
            passphrase = new.descriptor
        created = creation.create(
            paths,
            name,
            spec,
            mirror=mirror,
            password_hash=password_hash,
            passphrase=passphrase,
            progress=bars,
        )
    if not created:
        return None
    print(ways_back.advice(at))
    return shown


def _must_match(workstation: Workstation, order: Order) -> None:
    """Options that only creating can follow are not silently ignored.

    What was exchanged on the repair bench since is: the order is the machine's all the same.
    """
    name, has = workstation.name, workstation.spec
    if order.spec is not None:
        wants = order.resolve()
    else:
        given = {"edition": order.edition, "seal": order.seal}
        wants = specs.replace(has, {key: value for key, value in given.items() if value})
    differing = {
        field: f"{field} is {getattr(has, field)}, not {getattr(wants, field)}"
        for field in has.__struct_fields__
        if getattr(has, field) != getattr(wants, field)
    }
    # A machine that was changed may bear no day any more.
    passed_over = (*jobs.EXCHANGED, "ordered")
    other = [said for field, said in differing.items() if field not in passed_over]
    if other:
        raise UsageError(
            f"starting {name}",
            f"it exists with another spec: {'; '.join(other)}",
            "leave the options away, choose another name, or `delete` it first",
        )
    exchanged = [said for field, said in differing.items() if field in jobs.EXCHANGED]
    if exchanged:
        print(f"{name} stays as it is: {'; '.join(exchanged)} (`service do` changes that)")


def tell(bars: Bars, event: Event) -> None:
    """Show one event as it comes, where there is something to say."""
    line = event_line(event)
    if line is not None:
        bars.note(line)
