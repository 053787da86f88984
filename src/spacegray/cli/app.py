"""The verbs. Each reads its words and calls what does the work; no logic of its own."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from spacegray import spec as specs
from spacegray.cli import disk, everyday, measuring, showing
from spacegray.errors import UsageError
from spacegray.workstation import image
from spacegray.workstation.api import START_SECONDS, STOP_SECONDS

F = TypeVar("F", bound=Callable[..., Any])

LOG_KINDS = ("events", "serial", "chip", "qemu", "supervisor", "ssh")


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="NAME defaults to pro. `shell [NAME] -- COMMAND …` runs a command in the guest.",
)
def app() -> None:
    """A workstation in software, locked by its own security chip."""


def name_argument(function: F) -> F:
    """The workstation's name, `pro` where none is given."""
    return click.argument("name", default="pro")(function)


def order_options(function: F) -> F:
    """What `create` and `up` need to know of a workstation to be made."""
    for option in (
        click.option("--yes", "-y", is_flag=True, help="Ask nothing."),
        click.option(
            "--password-file",
            metavar="FILE",
            help="The first user's password; - for stdin. Else it is asked or generated.",
        ),
        click.option("--mirror", metavar="URL", help="The Debian archive to build from."),
        click.option("--spec", metavar="FILE", help="A spec (docs/spec.md); - for stdin."),
        click.option(
            "--edition", type=click.Choice(specs.EDITIONS), help="The operating system to build."
        ),
    ):
        function = option(function)
    return function


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


@app.command()
@name_argument
@headless_option
@start_options
@order_options
def up(
    name: str,
    accel: str | None,
    timeout: float,
    headless: bool,
    yes: bool,
    **order: str | None,
) -> None:
    """Create the workstation if there is none, power on, open its console."""
    everyday.up(
        name,
        everyday.Order(**order, ask=not yes),
        accelerator=accel,
        timeout_seconds=timeout,
        headless=headless,
    )


@app.command()
@name_argument
@order_options
def create(name: str, yes: bool, **order: str | None) -> None:
    """Create a workstation: its system, its chip, its encrypted disk."""
    everyday.create(name, everyday.Order(**order, ask=not yes))


@app.command()
@name_argument
@start_options
def start(name: str, accel: str | None, timeout: float) -> None:
    """Power on and wait until someone can log in."""
    everyday.start(name, accelerator=accel, timeout_seconds=timeout)


@app.command()
@name_argument
@click.option(
    "--timeout",
    type=click.FloatRange(min=0),
    default=STOP_SECONDS,
    show_default=True,
    metavar="SECONDS",
    help="Cut the power after this long.",
)
def stop(name: str, timeout: float) -> None:
    """Shut down."""
    everyday.stop(name, timeout_seconds=timeout)


@app.command()
@name_argument
@start_options
def restart(name: str, accel: str | None, timeout: float) -> None:
    """Shut down and power on again."""
    everyday.restart(name, accelerator=accel, timeout_seconds=timeout)


@app.command()
@name_argument
@yes_option
def delete(name: str, yes: bool) -> None:
    """Remove a workstation with its disk, its keys and all that was on it."""
    everyday.delete(name, ask=not yes)


@app.command("open")
@name_argument
@headless_option
def open_(name: str, headless: bool) -> None:
    """Open the console in a browser; prints its one-time address."""
    everyday.open_console(name, headless=headless)


@app.command()
def shell() -> None:
    """A shell in the guest, or a command: shell [NAME] -- COMMAND …"""
    raise UsageError("opening a shell", "shell must be the first word", "see `shell --help`")


@app.command("list")
@format_option
def list_(format_: str) -> None:
    """All workstations."""
    showing.list_(as_json=format_ == "json")


@app.command()
@name_argument
@format_option
def show(name: str, format_: str) -> None:
    """All there is to know: as ordered and as given, the boot chain, the disk."""
    showing.show(name, as_json=format_ == "json")


@app.command()
@name_argument
@click.option("--follow", "-f", is_flag=True, help="Go on with what comes.")
@click.option(
    "--kind",
    type=click.Choice(LOG_KINDS),
    default="events",
    show_default=True,
    help="The event log, or a raw log of the last start.",
)
@format_option
def logs(name: str, follow: bool, kind: str, format_: str) -> None:
    """What happened: the boot chain link by link, and every change of state."""
    showing.logs(name, kind=kind, follow=follow, as_json=format_ == "json")


@app.group()
def ssd() -> None:
    """The SSD: what it says of itself, and whether all of it is sound."""


@ssd.command("show")
@name_argument
@format_option
def ssd_show(name: str, format_: str) -> None:
    """What the SSD says of itself: room, wear, errors, health."""
    disk.show(name, as_json=format_ == "json")


@ssd.command("verify")
@name_argument
@format_option
def ssd_verify(name: str, format_: str) -> int:
    """Read and authenticate everything; exit status 1 where something is bad."""
    return disk.verify(name, as_json=format_ == "json")


@app.command("target-disk")
@name_argument
@click.option("--socket", metavar="PATH", required=True, help="The unix socket to be made.")
def target_disk(name: str, socket: str) -> None:
    """Serve the plain disk of a machine that is off over NBD, until Ctrl-C."""
    disk.target(name, Path(socket))


@app.command("export")
@name_argument
@click.argument("file")
@image_format_option
@yes_option
def export_(name: str, file: str, image_format: str | None, yes: bool) -> None:
    """Copy the plain disk of a machine that is off into an image."""
    disk.export(name, Path(file), image_format, replace=yes)


@app.command("import")
@name_argument
@click.argument("file")
@image_format_option
@yes_option
def import_(name: str, file: str, image_format: str | None, yes: bool) -> None:
    """Put an image in place of all that is on the disk of a machine that is off."""
    disk.import_(name, Path(file), image_format, ask=not yes)


@app.command()
@name_argument
@yes_option
def erase(name: str, yes: bool) -> None:
    """Make all that is on the disk unreadable, at once; what is left is an empty disk."""
    disk.erase(name, ask=not yes)


@app.command()
@format_option
def doctor(format_: str) -> None:
    """What this host has and lacks, and what that means."""
    showing.doctor(as_json=format_ == "json")


@app.group()
def bench() -> None:
    """Measure, side by side with a peer."""


@bench.command()
@click.option("--edition", type=click.Choice(specs.EDITIONS), default="base", show_default=True)
@click.option(
    "--runs", type=click.IntRange(1, 100), default=3, show_default=True, help="Starts of each."
)
@click.option("--accel", type=click.Choice(("kvm", "tcg")), help="Force an accelerator.")
@click.option("--mirror", metavar="URL", help="The Debian archive to build from.")
@format_option
def boot(edition: str, runs: int, accel: str | None, mirror: str | None, format_: str) -> None:
    """Power-on to login, with the chip and without, in turns."""
    measuring.boot(edition, runs=runs, accel=accel, mirror=mirror, as_json=format_ == "json")


@bench.command("ssd")
@click.option(
    "--runs", type=click.IntRange(1, 100), default=5, show_default=True, help="Rounds of each."
)
@click.option(
    "--folder",
    "folders",
    multiple=True,
    metavar="DIR",
    help="Measure here (may be repeated); else on tmpfs and where the state lies.",
)
@click.option("--aged", is_flag=True, help="Also a disk overwritten at random, against a new one.")
@click.option("--beyond", is_flag=True, help="Also more than the index cache covers.")
@click.option("--guest", is_flag=True, help="Also as a guest sees it, over vhost-user-blk.")
@click.option("--quick", is_flag=True, help="One short round on small images: for a try.")
@format_option
def bench_ssd(
    runs: int,
    folders: tuple[str, ...],
    aged: bool,
    beyond: bool,
    guest: bool,
    quick: bool,
    format_: str,
) -> None:
    """The disk's speed beside servers without its protection, in turns."""
    measuring.ssd(
        runs=runs,
        quick=quick,
        folders=folders,
        aged=aged,
        beyond=beyond,
        guest=guest,
        as_json=format_ == "json",
    )


def run(words: list[str]) -> int:
    """Run one verb; returns the exit status. Wrong usage raises UsageError."""
    try:
        status = app.main(words, prog_name="spacegray", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.format_message())
        return UsageError.exit_status
    except click.UsageError as error:
        where = error.ctx.command_path if error.ctx else "spacegray"
        raise UsageError(
            f"reading the command line of {where}",
            error.format_message().rstrip("."),
            f"see `{where} --help`",
        ) from None
    except click.Abort:
        raise KeyboardInterrupt from None
    return status if isinstance(status, int) else 0
