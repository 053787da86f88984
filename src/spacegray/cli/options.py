"""The words that several verbs share."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from spacegray import spec as specs
from spacegray.workstation import image
from spacegray.workstation.api import START_SECONDS

F = TypeVar("F", bound=Callable[..., Any])


def name_argument(function: F) -> F:
    """The workstation's name, `pro` where none is given."""
    return click.argument("name", default="pro")(function)


def order_options(function: F) -> F:
    """What `create` and `up` need to know of a workstation to be made."""
    for option in (
        click.option("--yes", "-y", is_flag=True, help="Ask nothing."),
        mirror_option,
        click.option("--spec", metavar="FILE", help="A spec (docs/spec.md); - for stdin."),
        click.option(
            "--seal",
            type=click.Choice(specs.SEALS),
            help="What the chip's keys are sealed with; else what the spec says, else keyfile.",
        ),
        click.option(
            "--edition", type=click.Choice(specs.EDITIONS), help="The operating system to build."
        ),
    ):
        function = option(function)
    return function


def mirror_option(function: F) -> F:
    """For everything that may have to build a system."""
    return click.option("--mirror", metavar="URL", help="The Debian archive to build from.")(
        function
    )


def user_password_option(function: F) -> F:
    """For everything that makes a system."""
    return click.option(
        "--password-file",
        metavar="FILE",
        help="The first user's password; - for stdin. Else it is asked or generated.",
    )(function)


def passphrase_option(function: F) -> F:
    """For a chip that is sealed with a passphrase."""
    return click.option(
        "--passphrase-file",
        metavar="FILE",
        help="The passphrase that the chip is sealed with; - for stdin. Else it is asked.",
    )(function)


def recovery_key_option(function: F) -> F:
    """For everything that the recovery key opens too."""
    return click.option(
        "--recovery-key-file",
        metavar="FILE",
        help="The recovery key, instead of the password; - for stdin.",
    )(function)


def disk_options(function: F) -> F:
    """For everything that opens the disk by other means than starting its own system."""
    return firmware_password_option(unlock_options(function))


def unlock_options(function: F) -> F:
    """For everything that unlocks the disk, or takes the same as proof."""
    option = click.option(
        "--password-file",
        metavar="FILE",
        help="The password that unlocks the disk; - for stdin. Else it is asked.",
    )
    return option(passphrase_option(recovery_key_option(function)))


def firmware_password_option(function: F) -> F:
    """For everything but starting the chosen startup disk."""
    return click.option(
        "--firmware-password-file",
        metavar="FILE",
        help="The firmware password, where one is set; - for stdin. Else it is asked.",
    )(function)


def recovery_mode_option(function: F) -> F:
    """For everything that takes a password as proof."""
    return click.option(
        "--recovery-mode",
        is_flag=True,
        help="Once the tries for the password are used up: ten more.",
    )(function)


def start_options(function: F) -> F:
    """How to power on."""
    function = click.option(
        "--timeout",
        type=click.FloatRange(min=0),
        default=START_SECONDS,
        show_default=True,
        metavar="SECONDS",
        help="Give up waiting after this long.",
    )(function)
    return click.option(
        "--accel",
        type=click.Choice(("kvm", "tcg")),
        help="Force an accelerator; else KVM where it works.",
    )(function)


def output_option(help_: str) -> Callable[[F], F]:
    """For everything that may be written to a file, which comes as `file`."""
    return click.option("--output", "file", metavar="FILE", callback=_to_file, help=help_)


def _to_file(_: click.Context, __: click.Parameter, word: str | None) -> str | None:
    # An empty path would be the folder one is in.
    if word == "":
        raise click.BadParameter("'' names no file; - is standard output")
    return word


def format_option(function: F) -> F:
    """For everything that shows something."""
    return click.option(
        "--format",
        "format_",
        type=click.Choice(("table", "json")),
        default="table",
        help="Table or JSON.",
    )(function)


def yes_option(function: F) -> F:
    """For everything that would ask before it destroys something."""
    return click.option("--yes", "-y", is_flag=True, help="Ask nothing.")(function)


def image_format_option(function: F) -> F:
    """For disk images."""
    return click.option(
        "--image-format",
        type=click.Choice(image.FORMATS),
        help="The image's format; else the one that its name ends in, else raw.",
    )(function)


def headless_option(function: F) -> F:
    """For everything that would open a browser."""
    return click.option("--headless", is_flag=True, help="Do not open a browser.")(function)
