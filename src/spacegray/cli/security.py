"""The verbs of startup security: what may boot, and changing it through recovery's door."""

import shutil
import textwrap
from datetime import UTC, datetime
from typing import Any, Final, cast

import click

from spacegray.boot import policies
from spacegray.boot.policies import Policy, Switch
from spacegray.cli import output
from spacegray.cli.asking import Asker, files_of
from spacegray.cli.everyday import tell
from spacegray.cli.interrupts import told_to_end
from spacegray.cli.options import (
    disk_options,
    format_option,
    name_argument,
    start_options,
)
from spacegray.errors import UsageError
from spacegray.paths import Paths
from spacegray.workstation import security
from spacegray.workstation.api import Workstation
from spacegray.workstation.security import Change

KEYS: Final = ("policy", "external_boot", "other_systems", "firmware_password")
"""The settings, in the order in which they are shown; the keys of `--format json`."""
WIDTH_LIMIT_CHARACTERS: Final = 100
_SWITCH: Final = click.Choice(("allow", "deny"))
_TITLES: Final = {
    "policy": "security policy",
    "external_boot": "external boot",
    "other_systems": "other systems",
    "firmware_password": "firmware password",
}


@click.group("security")
def group() -> None:
    """Startup security: what may boot, and who may start recovery. docs/secure-boot.md."""


@group.command()
@name_argument
@format_option
def show(name: str, format_: str) -> None:
    """The settings, what each means, and how to change it; the machine on or off."""
    shown = security.show(Workstation.find(Paths.current(), name))
    if format_ == "json":
        output.as_json({**{key: shown[key] for key in KEYS}, **shown})
        return
    for line in explained(shown, name, width=_width()):
        print(line)
    if rows := _systems(shown):
        print()
        output.table(("system", "epoch", "its ticket", "kernel", ""), rows)
    if least := shown.get("minimum_epoch"):
        print(f"\nno system older than {_day(least)} starts again here (epoch {least})")


@group.command("set")
@name_argument
@click.option("--policy", type=click.Choice(("full", "medium", "none")), help="What may start.")
@click.option("--external-boot", type=_SWITCH, help="Starting from an external disk.")
@click.option(
    "--other-systems", type=_SWITCH, help="Systems that Microsoft's UEFI CA signed, under medium."
)
@click.option(
    "--new-firmware-password-file",
    metavar="FILE",
    help="Set this firmware password, or another than the present one; - for stdin.",
)
@click.option("--no-firmware-password", is_flag=True, help="Have none any more.")
@start_options
@disk_options
def set_(
    name: str,
    policy: str | None,
    external_boot: str | None,
    other_systems: str | None,
    new_firmware_password_file: str | None,
    no_firmware_password: bool,
    accel: str | None,
    timeout: float,
    **files: str | None,
) -> None:
    """Change settings: starts recovery, where alone its owner may, and ends it again."""
    if new_firmware_password_file is not None and no_firmware_password:
        raise click.UsageError("--no-firmware-password and a new one exclude each other")
    change = Change(
        policy=cast(Policy | None, policy),
        external_boot=cast(Switch | None, external_boot),
        other_systems=cast(Switch | None, other_systems),
        firmware_password=(
            "new" if new_firmware_password_file else "none" if no_firmware_password else None
        ),
    )
    if change == Change():
        raise UsageError(
            f"changing the startup security of {name}",
            "no setting was named",
            f"give one, such as --policy medium; `security show {name}` explains them",
        )
    workstation = Workstation.find(Paths.current(), name)
    given = files_of({**files, "new_firmware_password_file": new_firmware_password_file})
    asker = Asker(name, given)
    asker.must_have(f"changing the startup security of {name}", security.needs(workstation))
    with told_to_end(), output.Bars() as bars:
        asker.pause = bars.paused
        shown = security.set_(
            workstation,
            change,
            asker,
            accelerator=accel,
            timeout_seconds=timeout,
            progress=bars,
            on_event=lambda event: tell(bars, event),
        )
    for key in KEYS:
        if getattr(change, key) is not None:
            print(f"{name}: {_TITLES[key]} is {worded(key, shown[key])}")


def explained(shown: dict[str, Any], name: str, *, width: int) -> list[str]:
    """Each setting with what it means and how to change it, in lines of `width` characters."""
    lines: list[str] = []
    for key in KEYS:
        value = shown[key]
        lines.append(f"{_TITLES[key]}: {worded(key, value)}")
        for text in (_meaning(key, value), f"to change it: {_how(key, value, name)}"):
            lines += textwrap.wrap(
                text, width, initial_indent="    ", subsequent_indent="    ",
                break_long_words=False, break_on_hyphens=False,
            )  # fmt: skip
        lines.append("")
    return [*lines[:-1]]


def worded(key: str, value: Any) -> str:
    """One setting's value as people read it."""
    if value is None:
        return "not known yet"
    if key == "firmware_password":
        return "set" if value else "none"
    return {"none": "no security"}.get(value, str(value)) if key == "policy" else str(value)


def _meaning(key: str, value: Any) -> str:
    if value is None:
        return "Its chip was never asked: the first start of it tells."
    words: dict[str, dict[Any, str]] = {
        "policy": dict(policies.POLICIES),
        "external_boot": dict(policies.EXTERNAL_BOOT),
        "other_systems": dict(policies.OTHER_SYSTEMS),
        "firmware_password": dict(policies.FIRMWARE_PASSWORD),
    }
    return words[key][value]


def _how(key: str, value: Any, name: str) -> str:
    """The command that makes it another."""
    if key == "firmware_password":
        options = "--new-firmware-password-file FILE"
        return f"security set {name} {'--no-firmware-password' if value else options}"
    if key == "policy":
        other = "medium" if value == "full" else "full"
    else:
        other = "allow" if value == "deny" else "deny"
    return f"security set {name} --{key.replace('_', '-')} {other}"


def _systems(shown: dict[str, Any]) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    for slot, entry in sorted((shown.get("systems") or {}).items()):
        if entry is None:
            continue
        standing = "starts" if slot == shown.get("current") else ""
        if not standing and shown.get("trying"):
            standing = "is being tried"
        kernel = str(entry["kernel"])[:16]
        rows.append((slot, _day(entry["epoch"]), _day(entry["issued"]), f"{kernel}…", standing))
    return rows


def _day(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M}"


def _width() -> int:
    return min(shutil.get_terminal_size().columns, WIDTH_LIMIT_CHARACTERS)
