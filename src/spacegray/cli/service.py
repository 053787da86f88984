"""The verbs of the repair bench: what is done to a machine, by whom, and the record of it."""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click
import msgspec

from spacegray import host
from spacegray import spec as specs
from spacegray.cli import everyday, output, writing
from spacegray.cli.asking import Asker, files_of
from spacegray.cli.interrupts import told_to_end
from spacegray.cli.options import (
    disk_options,
    format_option,
    mirror_option,
    name_argument,
    passphrase_option,
    unlock_options,
    yes_option,
)
from spacegray.cli.planning import parts, plan
from spacegray.errors import UsageError
from spacegray.paths import Paths
from spacegray.service import history as histories
from spacegray.service import orders, providers
from spacegray.service.jobs import bench, logic_board, words
from spacegray.workstation import jobs
from spacegray.workstation.api import Workstation
from spacegray.workstation.jobs import Job

F = TypeVar("F", bound=Callable[..., Any])

_FINGERPRINT_DIGITS: Final = 16
"""How much of a fingerprint a table shows; JSON has all of it."""


@click.group("service")
def group() -> None:
    """The repair bench: what a repair takes, doing it, and the record of it (docs/service.md)."""


group.add_command(plan)
group.add_command(parts)


@group.group("do")
def do() -> None:
    """Do a job on a machine that is off; its chip signs an entry of the record for it."""


def _inside(function: F) -> F:
    """For every job inside the machine."""
    for option in (
        yes_option,
        click.option(
            "--open-the-machine",
            is_flag=True,
            help="Do it yourself, without a provider: the record will say so.",
        ),
        click.option("--work-order", metavar="FILE", help="An authorised provider's work order."),
    ):
        function = option(function)
    return function


@do.command()
@name_argument
@click.option(
    "--memory-gb", type=click.Choice(jobs.VALUES["memory"]), required=True, help="How much."
)
@_inside
@unlock_options
def memory(name: str, memory_gb: str, **rest: Any) -> None:
    """Exchange the memory."""
    _do(name, Job("memory", memory_gb), **rest)


@do.command()
@name_argument
@click.option(
    "--cores", type=click.Choice(jobs.VALUES["processor"]), required=True, help="Of how many."
)
@_inside
@unlock_options
def processor(name: str, cores: str, **rest: Any) -> None:
    """Exchange the processor."""
    _do(name, Job("processor", cores), **rest)


@do.command()
@name_argument
@click.option("--module", type=click.Choice(jobs.VALUES["ssd"]), required=True, help="Which.")
@_inside
@unlock_options
def ssd(name: str, module: str, **rest: Any) -> None:
    """Exchange SSD modules: all data lost, and no start until `restore`."""
    _do(name, Job("ssd", module), **rest)
    print(f"`restore {name}` pairs what is new with the chip and makes a new system")


@do.command("vesa-mount")
@name_argument
@yes_option
@unlock_options
def vesa_mount(name: str, yes: bool, **files: str | None) -> None:
    """Take it off its stand and put it on the VESA mount."""
    _do(name, Job("vesa-mount"), yes=yes, work_order=None, open_the_machine=True, **files)


@do.command()
@name_argument
@yes_option
@unlock_options
def stand(name: str, yes: bool, **files: str | None) -> None:
    """Take it off the VESA mount and put it on its stand."""
    _do(name, Job("stand"), yes=yes, work_order=None, open_the_machine=True, **files)


@do.command("logic-board")
@name_argument
@_inside
@disk_options
@mirror_option
@click.option(
    "--user-password-file",
    metavar="FILE",
    help="The new system's first user's password; - for stdin. Else it is asked or generated.",
)
@click.option("--backup", metavar="FILE", help="Copy the plain disk into this image before.")
def logic_board_(
    name: str,
    yes: bool,
    work_order: str | None,
    open_the_machine: bool,
    backup: str | None,
    user_password_file: str | None,
    mirror: str | None,
    **files: str | None,
) -> None:
    """Exchange logic board and chip: all data lost, a new system made."""
    to = None if backup is None else Path(backup)
    job = logic_board.JOB
    paths, workstation = _found(name, job)
    order = _order(name, job, work_order, open_the_machine)
    if not _agreed(workstation, job, ask=not yes):
        return
    user = workstation.spec.user
    password_hash, shown = everyday.first_user(user_password_file, user, ask=not yes)
    with told_to_end(), output.Bars() as bars:
        asker = Asker(name, files_of(files), ask=not yes, pause=bars.paused)
        ecid = logic_board.perform(
            paths,
            workstation,
            asker,
            order=order,
            mirror=mirror or host.mirror(),
            password_hash=password_hash,
            progress=bars,
            backup=to,
            replace=yes,
        )
    print(f"{name} has a new logic board with a new chip, ECID {ecid}, without a password")
    print(f"`start {name}` powers it on; the service record goes on")
    if backup is not None:
        print(f"`import {name} {backup}` brings the disk back")
    if shown is not None:
        print(shown)


@group.command()
@name_argument
@format_option
@passphrase_option
def history(name: str, format_: str, **files: str | None) -> int:
    """What was done to it, verified; exit status 1 where the record or the machine is not true."""
    workstation = Workstation.find(Paths.current(), name)
    found = histories.history(workstation, Asker(name, files_of(files)))
    if format_ == "json":
        output.as_json(msgspec.to_builtins(found))
        return 0 if found.verified else 1
    if found.entries:
        output.table(
            ("", "entry", "when", "what", "by"),
            [
                ("ok" if each.verified else "NOT VERIFIED", each.number, _day(each.time),
                 each.said, _by(each))
                for each in found.entries
            ],
        )  # fmt: skip
    for note in found.notes:
        print(note)
    for wrong in found.wrong:
        print(f"NOT TRUE: {wrong}")
    if found.verified:
        count = len(found.entries)
        print(f"{name}: {count} {'entry' if count == 1 else 'entries'}, all verified")
    return 0 if found.verified else 1


@group.command()
@name_argument
@click.argument("keyfile")
@click.option(
    "--provider", "text", metavar="TEXT", required=True, help="The name it is to be known by."
)
@unlock_options
def trust(name: str, keyfile: str, text: str, **files: str | None) -> None:
    """Take work orders that were signed with this key (PEM) from now on."""
    key = providers.read_key(Path(keyfile))
    workstation = Workstation.find(Paths.current(), name)
    providers.trust(workstation, text, key, Asker(name, files_of(files)))
    print(f"{name} takes work orders by {text} from now on")


@group.command()
@name_argument
@click.argument("fingerprint")
@unlock_options
def distrust(name: str, fingerprint: str, **files: str | None) -> None:
    """Take no more work orders that were signed with the key of this fingerprint."""
    workstation = Workstation.find(Paths.current(), name)
    gone = providers.distrust(workstation, fingerprint, Asker(name, files_of(files)))
    print(f"{name} takes no work orders by {gone.name} any more")


@group.command("providers")
@name_argument
@format_option
@passphrase_option
def providers_(name: str, format_: str, **files: str | None) -> None:
    """The providers whose work orders it takes."""
    workstation = Workstation.find(Paths.current(), name)
    found = providers.listed(workstation, Asker(name, files_of(files)))
    if format_ == "json":
        output.as_json([{"name": each.name, "fingerprint": each.fingerprint} for each in found])
    elif found:
        output.table(("provider", "fingerprint"), [(each.name, each.fingerprint) for each in found])
    else:
        print(f"{name} takes nobody's work orders; `service trust {name} KEYFILE` adds a provider")


@group.command("provider-key")
@click.option("--provider", metavar="P", required=True, help="Which of this host's providers.")
@click.option(
    "--output", "to", metavar="FILE", default=writing.STDOUT, help="Else standard output."
)
def provider_key(provider: str, to: str) -> None:
    """A provider's public key (PEM), for the owners who trust it; made at its first use."""
    _write(to, orders.provider_key(Paths.current(), provider), "the provider's key")


@group.command()
@click.option("--provider", metavar="P", required=True, help="Which of this host's providers.")
@click.option("--ecid", metavar="0x…", required=True, help="The chip's number (`chip show`).")
@click.option("--job", "text", metavar="JOB", required=True, help='Such as "memory 64".')
@click.option(
    "--days",
    type=click.IntRange(1, orders.DAYS_LIMIT),
    required=True,
    help="For how many days from now it is good.",
)
@click.option(
    "--output", "to", metavar="FILE", default=writing.STDOUT, help="Else standard output."
)
def issue(provider: str, ecid: str, text: str, days: int, to: str) -> None:
    """Issue a work order: one job, on one machine, once."""
    try:
        job = jobs.parse(text)
    except ValueError as error:
        raise UsageError("issuing a work order", error, "name one of these") from None
    if to == writing.STDOUT and sys.stdout.isatty():
        raise UsageError(
            "issuing a work order", "it is no text for a terminal", "give --output FILE"
        )
    _write(to, orders.issue(Paths.current(), provider, ecid, job, days), "the work order")


def _do(
    name: str,
    job: Job,
    *,
    yes: bool,
    work_order: str | None,
    open_the_machine: bool,
    **files: str | None,
) -> None:
    _, workstation = _found(name, job)
    order = _order(name, job, work_order, open_the_machine)
    words.must_change(name, specs.load(workstation.at.spec), job)
    if not _agreed(workstation, job, ask=not yes):
        return
    with told_to_end():
        owner = Asker(name, files_of(files), ask=not yes)
        entry = bench.perform(workstation, job, owner, order=order)
    said = words.done(entry.job, entry.machine("before"), entry.machine("after"))
    print(f"{name}: {said}; entry {entry.number} of its service record, signed by its chip")


def _found(name: str, job: Job) -> tuple[Paths, Workstation]:
    """The workstation, which is off."""
    paths = Paths.current()
    workstation = Workstation.find(paths, name)
    bench.must_be_off(workstation, job)
    return paths, workstation


def _order(name: str, job: Job, work_order: str | None, open_the_machine: bool) -> bytes:
    """The work order, or none where the owner does it."""
    doing = words.doing(name, job)
    if work_order is not None and open_the_machine:
        raise UsageError(
            doing, "--work-order and --open-the-machine exclude each other", "give one of them"
        )
    if work_order is not None:
        return orders.read(Path(work_order))
    if not open_the_machine:
        raise UsageError(
            doing,
            "the inside of the machine is an authorised provider's work",
            "give its --work-order FILE, or --open-the-machine to do it yourself, which the record "
            "will say",
        )
    return b""


def _agreed(workstation: Workstation, job: Job, *, ask: bool) -> bool:
    """Say what will happen, and whether it may."""
    name = workstation.name
    announced = words.announced(name, specs.load(workstation.at.spec), job)
    print(announced, flush=True)
    if ask and not everyday.confirmed(
        words.doing(name, job), "this changes the machine", f"Go on? Type {name}: ", name
    ):
        print("nothing was changed")
        return False
    return True


def _write(to: str, content: bytes, what: str) -> None:
    writing.write(content, to, f"writing {what} to {to}")
    if not writing.to_stdout(to):
        print(f"{what} is in {to}")


def _day(seconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


def _by(entry: histories.Shown) -> str:
    if entry.by != "provider":
        return entry.by
    known = entry.provider or "a provider that is trusted no more"
    return f"{known}, {entry.fingerprint[:_FINGERPRINT_DIGITS]}, order {entry.order[:8]}"
