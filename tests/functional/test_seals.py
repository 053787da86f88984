"""The seals other than the key file: a passphrase, asked for first, and the host's TPM."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT, Cli, make_home, remove_home
from tests.support.secrets import line, written
from tests.support.terminal import Terminal
from tests.support.tpm import EmulatedTpm, emulated_tpm

PHRASE = "a longer phrase"


def chip(cli: Cli, name: str = "pro") -> dict[str, Any]:
    """`chip show --format json`."""
    shown: dict[str, Any] = json.loads(cli("chip", "show", name, "--format", "json").stdout)
    return shown


def test_a_passphrase_is_asked_once_to_create_and_start_and_then_at_each_power_on(
    cli: Cli, tmp_path: Path
):
    files = written(tmp_path, phrase=PHRASE, wrong="no", password="correct horse")
    missing = cli("create", "pro", "--edition", "tiny", "--seal", "passphrase", check=False)
    assert "--passphrase-file FILE" in line(missing, 2)
    assert not cli.paths.workstation("pro").folder.exists()

    up = [str(ROOT / "run"), "up", "pro", "--edition", "tiny", "--seal", "passphrase", "--headless"]
    with Terminal(up, cli.environment) as screen:
        screen.until("empty: one is generated): ")
        screen.type("\n")
        screen.until("New passphrase: ")
        screen.type(f"{PHRASE}\n")
        screen.until("Once more: ")
        screen.type(f"{PHRASE}\n")
        status, said = screen.end()
    assert status == 0, said
    assert "Passphrase of pro: " not in said, "asked for what was typed a moment ago"
    assert "pro is running" in said
    cli("stop", "pro")
    assert cli.show()["chip"]["needs"] == ["passphrase"]

    sealed = chip(cli)
    assert (sealed["state"], sealed["needs"]) == ("sealed", ["passphrase"])
    assert (sealed["life"], sealed["password"]) == (None, None)
    assert "not known while sealed" in cli("chip", "show").stdout
    assert "--passphrase-file FILE" in line(cli("start", "pro", check=False), 2)
    wrong = ("--passphrase-file", files["wrong"])
    assert "this is not the passphrase" in line(cli("start", "pro", *wrong, check=False))
    assert cli.show()["state"] == "off"

    right = ("--passphrase-file", files["phrase"])
    cli("password", "set", *right, "--new-password-file", files["password"])
    assert cli.show()["chip"]["needs"] == ["passphrase", "password"]
    half = cli("ssd", "show", *right, check=False)
    assert "needs the password" in line(half, 2)
    with Terminal([str(ROOT / "run"), "ssd", "show"], cli.environment) as screen:
        screen.until("Passphrase of pro: ")
        screen.type("no\n")
        screen.until("this is not the passphrase")
        screen.until("Passphrase of pro: ")
        screen.type(f"{PHRASE}\n")
        screen.until("Password of pro: ")
        screen.type("correct horse\n")
        status, said = screen.end()
    assert status == 0, said
    assert "good" in said
    cli("erase", "pro", "--yes", *right)
    assert cli.show()["chip"]["life"] == "erased"


def test_delete_needs_no_passphrase(cli: Cli, tmp_path: Path):
    files = written(tmp_path, phrase=PHRASE)
    cli(
        "create", "pro", "--edition", "tiny", "--seal", "passphrase", "--yes",
        "--passphrase-file", files["phrase"],
    )  # fmt: skip
    cli("delete", "pro", "--yes")
    assert not cli.paths.workstation("pro").state_folder.exists()


@pytest.fixture(scope="module")
def tpm() -> Iterator[EmulatedTpm]:
    with emulated_tpm() as found:
        yield found


@pytest.fixture(scope="module")
def with_tpm(tpm: EmulatedTpm) -> Iterator[Cli]:
    """The command line on a host with a TPM, and one tiny workstation sealed with it."""
    cli = Cli(make_home("tpm"), {"SPACEGRAY_TPM": str(tpm.socket)})
    cli("create", "pro", "--edition", "tiny", "--seal", "tpm2", "--yes")
    yield cli
    remove_home(cli)


def test_without_a_tpm_there_is_no_such_chip(cli: Cli):
    cli.extra["SPACEGRAY_TPM"] = "/nowhere/tpm"
    create = cli("create", "pro", "--edition", "tiny", "--seal", "tpm2", "--yes", check=False)
    assert "/nowhere/tpm" in line(create)
    assert not cli.paths.workstation("pro").folder.exists()


def test_sealed_by_the_tpm_it_starts_without_asking_and_says_what_that_rests_on(
    with_tpm: Cli, tpm: EmulatedTpm
):
    with_tpm("start", "pro")
    shown = chip(with_tpm)
    assert (shown["seal"], shown["root"]) == ("tpm2", "tpm")
    assert with_tpm.show()["chip"]["root"] == "tpm"
    with_tpm("stop", "pro")
    tpm.restart()
    assert json.loads(with_tpm("ssd", "show", "--format", "json").stdout)["health"] == "good"


def test_a_tpm_that_is_gone_is_named_with_the_way_back(
    with_tpm: Cli, tpm: EmulatedTpm, tmp_path: Path
):
    key = tmp_path / "key"
    key.write_text(with_tpm("recovery-key", "pro").stdout)
    bundle = tmp_path / "bundle"
    with_tpm("export", "--recovery", "pro", str(bundle))
    tpm.kill()
    said = line(with_tpm("start", "pro", check=False))
    assert "TPM" in said
    assert "`import --recovery pro FILE`" in said
    tpm.start()
    assert json.loads(with_tpm("ssd", "show", "--format", "json").stdout)["health"] == "good"
    tpm.clear()
    said = line(with_tpm("ssd", "show", check=False))
    assert "`import --recovery pro FILE`" in said
    words = ("import", "--recovery", "pro", str(bundle), "--recovery-key-file", str(key))
    with_tpm(*words)
    assert json.loads(with_tpm("ssd", "verify", "--format", "json").stdout)["bad_blocks"] == 0


def test_what_ends_leaves_nothing_in_the_tpm(with_tpm: Cli, tpm: EmulatedTpm):
    with_tpm("erase", "pro", "--yes")
    saved = max((with_tpm.paths.workstation("pro").folder / "receipts").iterdir())
    receipt = with_tpm("chip", "attest", "--verify", str(saved), "--format", "json").stdout
    assert "NV" in receipt
    before = tpm.indices()
    with_tpm("delete", "pro", "--yes")
    assert len(tpm.indices()) < len(before)
