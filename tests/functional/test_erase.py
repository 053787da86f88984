"""All keys destroyed at once, whatever the machine does just then, and a new life after it."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.conftest import ROOT, Cli, make_home, remove_home
from tests.functional.test_lifecycle import supervisor
from tests.support.secrets import line, written
from tests.support.terminal import Terminal

GONE_SECONDS = 60


@pytest.fixture(scope="module")
def cli() -> Iterator[Cli]:
    """The command line with one tiny workstation."""
    cli = Cli(make_home("erase"))
    cli("create", "pro", "--edition", "tiny", "--yes")
    yield cli
    remove_home(cli)


def chip(cli: Cli) -> dict[str, Any]:
    """`chip show --format json`."""
    shown: dict[str, Any] = json.loads(cli("chip", "show", "--format", "json").stdout)
    return shown


def family(cli: Cli) -> list[psutil.Process]:
    """The supervisor of the running machine with all below it."""
    first = supervisor(cli)
    return [first, *first.children(recursive=True)]


def test_erased_while_it_runs_it_is_off_and_nothing_opens(cli: Cli, tmp_path: Path):
    cli("start", "pro")
    running = family(cli)
    assert len(running) > 3, "no supervisor with a chip and a machine"
    born = chip(cli)
    refused = cli("erase", "pro", check=False)
    assert "give --yes" in line(refused, 2)
    assert cli.show()["state"] == "running"
    receipt = tmp_path / "receipt"
    receipt.write_text("precious")
    taken = cli("erase", "pro", "--yes", "--receipt", str(receipt), check=False)
    assert "File exists" in line(taken, 2)
    assert cli.show()["state"] == "running"
    receipt.unlink()

    done = cli("erase", "pro", "--yes", "--receipt", str(receipt))
    assert re.search(r"took \d+ ms", done.stdout)
    facts = cli.show()
    assert (facts["state"], facts["reason"]) == ("off", "erased")
    assert facts["chip"]["life"] == "erased"
    assert not psutil.wait_procs(running, timeout=GONE_SECONDS)[1], "left running"
    saved = list((cli.paths.workstation("pro").folder / "receipts").iterdir())
    assert [each.read_bytes() for each in saved] == [receipt.read_bytes()]

    key = tmp_path / "key.pem"
    key.write_text(born["identity_key"])
    words = ("chip", "attest", "--verify", str(receipt), "--key", str(key))
    found = json.loads(cli(*words, "--format", "json").stdout)
    assert found["key_is_known"] is True
    assert (found["ecid"], found["lives"]) == (born["ecid"], 1)
    assert any("key" in each["what"] for each in found["destroyed"])
    assert "overwritten" in cli(*words).stdout

    said = line(cli("start", "pro", check=False))
    assert "its disk is empty" in said
    assert "`restore pro`" in said
    opening: list[tuple[str, ...]] = [
        ("ssd", "verify"),
        ("ssd", "accept"),
        ("export", "pro", str(tmp_path / "image")),
        ("export", "--recovery", "pro", str(tmp_path / "bundle")),
    ]
    for each in opening:
        assert "it was erased: there is no disk" in line(cli(*each, check=False))
    assert not (tmp_path / "image").exists()
    shown = json.loads(cli("ssd", "show", "--format", "json").stdout)
    assert (shown["health"], shown["used_bytes"], shown["modules"]) == ("erased", 0, [])


def test_restored_it_is_the_same_chip_with_other_keys_and_a_new_system(cli: Cli, tmp_path: Path):
    """docs/passwords.md boots such a one."""
    before = chip(cli)
    refused = cli("restore", "pro", check=False)
    assert "give --yes" in line(refused, 2)
    assert chip(cli)["lives"] == 1
    words = written(tmp_path, first="a-new-first-one")
    done = cli("restore", "pro", "--yes", "--password-file", words["first"])
    assert "restoring the system onto the disk: 100 %" in done.stdout
    assert "password " not in done.stdout, "made one though one was given"
    after = chip(cli)
    assert (after["life"], after["lives"]) == ("in use", 2)
    assert (after["ecid"], after["identity_key"]) == (before["ecid"], before["identity_key"])
    assert json.loads(cli("ssd", "verify", "--format", "json").stdout)["bad_blocks"] == 0
    assert "password_hash=$6$" in cli.paths.workstation("pro").provision.read_text()


def test_a_locked_machine_is_erased_without_its_password(cli: Cli, tmp_path: Path):
    words = written(tmp_path, password="correct horse")
    cli("password", "set", "--new-password-file", words["password"])
    with Terminal([str(ROOT / "run"), "start", "pro"], cli.environment) as screen:
        screen.until("Password of pro: ")
        cli("erase", "pro", "--yes")
        screen.type("correct horse\n")
        status, said = screen.end()
    assert status == 1
    assert "it was switched off" in said or "erased" in said
    facts = cli.show()
    assert (facts["state"], facts["reason"]) == ("off", "erased")
    assert facts["chip"]["password"] is False


def test_an_erased_one_takes_an_image_and_new_locks(cli: Cli, tmp_path: Path):
    image = tmp_path / "image"
    image.write_bytes(bytes(1 << 20))
    cli("import", "pro", str(image))
    assert chip(cli)["life"] == "in use"
    words = written(tmp_path, password="another horse")
    cli("password", "set", "--new-password-file", words["password"])
    cli("erase", "pro", "--yes")
    assert chip(cli)["password"] is False


def test_a_machine_in_use_by_others_is_not_restored_but_erased(cli: Cli, tmp_path: Path):
    socket = str(tmp_path / "socket")
    process = cli.popen("target-disk", "pro", "--socket", socket)
    assert process.stdout is not None
    assert "target disk mode" in process.stdout.readline()
    assert "it is in target disk mode" in line(cli("restore", "pro", "--yes", check=False))
    receipts = cli.paths.workstation("pro").folder / "receipts"
    before = len(list(receipts.iterdir()))
    cli("erase", "pro", "--yes")
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert said.splitlines()[-1] == (
        f"spacegray: serving the disk of pro at {socket}: it was erased meanwhile; "
        "`restore pro` makes a new system"
    )
    facts = cli.show()
    assert (facts["busy"], facts["chip"]["life"]) == (None, "erased")
    assert len(list(receipts.iterdir())) == before + 1
    assert not list(cli.paths.workstation("pro").folder.glob("*.module"))


def test_a_prompt_that_holds_the_chip_does_not_stop_an_erasing(cli: Cli, tmp_path: Path):
    image = tmp_path / "image"
    image.write_bytes(bytes(1 << 20))
    cli("import", "pro", str(image))
    words = written(tmp_path, password="another horse")
    cli("password", "set", "--new-password-file", words["password"])
    with Terminal([str(ROOT / "run"), "password", "verify", "pro"], cli.environment) as screen:
        screen.until("Password of pro: ")
        cli("erase", "pro", "--yes")
        screen.type("another horse\n")
        status, said = screen.end()
    assert status == 1
    assert said.splitlines()[-1].endswith(
        "it was erased meanwhile; `restore pro` makes a new system"
    )
    assert chip(cli)["life"] == "erased"


def test_a_sealed_machine_is_erased_with_its_passphrase_also_while_it_is_locked(
    cli: Cli, tmp_path: Path
):
    words = written(tmp_path, right="a good passphrase", wrong="a wrong passphrase")
    cli(
        *("create", "sealed", "--edition", "tiny", "--yes"),
        *("--seal", "passphrase", "--passphrase-file", words["right"]),
    )
    with Terminal([str(ROOT / "run"), "start", "sealed"], cli.environment) as screen:
        screen.until("Passphrase of sealed: ")
        refused = cli("erase", "sealed", "--yes", check=False)
        assert "give --passphrase-file FILE" in line(refused, 2)
        refused = cli("erase", "sealed", "--yes", "--passphrase-file", words["wrong"], check=False)
        assert "erasing sealed: " in line(refused)
        assert cli.show("sealed")["state"] == "locked"
        cli("erase", "sealed", "--yes", "--passphrase-file", words["right"])
        screen.type("a good passphrase\n")
        screen.end()
    facts = cli.show("sealed")
    assert (facts["state"], facts["reason"]) == ("off", "erased")
    assert facts["chip"]["life"] == "erased"
