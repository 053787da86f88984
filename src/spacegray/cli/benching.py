"""The words of `bench`; what measures and tells is in `measuring`."""

import click

from spacegray import spec as specs
from spacegray.cli import measuring
from spacegray.cli.options import format_option


@click.group("bench")
def group() -> None:
    """Measure, side by side with a peer."""


@group.command()
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


@group.command("chip")
@click.option(
    "--runs", type=click.IntRange(1, 100), default=5, show_default=True, help="Rounds of each."
)
@format_option
def chip(runs: int, format_: str) -> None:
    """What the chip costs a power-on, with each seal, and how long an erase takes."""
    measuring.chip(runs=runs, as_json=format_ == "json")


@group.command("ssd")
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
def ssd(
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
