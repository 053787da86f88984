"""Startup security, changed where alone it can be: in recovery, by its owner.

On the command line unseen, on a terminal by hand, with a firmware password and without. One
workstation for all of it, two starts of recovery.
"""

import json
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from spacegray.links import chain
from tests.conftest import ROOT, Cli, Running
from tests.support.secrets import line, written
from tests.support.terminal import Terminal

SECRETS = {
    "password": "the Owner's own, 1",
    "firmware": "Nobody else's, 2",
    "wrong": "surely not this, 3",
}
DEFAULTS = {
    "policy": "full",
    "external_boot": "deny",
    "other_systems": "deny",
    "firmware_password": False,
}
UP, DOWN, ENTER, LEAVE = b"\x1b[A", b"\x1b[B", b"\r", b"\x1d"
"""The arrows as terminals send them unless a program asks for others; this one does not."""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return written(tmp_path_factory.mktemp("secrets"), **SECRETS)


@pytest.fixture(scope="module")
def locked(created: Running, files: dict[str, str]) -> Iterator[Running]:
    """It is off and has a password; at the end it is as it was."""
    cli = created.cli
    cli("stop", "pro")
    cli("password", "set", "--new-password-file", files["password"])
    yield created
    cli("stop", "pro")
    if settings(cli) != DEFAULTS:
        cli(
            "security", "set", "--policy", "full", "--external-boot", "deny",
            "--other-systems", "deny", "--no-firmware-password",
            "--password-file", files["password"], "--firmware-password-file", files["firmware"],
        )  # fmt: skip
    cli("password", "remove", "--password-file", files["password"])


def settings(cli: Cli) -> dict[str, Any]:
    """`security show --format json`, the four that everybody asks for."""
    shown = json.loads(cli("security", "show", "pro", "--format", "json").stdout)
    return {key: shown[key] for key in DEFAULTS}


def test_it_begins_with_the_strictest(created: Running):
    assert settings(created.cli) == DEFAULTS
    table = created.cli("security", "show").stdout
    assert "security set pro --policy medium" in table


def test_without_a_password_there_is_no_owner(created: Running):
    created.cli("stop", "pro")
    boot = created.cli.show()["boot"]
    refused = line(created.cli("security", "set", "--policy", "none", check=False))
    assert "`password set pro`" in refused
    assert created.cli.show()["boot"] == boot, "nothing was started for it"


def test_a_change_is_made_unseen_and_the_machine_is_off_again(
    locked: Running, files: dict[str, str]
):
    cli = locked.cli
    done = cli(
        "security", "set", "--policy", "medium", "--external-boot", "allow",
        "--new-firmware-password-file", files["firmware"], "--password-file", files["password"],
    )  # fmt: skip
    assert "pro: security policy is medium" in done.stdout
    changed = {"policy": "medium", "external_boot": "allow", "firmware_password": True}
    assert settings(cli) == DEFAULTS | changed
    assert cli.show()["state"] == "off"
    told = json.loads(cli("logs", "--boot", "--format", "json").stdout)
    assert told["target"] == "recovery"
    assert [each["link"] for each in told["links"]] == list(chain("recovery"))
    assert {each["status"] for each in told["links"]} == {"ok"}


def test_a_firmware_password_stands_before_recovery_and_target_disk_mode(
    locked: Running, files: dict[str, str], tmp_path: Path
):
    cli = locked.cli
    for words in (
        ("recovery", "--headless"),
        ("export", "pro", str(tmp_path / "image.raw"), "--password-file", files["password"]),
        ("target-disk", "--socket", str(tmp_path / "nbd"), "--password-file", files["password"]),
    ):
        assert "--firmware-password-file" in line(cli(*words, check=False), 2)
    wrong = cli("recovery", "--headless", "--firmware-password-file", files["wrong"], check=False)
    assert "not the firmware password" in line(wrong)
    chip = json.loads(cli("chip", "show", "--format", "json").stdout)
    assert chip["attempts"]["firmware_password"]["left"] == 9
    assert cli.show()["state"] == "off"


def test_on_a_terminal_recovery_is_a_menu_that_its_owner_works_with(
    locked: Running, files: dict[str, str]
):
    """The firmware password, then the menu, the owner's password there, a switch; then away."""
    cli = locked.cli
    with Terminal([str(ROOT / "run"), "recovery", "pro"], cli.environment) as terminal:
        termios.tcsetwinsize(terminal._slave, (24, 80))
        terminal.until("Firmware password of pro: ")
        terminal.type(SECRETS["firmware"] + "\n")
        terminal.until("Startup Security")
        terminal.until("<Choose>")
        terminal.type(ENTER)
        terminal.until("owner's password")
        terminal.until("Cancel")
        terminal.type(SECRETS["password"].encode() + ENTER)
        terminal.until("External boot")
        terminal.until("<Change>")
        terminal.type(DOWN + ENTER)
        terminal.until("a disk that is plugged in")
        terminal.until("<Choose>")
        terminal.type(UP + ENTER)
        terminal.until("<Change>")
        terminal.type(LEAVE)
        status, screen = terminal.end()
    assert status == 0, screen
    assert "still in recovery" in screen
    for secret in SECRETS.values():
        assert secret not in screen
    assert cli.show()["state"] == "recovery"
    assert "it is in recovery" in line(cli("shell", "pro", "--", "true", check=False))
    assert settings(cli)["external_boot"] == "deny"


def test_while_recovery_runs_more_can_be_set_and_it_goes_on(locked: Running, files: dict[str, str]):
    cli = locked.cli
    if cli.show()["state"] != "recovery":
        cli("recovery", "--headless", "--firmware-password-file", files["firmware"])
    wrong = cli(
        "security", "set", "--policy", "none", "--password-file", files["wrong"], check=False
    )
    assert "not the password" in line(wrong)
    assert settings(cli)["policy"] == "medium"
    cli(
        "security", "set", "--policy", "full", "--no-firmware-password",
        "--password-file", files["password"],
    )  # fmt: skip
    assert cli.show()["state"] == "recovery"
    assert settings(cli) == DEFAULTS
    cli("stop", "pro")
    logs = cli.paths.workstation("pro").folder / "logs"
    kept = b"".join(path.read_bytes() for path in logs.iterdir())
    assert b"recovery" in kept, "the control: what was logged was looked at"
    for secret in SECRETS.values():
        assert secret.encode() not in kept


def test_the_chain_of_a_refused_start_names_the_file_and_the_next_step(locked: Running):
    cli = locked.cli
    slot = json.loads(cli("chip", "show", "--format", "json").stdout)["current"]
    recovery = cli.paths.workstation("pro").slot(slot).recovery
    good = recovery.read_bytes()
    changed = bytearray(good)
    changed[len(changed) // 2] ^= 1
    try:
        recovery.write_bytes(changed)
        refused = line(cli("recovery", "--headless", check=False))
        told = json.loads(cli("logs", "--boot", "--format", "json").stdout)
    finally:
        recovery.write_bytes(good)
    assert "at the link 'kernel'" in refused
    broken = next(each for each in told["links"] if each["status"] == "failed")
    assert broken["link"] == "kernel"
    assert broken["expected"]
    assert broken["found"]
    assert "reinstall" in told["next_step"]
