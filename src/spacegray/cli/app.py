"""The verbs. Each reads its words and calls what does the work; no logic of its own."""

from pathlib import Path

import click

from spacegray import spec as specs
from spacegray.cli import (
    benching,
    booting,
    catalog,
    chip,
    disk,
    everyday,
    life,
    ordering,
    password,
    security,
    service,
    showing,
)
from spacegray.cli.asking import Files, files_of
from spacegray.cli.options import (
    disk_options,
    firmware_password_option,
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
app.add_command(security.group)
app.add_command(service.group)
app.add_command(benching.group)
app.add_command(ordering.order)
app.add_command(catalog.group)


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
@click.option(
    "--external",
    metavar="FILE",
    help="The raw image of a disk to be plugged in (USB) once the system runs.",
)
@click.option(
    "--from-external",
    is_flag=True,
    help="Plug it in before, and start from it: where that is allowed (`security show`).",
)
@disk_options
def start(
    name: str,
    accel: str | None,
    timeout: float,
    external: str | None,
    from_external: bool,
    **files: str | None,
) -> None:
    """Power on and wait until someone can log in."""
    if from_external and external is None:
        raise click.UsageError("--from-external needs --external FILE")
    everyday.start(
        name,
        files_of(files),
        accelerator=accel,
        timeout_seconds=timeout,
        external=None if external is None else Path(external).absolute(),
        from_external=from_external,
    )


@app.command()
@name_argument
@click.option("--headless", is_flag=True, help="Only start it; do not show it here.")
@start_options
@firmware_password_option
@passphrase_option
def recovery(
    name: str, headless: bool, accel: str | None, timeout: float, **files: str | None
) -> None:
    """Start recovery: settings, a forgotten password, repair. On a terminal, Ctrl-] leaves."""
    booting.recovery(
        name, files_of(files), accelerator=accel, timeout_seconds=timeout, headless=headless
    )


@app.command()
@name_argument
@mirror_option
@start_options
@disk_options
def update(
    name: str, mirror: str | None, accel: str | None, timeout: float, **files: str | None
) -> None:
    """Build the newest system, try it beside the old, go back by itself if it fails."""
    booting.update(name, files_of(files), mirror=mirror, accelerator=accel, timeout_seconds=timeout)


@app.command()
@name_argument
@mirror_option
@disk_options
def reinstall(name: str, mirror: str | None, **files: str | None) -> None:
    """Put the system onto the disk anew; the user's data stay."""
    booting.reinstall(name, files_of(files), mirror=mirror)


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
@click.option("--boot", is_flag=True, help="The chain of the last start, link by link.")
@format_option
def logs(name: str, follow: bool, kind: str, boot: bool, format_: str) -> None:
    """What happened: the boot chain link by link, and every change of state."""
    if boot:
        if follow or kind != "events":
            raise click.UsageError("--boot goes with neither --follow nor --kind")
        booting.boot_log(name, as_json=format_ == "json")
        return
    showing.logs(name, kind=kind, follow=follow, as_json=format_ == "json")


@app.group()
def ssd() -> None:
    """The SSD: what it says of itself, and whether all of it is sound."""


@ssd.command("show")
@name_argument
@format_option
@disk_options
def ssd_show(name: str, format_: str, **files: str | None) -> None:
    """What the SSD says of itself: room, wear, errors, health."""
    disk.show(name, files_of(files), as_json=format_ == "json")


@ssd.command("verify")
@name_argument
@format_option
@disk_options
def ssd_verify(name: str, format_: str, **files: str | None) -> int:
    """Read and authenticate everything; exit status 1 where something is bad."""
    return disk.verify(name, files_of(files), as_json=format_ == "json")


@ssd.command("accept")
@name_argument
@disk_options
def ssd_accept(name: str, **files: str | None) -> None:
    """Take an older disk, such as a backup that was put back, for the newest."""
    disk.accept(name, files_of(files))


@app.command("target-disk")
@name_argument
@click.option("--socket", metavar="PATH", required=True, help="The unix socket to be made.")
@disk_options
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
@disk_options
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
@click.option(
    "--mirror",
    metavar="URL",
    help="With --recovery: the Debian archive, where its system has to be built anew.",
)
@image_format_option
@yes_option
@disk_options
def import_(
    name: str,
    file: str,
    recovery: bool,
    seal: str | None,
    mirror: str | None,
    image_format: str | None,
    yes: bool,
    **files: str | None,
) -> None:
    """Put an image in place of all that is on the disk of a machine that is off."""
    if recovery:
        _no_image(image_format)
        disk.import_recovery(
            name, Path(file), files_of(files), mirror=mirror, seal=seal, replace=yes
        )
    elif seal is not None or mirror is not None:
        option = "--seal" if seal is not None else "--mirror"
        raise click.UsageError(f"{option} belongs to --recovery")
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
