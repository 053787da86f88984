"""The verbs of the password and the recovery key."""

import os
import sys

import click

from spacegray.chip.messages import Mode
from spacegray.cli import secret
from spacegray.cli.asking import Asker, Files
from spacegray.cli.interrupts import told_to_end
from spacegray.cli.options import (
    name_argument,
    passphrase_option,
    recovery_key_option,
    recovery_mode_option,
    unlock_options,
)
from spacegray.errors import SpacegrayError, UsageError
from spacegray.paths import Paths
from spacegray.workstation import known, passwords, ways_back
from spacegray.workstation.api import Workstation

_NEW = click.option(
    "--new-password-file",
    metavar="FILE",
    help="The new password; - for stdin. Else it is asked, twice.",
)


@click.group("password")
def group() -> None:
    """The password without which the disk does not open: docs/passwords.md."""


@group.command("set")
@name_argument
@click.option("--password-file", metavar="FILE", help="The same as --new-password-file.")
@_NEW
@passphrase_option
def set_(
    name: str,
    password_file: str | None,
    new_password_file: str | None,
    passphrase_file: str | None,
) -> None:
    """Set the first password."""
    if password_file is not None and new_password_file is not None:
        raise UsageError(
            "reading the command line", "two files for one new password", "give one of them"
        )
    files = Files(new_password=new_password_file or password_file, passphrase=passphrase_file)
    workstation = _find(name)
    passwords.set_(workstation, Asker(name, files))
    print(f"{name} has a password; from the next `start {name}` on it is asked for")
    if not known.read(workstation.at).recovery_key:
        print(f"if it is forgotten, all data is lost: {ways_back.advice(workstation.at)}")


@group.command()
@name_argument
@_NEW
@recovery_mode_option
@unlock_options
def change(
    name: str,
    password_file: str | None,
    new_password_file: str | None,
    recovery_key_file: str | None,
    passphrase_file: str | None,
    recovery_mode: bool,
) -> None:
    """Change it; the proof is the present one, or the recovery key where that is forgotten."""
    files = Files(
        password=password_file,
        new_password=new_password_file,
        recovery_key=recovery_key_file,
        passphrase=passphrase_file,
    )
    passwords.change(_find(name), Asker(name, files, mode=_mode(recovery_mode)))
    print(f"{name} has another password")


@group.command()
@name_argument
@recovery_mode_option
@unlock_options
def verify(
    name: str,
    password_file: str | None,
    recovery_key_file: str | None,
    passphrase_file: str | None,
    recovery_mode: bool,
) -> None:
    """See whether it is right; a wrong one counts as a try."""
    files = Files(
        password=password_file, recovery_key=recovery_key_file, passphrase=passphrase_file
    )
    passwords.verify(_find(name), Asker(name, files, mode=_mode(recovery_mode)))
    print("it is right")


@group.command()
@name_argument
@recovery_mode_option
@unlock_options
def remove(
    name: str,
    password_file: str | None,
    recovery_key_file: str | None,
    passphrase_file: str | None,
    recovery_mode: bool,
) -> None:
    """Have none any more: then the disk opens for whoever can start the machine."""
    files = Files(
        password=password_file, recovery_key=recovery_key_file, passphrase=passphrase_file
    )
    passwords.remove(_find(name), Asker(name, files, mode=_mode(recovery_mode)))
    print(f"{name} has no password any more")


@click.command("recovery-key")
@name_argument
@recovery_mode_option
@recovery_key_option
@passphrase_option
@click.option("--password-file", metavar="FILE", help="The password, if there is one; - for stdin.")
def recovery_key(
    name: str,
    password_file: str | None,
    recovery_key_file: str | None,
    passphrase_file: str | None,
    recovery_mode: bool,
) -> None:
    """Make a recovery key, in place of any other, and show it this once."""
    files = Files(
        password=password_file, recovery_key=recovery_key_file, passphrase=passphrase_file
    )
    asker = Asker(name, files, mode=_mode(recovery_mode))
    workstation, doing = _find(name), f"making a recovery key for {name}"
    secret.must_be_seen(doing)
    with told_to_end():
        reader = passwords.make_recovery_key(workstation, asker)
        try:
            seen = secret.show(reader)
        finally:
            os.close(reader)
    if not seen:
        raise SpacegrayError(
            doing,
            "standard output did not take it: the key was replaced, and nobody saw the new one",
            f"`recovery-key {name}` makes another",
        )
    # Not on standard output: there the key is alone, for whoever puts it into a file.
    print(
        f"it unlocks {name} where the password is forgotten, and is shown this once; one that was "
        f"made before unlocks nothing any more, but still opens the bundles made with it\n"
        f"`export --recovery {name} FILE` makes the bundle that a new chip needs beside it",
        file=sys.stderr,
    )


def _mode(recovery_mode: bool) -> Mode:
    return "recovery" if recovery_mode else "normal"


def _find(name: str) -> Workstation:
    return Workstation.find(Paths.current(), name)
