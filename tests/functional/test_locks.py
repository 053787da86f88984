"""Passwords: asked for at power-on, right and wrong, from a terminal, a file, standard input."""

import json
import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.conftest import ROOT, Cli, make_home, remove_home
from tests.functional.test_lifecycle import wait_for, wait_until
from tests.support.secrets import line, written
from tests.support.terminal import Terminal

PASSWORD, OTHER, WRONG = "correct horse", "battery staple", "incorrect horse"
ENDED_SECONDS = 20


class Locked:
    """A tiny workstation with a password and a recovery key, and files that hold them."""

    def __init__(self, cli: Cli, folder: Path) -> None:
        self.cli, self.folder = cli, folder
        written(folder, right=PASSWORD, other=OTHER, wrong=WRONG)

    def file(self, name: str) -> str:
        """The path of one of them."""
        return str(self.folder / name)

    def terminal(self, *words: str) -> Terminal:
        """A command line at a terminal."""
        return Terminal([str(ROOT / "run"), *words], self.cli.environment)

    def attempts(self) -> dict[str, Any]:
        """The budgets, as the chip says."""
        shown = json.loads(self.cli("chip", "show", "--format", "json").stdout)
        attempts: dict[str, Any] = shown["attempts"]
        return attempts

    def is_off(self) -> None:
        """Nothing is left running."""
        facts = self.cli.show()
        assert facts["state"] == "off", facts["reason"]
        home = str(self.cli.home)
        deadline = time.monotonic() + ENDED_SECONDS
        while left := [each for each in psutil.process_iter() if home in words_of(each)]:
            assert time.monotonic() < deadline, left
            time.sleep(0.05)


def words_of(process: psutil.Process) -> str:
    """The command line of a process, if it is still there."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Locked]:
    cli = Cli(make_home("locks"))
    found = Locked(cli, tmp_path_factory.mktemp("secrets"))
    cli("create", "pro", "--edition", "tiny", "--yes")
    done = cli("password", "set", "--new-password-file", found.file("right"))
    assert "`recovery-key pro`" in done.stdout, "no advice where a way back is missing"
    key = cli("recovery-key", "--password-file", found.file("right"))
    (found.folder / "key").write_text(key.stdout)
    yield found
    remove_home(cli)


def test_a_password_is_set_once_and_then_changed_with_the_old_one(locked: Locked):
    cli = locked.cli
    again = cli("password", "set", "--password-file", locked.file("other"), check=False)
    assert "`password change pro`" in line(again)
    change = ("password", "change", "--password-file")
    to = ("--new-password-file", locked.file("other"))
    assert "this is not the password" in line(cli(*change, locked.file("wrong"), *to, check=False))
    cli(*change, locked.file("right"), *to)
    old = cli("password", "verify", "--password-file", locked.file("right"), check=False)
    assert "9 tries are left" in line(old)
    cli("password", "verify", "--password-file", "-", stdin=f"{OTHER}\n".encode())
    assert locked.attempts()["password"]["left"] == 10
    cli(
        "password", "change", "--recovery-key-file", locked.file("key"),
        "--new-password-file", "-", stdin=PASSWORD.encode(),
    )  # fmt: skip
    assert cli.show()["chip"]["password"] is True


def test_secrets_stay_out_of_arguments_environment_logs_and_files(locked: Locked):
    """Of the workstation, that is: not of the files that the test itself wrote."""
    found = [
        path
        for path in locked.cli.home.rglob("*")
        if path.is_file() and path.stat().st_size < 1 << 20
        if any(word.encode() in path.read_bytes() for word in (PASSWORD, OTHER, WRONG))
    ]
    assert found == []


def test_without_a_password_the_disk_stays_closed(locked: Locked, tmp_path: Path):
    cli = locked.cli
    for words in (
        ("start", "pro"),
        ("up", "pro", "--yes", "--headless"),
        ("ssd", "show", "pro"),
        ("ssd", "verify", "pro"),
        ("export", "pro", str(tmp_path / "image")),
        ("target-disk", "pro", "--socket", str(tmp_path / "socket")),
    ):
        said = line(cli(*words, check=False), 2)
        assert "needs the password" in said
        assert "--password-file FILE (- for standard input)" in said
    assert not list(tmp_path.iterdir())
    locked.is_off()
    wrong = cli("ssd", "show", "--password-file", locked.file("wrong"), check=False)
    assert "this is not the password; 9 tries are left" in line(wrong)
    right = cli("ssd", "verify", "--password-file", locked.file("right"))
    assert "as they were written" in right.stdout
    facts = json.loads(
        cli("ssd", "show", "--format", "json", "--recovery-key-file", locked.file("key")).stdout
    )
    assert facts["health"] == "good"


def test_a_wrong_file_switches_it_off_again(locked: Locked):
    done = locked.cli("start", "pro", "--password-file", locked.file("wrong"), check=False)
    assert "starting pro: this is not the password; 9 tries are left" in line(done)
    locked.is_off()
    both = ("--password-file", "-", "--recovery-key-file", "-")
    assert "only one secret" in line(locked.cli("start", "pro", *both, check=False), 2)
    locked.is_off()


@pytest.mark.parametrize("how", ["key", "signal"])
def test_ctrl_c_while_it_asks_leaves_nothing_running(locked: Locked, how: str):
    with locked.terminal("start", "pro") as screen:
        screen.until("Password of pro: ")
        assert locked.cli.show()["state"] == "locked"
        if how == "key":
            screen.type(b"half a pass\x03")
        else:
            os.killpg(screen.child.pid, signal.SIGTERM)
        status, said = screen.end()
        assert screen.others() == []
    assert status == 130
    assert "Traceback" not in said
    assert "half" not in said
    locked.is_off()


def test_a_locked_machine_says_so_and_can_be_switched_off(locked: Locked):
    cli = locked.cli
    with locked.terminal("start", "pro") as screen:
        screen.until("Password of pro: ")
        facts = cli.show()
        assert (facts["state"], facts["needs"]) == ("locked", ["password"])
        assert facts["reason"] == "waiting for the password"
        assert facts["attempts"]["password"]["left"] == 9
        assert facts["locked_until"] - facts["since"] == pytest.approx(600, abs=5)
        assert facts["chip"]["needs"] == ["password"]
        assert "locked" in cli("list").stdout
        assert "waiting for the password" in cli("show").stdout
        says = line(cli("shell", "pro", "--", "true", check=False))
        assert "locked, waiting for the password; `start pro`" in says
        assert "locked" in line(cli("ssd", "show", check=False))
        assert "locked" in line(cli("password", "remove", check=False))
        assert json.loads(cli("chip", "show", "--format", "json").stdout)["unlocked"] is False
        # Another start without a terminal says what is missing, and leaves this one alone.
        assert "--password-file" in line(cli("start", "pro", check=False), 2)
        assert cli.show()["state"] == "locked"
        cli("stop", "pro")
        locked.is_off()
        screen.type(f"{PASSWORD}\n")
        status, said = screen.end()
    assert status == 1
    assert "switched off while it was locked" in said
    kinds = [event.get("state") for event in cli.events() if event["kind"] == "state"]
    assert kinds[-3:] == ["starting", "locked", "off"]


def test_at_the_terminal_it_asks_again_and_starts(locked: Locked):
    cli = locked.cli
    with locked.terminal("start", "pro") as screen:
        screen.until("Password of pro: ")
        screen.type(f"{OTHER}\n")
        screen.until("8 tries are left")
        screen.until("Password of pro: ")
        screen.type(f"{PASSWORD}\n")
        screen.until("login")
        status, said = screen.end()
    assert status == 0, said
    assert "pro is running" in said
    assert PASSWORD not in said
    assert OTHER not in said
    facts = cli.show()
    assert (facts["state"], facts["needs"], facts["locked_until"]) == ("running", [], None)
    assert locked.attempts()["password"]["left"] == 10
    assert facts["links"][0]["seconds"] < 60, "the time that the owner took counts as the chip's"


def test_a_guests_restart_does_not_ask_again(locked: Locked):
    cli = locked.cli
    before = cli.show()["boot"]
    cli.shell("sudo", "reboot", check=False)
    wait_until(lambda: cli.show()["boot"] > before and cli.show()["state"] == "running")
    states = [event["state"] for event in cli.events() if event["kind"] == "state"]
    assert states[-2:] == ["starting", "running"]


def test_a_running_machine_verifies_and_changes_its_password(locked: Locked):
    cli = locked.cli
    assert cli.show()["state"] == "running"
    wrong = cli("password", "verify", "--password-file", locked.file("wrong"), check=False)
    assert "9 tries are left" in line(wrong)
    cli(
        "password", "change", "--password-file", locked.file("right"),
        "--new-password-file", locked.file("other"),
    )  # fmt: skip
    cli("password", "verify", "--password-file", locked.file("other"))


def test_a_restart_that_could_not_be_unlocked_is_not_begun(locked: Locked):
    cli = locked.cli
    assert "--password-file" in line(cli("restart", "pro", check=False), 2)
    assert cli.show()["state"] == "running"
    cli("restart", "pro", "--recovery-key-file", locked.file("key"))
    assert cli.show()["state"] == "running"


def test_a_kill_while_it_runs_asks_again(locked: Locked):
    cli = locked.cli
    record = json.loads(cli.paths.workstation("pro").state.read_bytes())
    psutil.Process(int(record["supervisor"].partition("@")[0])).kill()
    wait_for(cli, "failed", 20)
    assert "needs the password" in line(cli("start", "pro", check=False), 2)


def test_after_three_wrong_ones_the_next_has_to_wait(locked: Locked):
    """And the recovery key helps whoever has it."""
    cli = locked.cli
    for number in range(3):
        guess = f"guess {number}\n".encode()
        done = cli("password", "verify", "--password-file", "-", stdin=guess, check=False)
        assert f"{9 - number} tries are left" in line(done)
    waits = r"in \d+ s; wait that long; 7 tries are left"
    for words in (("password", "verify"), ("start", "pro")):
        done = cli(*words, "--password-file", locked.file("other"), check=False)
        assert re.search(waits, line(done)), done.stderr
        with locked.terminal(*words) as screen:
            status, said = screen.end()
        assert (status, "Password of pro" in said) == (1, False), "asks for what it ignores"
        assert re.search(waits, said)
    locked.is_off()
    cli("password", "verify", "--recovery-mode", "--password-file", locked.file("other"))
    cli(
        "password", "change", "--recovery-key-file", locked.file("key"),
        "--new-password-file", locked.file("right"),
    )  # fmt: skip
    cli("password", "verify", "--password-file", locked.file("right"))


def test_a_password_that_is_removed_is_asked_for_no_more(locked: Locked):
    cli = locked.cli
    done = cli("password", "remove", "--password-file", locked.file("other"), check=False)
    assert "this is not the password" in line(done)
    cli("password", "remove", "--password-file", locked.file("right"))
    assert cli.show()["chip"]["needs"] == []
    assert "`password set pro`" in line(cli("password", "remove", check=False))
    assert json.loads(cli("ssd", "show", "--format", "json").stdout)["health"] == "good"


def test_the_readmes_commands_at_a_terminal(locked: Locked, monkeypatch: pytest.MonkeyPatch):
    """As somebody types them who gives no options, and answers what is asked."""
    block = next(
        each
        for each in re.findall(r"^```sh\n(.*?)^```", (ROOT / "README.md").read_text(), re.M | re.S)
        if "password set" in each
    )
    words = [each.split("#")[0].replace("lab ", "pro ").split()[1:] for each in block.splitlines()]
    answers = {
        "password": (("New password: ", PASSWORD), ("Once more: ", PASSWORD)),
        "recovery-key": (("Password of pro: ", PASSWORD),),
        "export": (("Password of pro: ", PASSWORD),),
        "chip": (),
        "erase": (("Type its name: ", "pro"),),
    }
    assert [each[0] for each in words] == list(answers)
    monkeypatch.chdir(locked.folder)
    for each in words:
        with locked.terminal(*each) as screen:
            for question, answer in answers[each[0]]:
                screen.until(question)
                screen.type(f"{answer}\n")
            status, said = screen.end()
        assert status == 0, said
        assert PASSWORD not in said
    assert (locked.folder / "lab.bundle").exists()
    assert json.loads(locked.cli("chip", "show", "--format", "json").stdout)["life"] == "erased"
    for verb in (("password", "set", "--new-password-file", "right"), ("recovery-key",)):
        assert "`restore pro`" in line(locked.cli(*verb, check=False)), "nothing is there to lock"
