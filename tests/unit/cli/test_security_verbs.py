"""Startup security on the command line: the settings explained, the words that change them."""

import json
from typing import Any

import pytest

from spacegray.boot import policies
from spacegray.cli import security
from spacegray.cli.app import app, run
from spacegray.errors import UsageError
from spacegray.workstation import security as doors
from spacegray.workstation.api import Workstation
from spacegray.workstation.security import Change

SHOWN: dict[str, Any] = {
    "minimum_epoch": 1_764_547_200,
    "policy": "full",
    "external_boot": "deny",
    "other_systems": "deny",
    "firmware_password": False,
    "current": "a",
    "trying": True,
    "systems": {
        "b": {"product": "tiny", "epoch": 1_764_633_600, "issued": 1_764_633_700,
              "kernel": "ab" * 32, "system": "cd" * 32, "source": "built"},
        "a": {"product": "tiny", "epoch": 1_764_547_200, "issued": 1_764_547_300,
              "kernel": "12" * 32, "system": "34" * 32, "source": "built"},
    },
    "target": "main",
    "from": "chip",
}  # fmt: skip


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """There is a workstation whatever its name, and what was to be changed on it."""
    changes: list[tuple[Any, ...]] = []

    def set_(workstation: str, change: Change, owner: Any, **_: Any) -> dict[str, Any]:
        changes.append((workstation, change, owner))
        named = {key: getattr(change, key) for key in security.KEYS[:3]}
        changed = {key: value for key, value in named.items() if value is not None}
        return SHOWN | changed | {"firmware_password": change.firmware_password == "new"}

    monkeypatch.setattr(Workstation, "find", lambda _, name: name)
    monkeypatch.setattr(doors, "show", lambda _: dict(SHOWN))
    monkeypatch.setattr(doors, "set_", set_)
    monkeypatch.setattr(doors, "needs", lambda _: [])
    return changes


def test_json_has_the_settings_first_and_all_the_rest(asked, capsys):
    run(["security", "show", "lab", "--format", "json"])
    shown = json.loads(capsys.readouterr().out)
    assert list(shown)[:4] == ["policy", "external_boot", "other_systems", "firmware_password"]
    assert shown == SHOWN


def test_the_table_explains_each_and_says_how_to_change_it(asked, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    run(["security", "show", "lab"])
    out = capsys.readouterr().out
    words = " ".join(out.split())
    for text in (
        "security policy: full", policies.POLICIES["full"],
        "external boot: deny", policies.EXTERNAL_BOOT["deny"],
        "other systems: deny", policies.OTHER_SYSTEMS["deny"],
        "firmware password: none", policies.FIRMWARE_PASSWORD[False],
        "security set lab --policy medium", "security set lab --external-boot allow",
        "security set lab --other-systems allow",
        "security set lab --new-firmware-password-file FILE",
        "starts", "is being tried", "no system older than 2025-12-01",
    ):  # fmt: skip
        assert text in words
    assert all(len(line) <= 80 for line in out.split("system  epoch")[0].splitlines())
    lines = out.splitlines()
    assert [line[0] for line in lines if "2025-12-0" in line][:2] == ["a", "b"]


@pytest.mark.parametrize(
    ("key", "value", "command"),
    [
        ("policy", "none", "security set lab --policy full"),
        ("other_systems", "allow", "security set lab --other-systems deny"),
        ("firmware_password", True, "security set lab --no-firmware-password"),
    ],
)
def test_every_command_that_is_told_is_one_that_there_is(key: str, value: object, command: str):
    lines = security.explained(SHOWN | {key: value}, "lab", width=100)
    told = [line.partition("to change it: ")[2] for line in lines if "to change it" in line]
    assert command in told
    group = app.commands["security"]
    for each in told:
        words = each.replace("FILE", "/dev/null").split()[2:]
        group.commands["set"].make_context("set", words)  # type: ignore[attr-defined]


def test_what_is_not_known_is_not_guessed():
    lines = security.explained(dict.fromkeys(SHOWN), "lab", width=100)
    assert lines[0] == "security policy: not known yet"
    assert not any("deny" in line.partition(":")[0] for line in lines)


@pytest.mark.parametrize(
    ("words", "change", "says"),
    [
        (["--policy", "medium"], Change(policy="medium"), "lab: security policy is medium"),
        (["--policy", "none"], Change(policy="none"), "lab: security policy is no security"),
        (
            ["--external-boot", "allow", "--other-systems", "deny"],
            Change(external_boot="allow", other_systems="deny"),
            "lab: external boot is allow\nlab: other systems is deny",
        ),
        (
            ["--new-firmware-password-file", "/dev/null"],
            Change(firmware_password="new"),
            "lab: firmware password is set",
        ),
        (
            ["--no-firmware-password"],
            Change(firmware_password="none"),
            "lab: firmware password is none",
        ),
    ],
)
def test_words_become_a_change_and_what_came_of_it_is_said(asked, capsys, words, change, says):
    run(["security", "set", "lab", *words])
    assert [each[:2] for each in asked] == [("lab", change)]
    assert capsys.readouterr().out.strip() == says


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "no setting was named"),
        (["--policy", "lax"], "lax"),
        (["--external-boot", "yes"], "yes"),
        (["--no-firmware-password", "--new-firmware-password-file", "x"], "exclude each other"),
        (["--policy", "full", "--password-file", "-", "--firmware-password-file", "-"], "only one"),
    ],
)
def test_wrong_words_change_nothing(asked, words, says):
    with pytest.raises(UsageError, match=says):
        run(["security", "set", "lab", *words])
    assert asked == []


def test_the_new_firmware_password_and_the_present_one_are_two(asked, tmp_path):
    for name in ("old", "new"):
        (tmp_path / name).write_text(f"{name}\n")
    old, new = str(tmp_path / "old"), str(tmp_path / "new")
    words = ["--new-firmware-password-file", new, "--firmware-password-file", old]
    run(["security", "set", "lab", *words])
    ((_, _, owner),) = asked
    from spacegray.workstation.unlock import Standing

    standing = Standing(needs=("firmware_password",))
    for given, expected in (
        (owner.give("starting", "firmware_password", standing, None), b"old"),
        (owner.new("setting", "firmware_password"), b"new"),
    ):
        with given, open(given.descriptor, "rb", closefd=False) as pipe:
            assert pipe.read() == expected
