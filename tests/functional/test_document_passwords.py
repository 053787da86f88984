"""docs/passwords.md word by word: every command in it does, in its order, what the page says."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import COMMAND_SECONDS, ROOT, Cli, make_home, remove_home

DOCUMENT = ROOT / "docs" / "passwords.md"


class Reader:
    """Somebody who types the page's blocks, one after the other, in one folder."""

    def __init__(self, cli: Cli, folder: Path) -> None:
        self.cli, self.folder = cli, folder
        self.blocks = re.findall(r"^```sh\n(.*?)^```", DOCUMENT.read_text(), re.M | re.S)
        (folder / "run").symlink_to(ROOT / "run")

    def next(self, beginning: str) -> str:
        """Run the next block, which has `beginning` in it; returns what it printed."""
        block = self.blocks.pop(0)
        assert beginning in block
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block],
            cwd=self.folder, env=self.cli.environment, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False,
        )  # fmt: skip
        assert done.returncode == 0, block + done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout

    def chip(self) -> dict[str, object]:
        """`chip show --format json`."""
        shown: dict[str, object] = json.loads(
            self.cli("chip", "show", "lab", "--format", "json").stdout
        )
        return shown


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    cli = Cli(make_home("passwords"))
    yield Reader(cli, tmp_path_factory.mktemp("page"))
    remove_home(cli)


def test_the_page_from_top_to_bottom(reader: Reader):
    cli = reader.cli
    out = reader.next("password set lab")
    assert "keep a way back" in out
    assert "locked: waiting for the password" in out
    assert cli.show("lab")["chip"]["needs"] == ["password"]

    out = reader.next("password verify lab")
    assert "it is right" in out
    assert re.search(r"^password +0 +10 +now", out, re.M), out

    reader.next("recovery-key lab")
    key = (reader.folder / "recovery-key").read_text()
    assert re.fullmatch(r"([0-9A-Z]{4}-){6}[0-9A-Z]{4}\n", key)

    reader.next("export --recovery lab lab.bundle")
    bundle = reader.folder / "lab.bundle"
    assert bundle.stat().st_mode & 0o777 == 0o600
    before = reader.chip()
    shutil.rmtree(cli.paths.workstation("lab").state_folder)
    lost = cli("start", "lab", check=False)
    assert lost.returncode == 1
    assert "`import --recovery lab FILE`" in lost.stderr
    assert str(bundle) in lost.stderr

    out = reader.next("import --recovery lab lab.bundle")
    assert out.splitlines()[-2:] == ["kept", "lab is off"]
    after = reader.chip()
    assert after["ecid"] != before["ecid"]
    assert after["ecid"] == cli.show("lab")["ecid"]
    assert (after["password"], after["recovery_key"]) == (False, True)

    backup = reader.next("cp -a --sparse=always")
    assert "lab takes its disk as it is" in backup
    assert int(str(reader.chip()["rollbacks"])) == int(str(after["rollbacks"])) + 1

    out = reader.next("erase lab --yes")
    assert "every key to it" in out
    assert "destroyed" in out
    assert reader.chip()["life"] == "erased"

    out = reader.next("restore lab --yes")
    assert "lab begins a new life" in out
    assert "lab is deleted" in out

    out = reader.next("--seal passphrase")
    assert "good" in out
    assert reader.blocks == []
    assert json.loads(cli("list", "--format", "json").stdout) == []
