"""Each job of the repair bench on a real workstation, with its refusals; and its history.

The tests are one day on the bench, in this order, with one machine.
"""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from spacegray.workstation import create
from tests.conftest import ROOT, Cli, make_home, remove_home
from tests.support.secrets import line, written
from tests.support.terminal import Terminal

MARK = "kept-on-the-disk"


@pytest.fixture(scope="module")
def cli() -> Iterator[Cli]:
    """The command line with one tiny workstation."""
    cli = Cli(make_home("service"))
    cli("create", "pro", "--edition", "tiny", "--yes")
    yield cli
    remove_home(cli)


@pytest.fixture(scope="module")
def shop(cli: Cli, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The key of a provider, to be trusted."""
    key = tmp_path_factory.mktemp("shop") / "key.pem"
    cli("service", "provider-key", "--provider", "shop", "--output", str(key))
    return key


def chip(cli: Cli) -> dict[str, Any]:
    """`chip show --format json`."""
    shown: dict[str, Any] = json.loads(cli("chip", "show", "pro", "--format", "json").stdout)
    return shown


def history(cli: Cli, status: int = 0) -> dict[str, Any]:
    """`service history --format json`, which ends with this status."""
    done = cli("service", "history", "pro", "--format", "json", check=False)
    assert done.returncode == status, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def issued(cli: Cli, folder: Path, job: str, **changed: str) -> str:
    """A work order by the shop for this machine, but for what is `changed`."""
    note = create.installed(cli.paths.workstation("pro"))
    assert note is not None
    words = {"ecid": note.ecid, "provider": "shop", **changed}
    file = folder / "order"
    cli(
        "service", "issue", "--provider", words["provider"], "--ecid", words["ecid"],
        "--job", job, "--days", "7", "--output", str(file),
    )  # fmt: skip
    return str(file)


def refused(cli: Cli, *words: str, status: int = 1) -> str:
    """The one line by which `service do` refuses; the machine is as it was."""
    spec = cli.paths.workstation("pro").spec
    before = spec.read_bytes()
    said = line(cli("service", "do", *words, "--yes", check=False), status)
    assert spec.read_bytes() == before
    return said


def test_the_inside_is_no_business_of_just_anybody(cli: Cli, shop: Path, tmp_path: Path):
    memory = ("memory", "pro", "--memory-gb", "64")
    said = refused(cli, *memory, status=2)
    assert "--work-order FILE" in said
    assert "--open-the-machine" in said
    order = issued(cli, tmp_path, "memory 64")
    both = refused(cli, *memory, "--work-order", order, "--open-the-machine", status=2)
    assert "exclude each other" in both
    assert "no trusted provider signed it" in refused(cli, *memory, "--work-order", order)
    cli("service", "trust", "pro", str(shop), "--provider", "The Shop")
    (known,) = json.loads(cli("service", "providers", "pro", "--format", "json").stdout)
    assert known["name"] == "The Shop"
    other = issued(cli, tmp_path, "memory 64", ecid="0x0000000000000001")
    assert "another chip" in refused(cli, *memory, "--work-order", other)
    assert "another job" in refused(
        cli, *memory, "--work-order", issued(cli, tmp_path, "memory 128")
    )
    cli("service", "provider-key", "--provider", "stranger")
    strange = issued(cli, tmp_path, "memory 64", provider="stranger")
    assert "no trusted provider signed it" in refused(cli, *memory, "--work-order", strange)
    assert "not taken: it is none" in refused(cli, *memory, "--work-order", str(shop))
    assert history(cli)["entries"] == []


def test_memory_by_work_order_and_then_by_its_owner(cli: Cli, tmp_path: Path):
    order = issued(cli, tmp_path, "memory 64")
    unasked = cli(
        "service", "do", "memory", "pro", "--memory-gb", "64", "--work-order", order, check=False
    )
    assert "give --yes" in unasked.stderr
    cli("service", "do", "memory", "pro", "--memory-gb", "64", "--work-order", order, "--yes")
    assert cli.show()["ordered"]["memory_gb"] == 64
    words = ("memory", "pro", "--memory-gb", "64")
    assert "it has 64 GB already" in refused(cli, *words, "--open-the-machine", status=2)
    do = [str(ROOT / "run"), "service", "do", "memory", "pro", "--memory-gb", "128"]
    for typed, after in (("no", 64), ("pro", 128)):
        with Terminal([*do, "--open-the-machine"], cli.environment) as screen:
            screen.until("128 GB of memory in place of 64 GB")
            screen.until("Type pro: ")
            screen.type(f"{typed}\n")
            status, said = screen.end()
        assert status == 0, said
        assert cli.show()["ordered"]["memory_gb"] == after
    cli("service", "do", "memory", "pro", "--memory-gb", "32", "--open-the-machine", "--yes")
    assert "was used before" in refused(cli, *words, "--work-order", order)
    found = history(cli)
    assert found["verified"] is True
    assert [each["job"] for each in found["entries"]] == ["memory 64", "memory 128", "memory 32"]
    assert [each["by"] for each in found["entries"]] == ["provider", "owner", "owner"]
    assert found["entries"][0]["provider"] == "The Shop"


def test_processor_and_mount_and_a_machine_that_is_on(cli: Cli, tmp_path: Path):
    order = issued(cli, tmp_path, "processor 18")
    cli("service", "do", "processor", "pro", "--cores", "18", "--work-order", order, "--yes")
    cli("service", "do", "vesa-mount", "pro", "--yes")
    ordered = cli.show()["ordered"]
    assert (ordered["cores"], ordered["mount"]) == (18, "vesa")
    assert "VESA mount already" in refused(cli, "vesa-mount", "pro", status=2)
    cli("service", "do", "stand", "pro", "--yes")
    assert cli.show()["ordered"]["mount"] == "stand"
    cli("start", "pro")
    cli.shell("sh", "-c", f"echo {MARK} > /data/{MARK}; sync")
    for words in (("stand", "pro"), ("ssd", "pro", "--module", "0", "--open-the-machine")):
        assert "it is on; `stop pro` first" in refused(cli, *words)
    found = history(cli)
    assert found["verified"] is True, "also while it runs"
    assert len(found["entries"]) == 6
    cli("stop", "pro")


def test_the_owner_proves_to_be_one_where_there_is_a_password(cli: Cli, tmp_path: Path):
    files = written(tmp_path, password="correct horse", wrong="no")
    cli("password", "set", "pro", "--new-password-file", files["password"])
    mount = ("vesa-mount", "pro")
    assert "--password-file FILE" in refused(cli, *mount, status=2)
    assert "password" in refused(cli, *mount, "--password-file", files["wrong"])
    given = ("--password-file", files["password"])
    cli("service", "do", *mount, "--yes", *given)
    (known,) = json.loads(cli("service", "providers", "pro", "--format", "json").stdout)
    without = cli("service", "distrust", "pro", known["fingerprint"], check=False)
    assert "--password-file FILE" in line(without, 2)
    order = issued(cli, tmp_path, "memory 64")
    cli("service", "do", "memory", "pro", "--memory-gb", "64", "--work-order", order, "--yes")
    assert [each["by"] for each in history(cli)["entries"]][-2:] == [
        "owner with password",
        "provider",
    ]
    cli("password", "remove", "pro", *given)


def test_a_new_logic_board_means_a_new_chip_and_the_disk_lost(cli: Cli, tmp_path: Path):
    before, entries = chip(cli), len(history(cli)["entries"])
    at = cli.paths.workstation("pro")
    key = at.ssh_key.read_bytes()
    backup = tmp_path / "backup.qcow2"
    words = ("logic-board", "pro", "--backup", str(backup))
    with Terminal(
        [str(ROOT / "run"), "service", "do", *words, "--open-the-machine"], cli.environment
    ) as screen:
        screen.until("ALL that is on its disk is lost")
        screen.until("Type pro: ")
        screen.type("no\n")
        assert screen.end()[0] == 0
    assert chip(cli)["ecid"] == before["ecid"]
    assert not backup.exists()
    order = issued(cli, tmp_path, "logic-board")
    cli("service", "do", *words, "--work-order", order, "--yes")
    after = chip(cli)
    assert after["ecid"] != before["ecid"]
    assert after["identity_key"] != before["identity_key"]
    found = history(cli)
    assert found["verified"] is True
    assert found["ecid"] == after["ecid"]
    assert len(found["entries"]) == entries + 2
    signers = [each["ecid"] for each in found["entries"]]
    assert signers == [before["ecid"]] * (entries + 1) + [after["ecid"]]
    assert found["providers"] == [], "a new chip trusts nobody"
    cli("start", "pro")
    assert cli.shell("test", "-e", f"/data/{MARK}", check=False).returncode == 1
    cli("stop", "pro")
    cli("import", "pro", str(backup))
    again = tmp_path / "again.qcow2"
    cli("export", "pro", str(again))
    compared = subprocess.run(["qemu-img", "compare", str(backup), str(again)], check=False)
    assert compared.returncode == 0, "the backup does not bring back what was on the disk"
    assert at.ssh_key.read_bytes() == key, "a system brought back knows another log-in"


@pytest.mark.parametrize(("module", "new"), [("1", "flash-1"), ("both", "flash-0")])
def test_new_modules_start_nothing_until_they_are_paired(cli: Cli, module: str, new: str):
    words = ("ssd", "pro", "--module", module)
    assert "--open-the-machine" in refused(cli, *words, status=2)
    done = cli("service", "do", *words, "--open-the-machine", "--yes")
    assert "ALL that is on its disk is lost" in done.stdout
    for each in (("start", "pro"), ("ssd", "verify", "pro")):
        said = line(cli(*each, check=False))
        assert f"{new}.module" in said
        assert "new and paired with no chip" in said
        assert "`restore pro` pairs" in said
    assert cli.show()["state"] != "running"
    cli("restore", "pro", "--yes")
    assert json.loads(cli("ssd", "verify", "pro", "--format", "json").stdout)["bad_blocks"] == 0
    assert history(cli)["verified"] is True


def test_a_changed_record_and_a_changed_machine_are_said(cli: Cli):
    shown = cli("service", "history", "pro")
    assert "all verified" in shown.stdout
    at = cli.paths.workstation("pro")
    spec = at.spec.read_text()
    at.spec.write_text(spec.replace("memory_gb = 64", "memory_gb = 256"))
    changed = cli("service", "history", "pro", check=False)
    assert changed.returncode == 1
    assert "without a record: memory_gb was 64 and is 256" in changed.stdout
    at.spec.write_text(spec)
    whole = at.service_record.read_bytes()
    at.service_record.write_bytes(whole.replace(b"processor 18", b"processor 10"))
    assert any("was not signed by it" in each for each in history(cli, 1)["wrong"])
    at.service_record.write_bytes(whole)
    assert history(cli)["verified"] is True
