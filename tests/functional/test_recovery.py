"""Ways back: a new chip from the bundle, an old disk accepted; nothing for who has neither."""

import json
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from spacegray import host
from spacegray.paths import SLOTS
from spacegray.workstation import create
from tests.conftest import ROOT, Cli, make_home, remove_home
from tests.support.secrets import line, written
from tests.support.terminal import Terminal

READER_SECONDS = 30.0


class Recoverable:
    """A tiny workstation that is off, with a password, a recovery key and a bundle."""

    def __init__(self, cli: Cli, folder: Path) -> None:
        self.cli, self.folder = cli, folder
        self.at = cli.paths.workstation("pro")
        self.files = written(folder, password="correct horse", phrase="a longer phrase")
        self.bundle = folder / "bundle"

    @property
    def password(self) -> tuple[str, str]:
        return ("--password-file", self.files["password"])

    @property
    def key(self) -> tuple[str, str]:
        return ("--recovery-key-file", str(self.folder / "key"))

    def chip(self) -> dict[str, Any]:
        """`chip show --format json`."""
        shown: dict[str, Any] = json.loads(self.cli("chip", "show", "--format", "json").stdout)
        return shown

    def verified(self, *words: str) -> None:
        """All that is on the disk is as it was written."""
        found = json.loads(self.cli("ssd", "verify", "--format", "json", *words).stdout)
        assert found["checked_blocks"] > 1000
        assert found["bad_blocks"] == 0

    def import_(self, *words: str, check: bool = False) -> "subprocess.CompletedProcess[str]":
        """`import --recovery` of the bundle."""
        return self.cli("import", "--recovery", "pro", str(self.bundle), *words, check=check)


def copied(folder: Path, to: Path) -> None:
    """A backup by an ordinary tool."""
    subprocess.run(["cp", "-a", "--sparse=always", str(folder), str(to)], check=True)


def damaged(path: Path) -> None:
    """Change one bit of a file's last byte, if there is such a file."""
    if path.exists():
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)


@pytest.fixture(scope="module")
def pro(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recoverable]:
    cli = Cli(make_home("recovery"))
    found = Recoverable(cli, tmp_path_factory.mktemp("kept"))
    cli("create", "pro", "--edition", "tiny", "--yes")
    cli("password", "set", "--new-password-file", found.files["password"])
    yield found
    remove_home(cli)


def test_without_a_bundle_a_lost_chip_is_the_end_and_it_says_so(pro: Recoverable):
    aside = pro.folder / "aside"
    pro.at.state_folder.rename(aside)
    said = line(pro.cli("start", "pro", check=False))
    assert "no recovery bundle was ever made of it" in said
    assert "`delete pro`" in said
    assert str(pro.at.state_folder) in said
    shutil.rmtree(pro.at.state_folder, ignore_errors=True)
    aside.rename(pro.at.state_folder)
    assert "--password-file" in line(pro.cli("start", "pro", check=False), 2)


def test_a_bundle_needs_a_recovery_key_and_takes_the_place_of_nothing(pro: Recoverable):
    export = ("export", "--recovery", "pro", str(pro.bundle), *pro.password)
    assert "`recovery-key pro`" in line(pro.cli(*export, check=False))
    assert not pro.bundle.exists()
    key = pro.cli("recovery-key", "pro", *pro.password).stdout
    (pro.folder / "key").write_text(key)
    pro.bundle.write_text("precious")
    assert "that file exists" in line(pro.cli(*export, check=False), 2)
    assert pro.bundle.read_text() == "precious"
    nowhere = ("export", "--recovery", "pro", "/proc/bundle", *pro.password)
    assert "may not make files" in line(pro.cli(*nowhere, check=False), 2)
    pro.cli(*export, "--yes")
    assert pro.bundle.stat().st_mode & 0o777 == 0o600


def test_a_chip_in_order_is_kept(pro: Recoverable):
    before = pro.chip()["ecid"]
    assert "in order; give --yes" in line(pro.import_(*pro.key), 2)
    assert pro.chip()["ecid"] == before


@pytest.mark.parametrize("what", ["rubbish", "empty", "folder", "none", "device"])
def test_what_is_no_bundle_changes_nothing(pro: Recoverable, what: str, tmp_path: Path):
    before = pro.chip()
    path = {"device": Path("/dev/zero"), "folder": tmp_path}.get(what, tmp_path / what)
    if what in ("rubbish", "empty"):
        path.write_bytes(b"rubbish" * 500 if what == "rubbish" else b"")
    done = pro.cli("import", "--recovery", "pro", str(path), *pro.key, "--yes", check=False)
    assert done.returncode in (1, 2)
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert pro.chip()["ecid"] == before["ecid"]
    pro.verified(*pro.password)


def test_a_wrong_recovery_key_changes_nothing(pro: Recoverable):
    """Nor does Ctrl-C, where the key is asked for on the terminal."""
    before = pro.chip()["ecid"]
    words = written(pro.folder, wrong="0000-0000-0000-0000-0000-0000-0000")
    line(pro.import_("--recovery-key-file", words["wrong"], "--yes"))
    command = [str(ROOT / "run"), "import", "--recovery", "pro", str(pro.bundle), "--yes"]
    with Terminal(command, pro.cli.environment) as screen:
        screen.until("Recovery key of pro: ")
        _await_reader(screen.child.pid)
        screen.child.send_signal(signal.SIGINT)
        assert screen.end()[0] == 130
    assert sorted(path.name for path in pro.cli.paths.state.glob(".pro*")) == []
    assert pro.chip()["ecid"] == before
    pro.verified(*pro.password)


def _await_reader(pid: int) -> None:
    """Until all that reads the terminal is running: an interrupt in a fork may get lost."""
    deadline = time.monotonic() + READER_SECONDS
    while "tr" not in {each.name() for each in psutil.Process(pid).children(recursive=True)}:
        assert time.monotonic() < deadline, "nobody reads the terminal"
        time.sleep(0.01)


def test_yesterdays_backup_is_refused_until_its_owner_accepts_it(pro: Recoverable):
    yesterday = pro.folder / "yesterday"
    copied(pro.at.folder, yesterday)
    pro.verified(*pro.password)
    newest = line(pro.cli("ssd", "accept", "pro", *pro.password, check=False))
    assert "there is nothing to accept" in newest
    shutil.rmtree(pro.at.folder)
    yesterday.rename(pro.at.folder)
    rollbacks = pro.chip()["rollbacks"]
    for words in (("start", "pro"), ("ssd", "verify")):
        said = line(pro.cli(*words, *pro.password, check=False))
        assert "older than the chip remembers" in said
        assert "`ssd accept pro`" in said
    assert "--password-file" in line(pro.cli("ssd", "accept", "pro", check=False), 2)
    wrong = written(pro.folder, wrong="no")["wrong"]
    line(pro.cli("ssd", "accept", "pro", "--password-file", wrong, check=False))
    assert pro.chip()["rollbacks"] == rollbacks
    pro.cli("ssd", "accept", "pro", *pro.password)
    assert pro.chip()["rollbacks"] == rollbacks + 1
    pro.verified(*pro.password)


def test_a_new_chip_takes_the_disk_over_and_the_old_one_is_refused(pro: Recoverable):
    """The folder is on a host that has nothing of the chip; it gets another seal there."""
    before = pro.chip()
    old = pro.folder / "old-state"
    pro.at.state_folder.rename(old)
    for slot in SLOTS:
        damaged(pro.at.slot(slot).firmware)
    seal = ("--seal", "passphrase", "--passphrase-file", pro.files["phrase"])
    done = pro.import_(*pro.key, *seal, check=True)
    assert "`password set pro`" in done.stdout
    facts = pro.cli.show()
    installed = create.installed(pro.at)
    assert installed is not None
    firmware = pro.at.slot(installed.slot).firmware.read_bytes()
    assert firmware == host.ovmf().code.read_bytes(), "firmware from anywhere would be trusted"
    assert facts["ecid"] != before["ecid"]
    assert facts["chip"]["seal"] == facts["ordered"]["seal"] == "passphrase"
    assert facts["chip"]["password"] is False
    pro.verified("--passphrase-file", pro.files["phrase"])
    assert (pro.at.state_folder / "ssh" / "id_ed25519").exists()

    new = pro.folder / "new-state"
    pro.at.state_folder.rename(new)
    copied(old, pro.at.state_folder)
    said = line(pro.cli("ssd", "verify", *pro.password, check=False))
    assert "adopted" in said, said
    shutil.rmtree(pro.at.state_folder)
    new.rename(pro.at.state_folder)
    pro.verified("--passphrase-file", pro.files["phrase"])


def test_a_damaged_chip_is_named_and_replaced(pro: Recoverable):
    """The bundle of the chip before opens this disk too: it is the same disk."""
    store = pro.at.state_folder / "vault.sealed"
    content = bytearray(store.read_bytes())
    content[300] ^= 1
    store.write_bytes(content)
    said = line(pro.cli("start", "pro", check=False))
    assert "`import --recovery pro FILE`" in said
    assert str(pro.bundle) in said
    ssh = (pro.at.state_folder / "ssh" / "id_ed25519").read_bytes()
    pro.import_(*pro.key, "--seal", "keyfile", check=True)
    assert (pro.at.state_folder / "ssh" / "id_ed25519").read_bytes() == ssh
    pro.verified()


def test_under_its_new_chip_it_starts_with_full_security(pro: Recoverable):
    """A system was put beside the old one, for the new chip alone."""
    shown = pro.chip()
    assert (shown["policy"], shown["trying"]) == ("full", False)
    pro.cli("start", "pro")
    assert pro.cli.show()["secure_boot"] is True
    assert pro.cli.show()["root_hash"] in pro.cli.shell("cat", "/proc/cmdline").stdout
    pro.cli("stop", "pro")


def test_after_an_erase_the_bundle_opens_nothing(pro: Recoverable):
    pro.cli("erase", "pro", "--yes")
    done = pro.import_(*pro.key, "--yes")
    assert done.returncode == 1, done.stdout
    assert pro.chip()["life"] == "erased"
