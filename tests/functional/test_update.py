"""A newer system beside the old: kept once it came up, given up where it does not."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Cli, make_home, remove_home
from tests.support import offline
from tests.support.newer import NOWHERE, OwnCache, own_cache
from tests.support.secrets import line, written

SECOND, THIRD, FOURTH = "spacegray.test=2.", "spacegray.test=3.", "spacegray.test=4."
"""Words on the command line of the systems that come after the first."""


@dataclass
class Updated:
    """A tiny workstation whose newest system a test chooses."""

    cli: Cli
    cache: OwnCache
    folder: Path

    def security(self) -> dict[str, Any]:
        """`security show --format json`."""
        said = self.cli("security", "show", "pro", "--format", "json").stdout
        shown: dict[str, Any] = json.loads(said)
        return shown

    def chip(self) -> dict[str, Any]:
        """`chip show --format json`."""
        shown: dict[str, Any] = json.loads(self.cli("chip", "show", "--format", "json").stdout)
        return shown

    @property
    def epoch(self) -> int:
        """The security epoch of the newest system."""
        return self.cache.image.manifest.epoch


@pytest.fixture(scope="module")
def pro(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Updated]:
    cli = Cli(make_home("update"))
    cache = own_cache(cli)
    cli("create", "pro", "--edition", "tiny", "--yes", *NOWHERE)
    yield Updated(cli, cache, tmp_path_factory.mktemp("update"))
    remove_home(cli)


def test_a_running_machine_gets_a_newer_system_and_keeps_its_data(pro: Updated):
    cli = pro.cli
    cli("start", "pro")
    cli.shell("sh", "-c", "echo mine > /data/kept; sync")
    root_hash = cli.show()["root_hash"]
    first = pro.security()
    assert first["minimum_epoch"] == pro.epoch, "the first start counts too"
    pro.cache.newer(SECOND)
    done = cli("update", "pro", *NOWHERE)
    assert "pro is updated" in done.stdout
    facts = cli.show()
    assert facts["state"] == "running"
    command_line = cli.shell("cat", "/proc/cmdline").stdout
    assert SECOND in command_line
    assert facts["root_hash"] in command_line
    assert facts["root_hash"] != root_hash
    assert cli.shell("cat", "/data/kept").stdout == "mine\n"
    after = pro.chip()
    assert (after["current"], after["trying"]) == ("b", False)
    assert after["minimum_epoch"] == after["slots"]["b"]["epoch"] == pro.epoch
    assert pro.epoch > first["minimum_epoch"]


def test_what_is_up_to_date_is_left_alone(pro: Updated):
    boot = pro.cli.show()["boot"]
    assert "up to date" in pro.cli("update", "pro", *NOWHERE).stdout
    facts = pro.cli.show()
    assert (facts["state"], facts["boot"]) == ("running", boot)


def test_one_that_does_not_come_up_is_given_up_by_itself(pro: Updated):
    cli = pro.cli
    before, kept = pro.chip(), pro.cache.keep(pro.folder / "good")
    pro.cache.broken()
    said = line(cli("update", "pro", *NOWHERE, check=False))
    assert "did not come up" in said
    assert "system" in said, "the link that broke is not named"
    facts = cli.show()
    assert facts["state"] == "running"
    assert SECOND in cli.shell("cat", "/proc/cmdline").stdout
    assert cli.shell("cat", "/data/kept").stdout == "mine\n"
    after = pro.chip()
    assert (after["current"], after["trying"]) == (before["current"], False)
    assert after["minimum_epoch"] == before["minimum_epoch"], "its epoch counts for nothing"
    failed = [each for each in cli.events() if each["kind"] == "link" and each["link"] == "system"]
    assert any(each["status"] == "failed" for each in failed)
    cli("stop", "pro")
    assert "goes back to its own" in cli("reinstall", "pro", *NOWHERE).stdout
    assert pro.chip()["trying"] is True
    cli("start", "pro")
    assert SECOND in cli.shell("cat", "/proc/cmdline").stdout
    assert cli.shell("cat", "/data/kept").stdout == "mine\n"
    assert (pro.chip()["current"], pro.chip()["trying"]) == (before["current"], False)
    pro.cache.put(kept)


def test_one_that_is_off_is_off_again_and_asked_for_its_password_once(pro: Updated):
    cli = pro.cli
    files = written(pro.folder, password="correct horse")
    cli("password", "set", "--new-password-file", files["password"])
    pro.cache.newer(THIRD, seconds=120)
    without = cli("update", "pro", *NOWHERE, check=False)
    assert "--password-file" in line(without, 2)
    assert cli.show()["state"] == "running", "switched off for nothing"
    cli("stop", "pro")
    done = cli("update", "pro", *NOWHERE, "--password-file", files["password"])
    assert "pro is updated" in done.stdout
    assert cli.show()["state"] == "off"
    assert (pro.chip()["current"], pro.chip()["minimum_epoch"]) == ("a", pro.epoch)
    cli("password", "remove", "--password-file", files["password"])


def test_an_older_system_is_refused_and_nothing_changes(pro: Updated):
    """By the authority, which signed a newer one before; by the chip, in `test_tickets`."""
    cli = pro.cli
    before, kept = pro.chip(), pro.cache.keep(pro.folder / "newest")
    pro.cache.newer(FOURTH, seconds=-10_000)
    for verb in ("update", "reinstall"):
        assert "older" in line(cli(verb, "pro", *NOWHERE, check=False))
    assert pro.chip()["slots"] == before["slots"]
    assert pro.chip()["current"] == before["current"]
    pro.cache.put(kept)


def test_reinstalled_it_starts_again_and_the_data_is_there(pro: Updated):
    """Its system volume and its partition table were damaged; the same system comes anew."""
    cli = pro.cli
    before = pro.chip()
    with offline.disk(cli) as disk:
        for name in ("system", "verity", "system-b", "verity-b"):
            start, _ = offline.partition(cli, name)
            disk.write(start, bytes(1 << 20))
        disk.write(512, bytes(512))
    assert cli("start", "pro", check=False).returncode == 1
    assert "its data as it was" in cli("reinstall", "pro", *NOWHERE).stdout
    assert (before["current"], pro.chip()["current"]) == ("a", "b")
    cli("start", "pro")
    assert THIRD in cli.shell("cat", "/proc/cmdline").stdout
    assert cli.shell("cat", "/data/kept").stdout == "mine\n"
    assert "`stop pro` first" in line(cli("reinstall", "pro", *NOWHERE, check=False))
