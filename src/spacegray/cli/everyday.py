"""The everyday verbs: up, create, start, stop, restart, delete, open."""

import getpass
import os
import secrets
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from spacegray import host
from spacegray import spec as specs
from spacegray.cli.output import Bars, event_line
from spacegray.console import launch as consoles
from spacegray.errors import UsageError
from spacegray.paths import Paths
from spacegray.workstation import create as creation
from spacegray.workstation.api import Workstation
from spacegray.workstation.events import Event

PASSWORD_LIMIT_BYTES = 1024
PASSWORD_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"
"""No letters that look like others: it is read off one screen and typed at another."""
PASSWORD_GROUPS, PASSWORD_GROUP_LENGTH = 4, 4
"""16 of 31 characters: 79 bits."""


@dataclass(frozen=True)
class Order:
    """What the command line says about a workstation to be created."""

    edition: str | None
    spec: str | None
    mirror: str | None
    password_file: str | None
    ask: bool

    def resolve(self) -> specs.Spec:
        """The spec: the file's if one is given, the edition's option over it."""
        fields = {} if self.edition is None else {"edition": str(self.edition)}
        if self.spec is None:
            return specs.build(fields, source="of the command line")
        if self.spec == "-":
            base = specs.parse(sys.stdin.read(specs.SPEC_LIMIT_BYTES), source="standard input")
        else:
            base = specs.load(Path(self.spec))
        return specs.replace(base, fields)


def up(
    name: str, order: Order, *, accelerator: str | None, timeout_seconds: float, headless: bool
) -> None:
    """Create what is absent, start what is off, print the console's address and open it."""
    paths = Paths.current()
    existing = name in Workstation.names(paths)
    if existing:
        _must_match(Workstation.find(paths, name), order)
    elif (password := _create(paths, name, order)) is not None:
        print(password, flush=True)
    start(name, accelerator=accelerator, timeout_seconds=timeout_seconds)
    open_console(name, headless=headless)


def create(name: str, order: Order) -> None:
    """Create a workstation; one that exists is an error."""
    paths = Paths.current()
    if name in Workstation.names(paths):
        raise UsageError(
            f"creating {name}", "it exists already", f"`start {name}`, or choose another name"
        )
    password = _create(paths, name, order)
    print(f"{name} is created; `start {name}` powers it on")
    if password is not None:
        print(password)


def start(name: str, *, accelerator: str | None, timeout_seconds: float) -> None:
    """Power on, telling each link of the boot chain as it is passed."""
    workstation = Workstation.find(Paths.current(), name)
    if workstation.record().state == "running":
        print(f"{name} is running already")
        return
    with Bars() as bars:
        workstation.start(
            accelerator=accelerator,
            timeout_seconds=timeout_seconds,
            progress=bars,
            on_event=lambda event: _tell(bars, event),
        )
    print(f"{name} is running; `shell {name}` logs in")


def stop(name: str, *, timeout_seconds: float) -> None:
    """Shut down."""
    workstation = Workstation.find(Paths.current(), name)
    was_on = workstation.stop(timeout_seconds=timeout_seconds)
    print(f"{name} is off" if was_on else f"{name} was off already")


def restart(name: str, *, accelerator: str | None, timeout_seconds: float) -> None:
    """Shut down and power on again."""
    Workstation.find(Paths.current(), name).stop()
    start(name, accelerator=accelerator, timeout_seconds=timeout_seconds)


def delete(name: str, *, ask: bool) -> None:
    """Remove a workstation for good."""
    workstation = Workstation.find(Paths.current(), name)
    if ask and not confirmed(
        f"deleting {name}",
        "this destroys its disk and its keys",
        f"Delete {name}, its disk and its keys, for good? Type its name: ",
        name,
    ):
        print("nothing was deleted")
        return
    workstation.delete()
    print(f"{name} is deleted")


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


def _create(paths: Paths, name: str, order: Order) -> str | None:
    """Create; returns what is to be shown once about the password, if it was generated."""
    paths.workstation(name)
    spec = order.resolve()
    password, generated = _password(order, spec.user)
    mirror = order.mirror or host.mirror()
    with Bars() as bars:
        created = creation.create(
            paths,
            name,
            spec,
            mirror=mirror,
            password_hash=creation.hash_password(password),
            progress=bars,
        )
    if not created or not generated:
        return None
    return f"User {spec.user}, password {password.decode()} (shown this once)"


def _password(order: Order, user: str) -> tuple[bytes, bool]:
    """The first user's password, and whether it was generated."""
    if order.password_file is not None:
        return _password_from(order.password_file), False
    if order.ask and sys.stdin.isatty():
        first = getpass.getpass(f"Password for the user {user} (empty: one is generated): ")
        if first:
            if getpass.getpass("Once more: ") != first:
                raise UsageError("setting the password", "the two differ", "try again")
            return first.encode(), False
    groups = (
        "".join(secrets.choice(PASSWORD_ALPHABET) for _ in range(PASSWORD_GROUP_LENGTH))
        for _ in range(PASSWORD_GROUPS)
    )
    return "-".join(groups).encode(), True


def _password_from(source: str) -> bytes:
    try:
        if source == "-":
            content = sys.stdin.buffer.read(PASSWORD_LIMIT_BYTES + 1)
        else:
            with Path(source).open("rb") as file:
                content = file.read(PASSWORD_LIMIT_BYTES + 1)
    except OSError as error:
        raise UsageError(
            f"reading the password from {source}", error.strerror, "give a readable file"
        ) from None
    password = content.split(b"\n")[0]
    if not password or len(content) > PASSWORD_LIMIT_BYTES or b"\0" in password:
        raise UsageError(
            f"reading the password from {source}",
            f"its first line is no password of 1 to {PASSWORD_LIMIT_BYTES} bytes",
            "give a file that has the password in its first line",
        )
    return password


def _must_match(workstation: Workstation, order: Order) -> None:
    """Options that only creating can follow are not silently ignored."""
    has, wants = workstation.spec.edition, order.edition
    if (wants is not None and wants != has) or (
        order.spec is not None and order.resolve() != workstation.spec
    ):
        raise UsageError(
            f"starting {workstation.name}",
            f"it exists with another spec (edition {has})",
            "leave the options away, choose another name, or `delete` it first",
        )


def _tell(bars: Bars, event: Event) -> None:
    line = event_line(event)
    if line is not None:
        bars.note(line)
