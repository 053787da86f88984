"""The verbs. Each reads its words and calls what does the work; no logic of its own."""

from pathlib import Path

import click

from spacegray import spec as specs
from spacegray.cli import chip, disk, everyday, life, measuring, password, showing
from spacegray.cli.asking import Files, files_of
from spacegray.cli.options import (
    format_option,
    headless_option,
    image_format_option,
    mirror_option,
    name_argument,
    order_options,
    passphrase_option,
    recovery_key_option,
    start_options,
    unlock_options,
    user_password_option,
    yes_option,
)
from spacegray.errors import UsageError
from spacegray.workstation.api import STOP_SECONDS

LOG_KINDS = ("events", "serial", "chip", "qemu", "supervisor", "ssh")


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="NAME defaults to pro. `shell [NAME] -- COMMAND …` runs a command in the guest.",
)
def app() -> None:
    """A workstation in software, locked by its own security chip."""


app.add_command(chip.group)
app.add_command(password.group)
app.add_command(password.recovery_key)


@app.command()
@name_argument
@headless_option
@start_options
@order_options
@click.option(
    "--password-file",
    metavar="FILE",
    help="The first user's password, or what unlocks a workstation that exists; - for stdin.",
)
@passphrase_option
@recovery_key_option
def up(
    name: str,
    accel: str | None,
    timeout: float,
    headless: bool,
    yes: bool,
    password_file: str | None,
    passphrase_file: str | None,
    recovery_key_file: str | None,
    **order: str | None,
) -> None:
    """Create the workstation if there is none, power on, open its console."""
    files = Files(
        password=password_file, passphrase=passphrase_file, recovery_key=recovery_key_file
    )
    everyday.up(
        name,
        everyday.Order(**order, ask=not yes),
        files,
        accelerator=accel,
        timeout_seconds=timeout,
        headless=headless,
    )


@app.command()
@name_argument
@order_options
@user_password_option
@passphrase_option
def create(
    name: str,
    yes: bool,
    password_file: str | None,
    passphrase_file: str | None,
    **order: str | None,
) -> None:
    """Create a workstation: its system, its chip, its encrypted disk."""
    files = Files(password=password_file, passphrase=passphrase_file)
    everyday.create(name, everyday.Order(**order, ask=not yes), files)


@app.command()
@name_argument
@start_options
@unlock_options
def start(name: str, accel: str | None, timeout: float, **files: str | None) -> None:
    """Power on and wait until someone can log in."""
    everyday.start(name, files_of(files), accelerator=accel, timeout_seconds=timeout)


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
@unlock_options
def restart(name: str, accel: str | None, timeout: float, **files: str | None) -> None:
    """Shut down and power on again."""
    everyday.restart(name, files_of(files), accelerator=accel, timeout_seconds=timeout)


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
@unlock_options
def ssd_show(name: str, format_: str, **files: str | None) -> None:
    """What the SSD says of itself: room, wear, errors, health."""
    disk.show(name, files_of(files), as_json=format_ == "json")


@ssd.command("verify")
@name_argument
@format_option
@unlock_options
def ssd_verify(name: str, format_: str, **files: str | None) -> int:
    """Read and authenticate everything; exit status 1 where something is bad."""
    return disk.verify(name, files_of(files), as_json=format_ == "json")


@ssd.command("accept")
@name_argument
@unlock_options
def ssd_accept(name: str, **files: str | None) -> None:
    """Take an older disk, such as a backup that was put back, for the newest."""
    disk.accept(name, files_of(files))


@app.command("target-disk")
@name_argument
@click.option("--socket", metavar="PATH", required=True, help="The unix socket to be made.")
@unlock_options
def target_disk(name: str, socket: str, **files: str | None) -> None:
    """Serve the plain disk of a machine that is off over NBD, until Ctrl-C."""
    disk.target(name, Path(socket), files_of(files))


@app.command("export")
@name_argument
@click.argument("file")
@click.option(
    "--recovery",
    is_flag=True,
    help="Not the disk, but the bundle with which a new chip can take it over.",
)
@image_format_option
@yes_option
@unlock_options
def export_(
    name: str,
    file: str,
    recovery: bool,
    image_format: str | None,
    yes: bool,
    **files: str | None,
) -> None:
    """Copy the plain disk of a machine that is off into an image."""
    if recovery:
        _no_image(image_format)
        disk.export_recovery(name, Path(file), files_of(files), replace=yes)
    else:
        disk.export(name, Path(file), image_format, files_of(files), replace=yes)


@app.command("import")
@name_argument
@click.argument("file")
@click.option(
    "--recovery",
    is_flag=True,
    help="Not a disk, but the bundle from which a new chip takes over the one there is.",
)
@click.option(
    "--seal",
    type=click.Choice(specs.SEALS),
    help="With --recovery: what the new chip's keys are sealed with, if not as before.",
)
@image_format_option
@yes_option
@unlock_options
def import_(
    name: str,
    file: str,
    recovery: bool,
    seal: str | None,
    image_format: str | None,
    yes: bool,
    **files: str | None,
) -> None:
    """Put an image in place of all that is on the disk of a machine that is off."""
    if recovery:
        _no_image(image_format)
        disk.import_recovery(name, Path(file), files_of(files), seal=seal, replace=yes)
    elif seal is not None:
        raise click.UsageError("--seal belongs to --recovery")
    else:
        disk.import_(name, Path(file), image_format, files_of(files), ask=not yes)


@app.command()
@name_argument
@yes_option
@passphrase_option
@click.option("--receipt", metavar="FILE", help="Write what the chip signs about it there too.")
def erase(name: str, yes: bool, passphrase_file: str | None, receipt: str | None) -> None:
    """Make all that is on the disk unreadable, at once, the machine on or off."""
    life.erase(name, Files(passphrase=passphrase_file), receipt=receipt, ask=not yes)


@app.command()
@name_argument
@yes_option
@user_password_option
@passphrase_option
@mirror_option
def restore(
    name: str,
    yes: bool,
    password_file: str | None,
    passphrase_file: str | None,
    mirror: str | None,
) -> None:
    """Erase, and begin a new life: new keys, a new system, all data gone."""
    files = Files(password=password_file, passphrase=passphrase_file)
    life.restore(name, files, mirror=mirror, ask=not yes)


def _no_image(image_format: str | None) -> None:
    if image_format is not None:
        raise click.UsageError("--image-format does not belong to --recovery")


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


@bench.command("chip")
@click.option(
    "--runs", type=click.IntRange(1, 100), default=5, show_default=True, help="Rounds of each."
)
@format_option
def bench_chip(runs: int, format_: str) -> None:
    """What the chip costs a power-on, with each seal, and how long an erase takes."""
    measuring.chip(runs=runs, as_json=format_ == "json")


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
