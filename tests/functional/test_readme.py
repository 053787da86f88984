"""The README word by word: every command in it is run, in its order, as a newcomer would.

Its first block makes and boots the default edition, `base`; that is the one boot of `base`.
"""

import json
import re
import shlex
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from spacegray.sockets import connect_unix
from tests.conftest import ROOT, Cli, make_home, remove_home

ANSWER_SECONDS = 60
TOOLS = ("git", "python3", "gcc", "make", "curl", "vim", "tmux", "sudo")


def blocks(document: str) -> list[list[list[str]]]:
    """The shell commands of a document, as words, by block."""
    text = (ROOT / document).read_text()
    found = re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return [
        [words for line in block.splitlines() if (words := shlex.split(line, comments=True))]
        for block in found
    ]


def run_all(cli: Cli, commands: list[list[str]]) -> None:
    """Run each, which must succeed; `shell` without a command gets one line to run."""
    for words in commands:
        assert words[0] == "./run", words
        cli(*words[1:], stdin=b"echo from the shell\nexit\n")


@pytest.fixture(scope="module")
def newcomer() -> Iterator[Cli]:
    """Somebody who has just run the README's first block."""
    cli = Cli(make_home("readme"))
    run_all(cli, blocks("README.md")[0])
    yield cli
    remove_home(cli)


def test_the_first_block_gives_a_running_base_with_secure_boot(newcomer: Cli):
    facts = newcomer.show()
    assert (facts["edition"], facts["state"], facts["secure_boot"]) == ("base", "running", True)
    assert newcomer.shell("id", "-un").stdout == "owner\n"


def test_base_is_whole_and_has_what_a_developer_expects(newcomer: Cli):
    assert newcomer.shell("cat", "/proc/1/comm").stdout == "systemd\n"
    deadline = time.monotonic() + ANSWER_SECONDS
    while newcomer.shell("systemctl", "is-system-running", check=False).stdout != "running\n":
        assert time.monotonic() < deadline, newcomer.shell("systemctl", "--failed").stdout
        time.sleep(1)
    newcomer.shell("sh", "-c", " && ".join(f"command -v {tool}" for tool in TOOLS))
    mounts = newcomer.shell("cat", "/proc/mounts").stdout.splitlines()
    assert next(line for line in mounts if " / " in line).split()[2] == "erofs"


def test_tools_of_the_field_see_what_the_chip_made(newcomer: Cli):
    """mokutil, bootctl and efi-readvar: Secure Boot is on, and the one image that may start."""
    chip = json.loads(newcomer("chip", "show", "--format", "json").stdout)
    kernel = chip["slots"][chip["current"]]["kernel"]
    assert "SecureBoot enabled" in newcomer.shell("mokutil", "--sb-state").stdout
    assert "Secure Boot: enabled" in newcomer.shell("sudo", "bootctl", "status", check=False).stdout
    allowed = newcomer.shell("sudo", "efi-readvar", "-v", "db").stdout.lower()
    assert kernel in "".join(allowed.split())


def test_the_guest_agent_of_base_answers_its_owner(newcomer: Cli):
    agent = newcomer.paths.workstation("pro").agent
    with connect_unix(agent, timeout_seconds=ANSWER_SECONDS) as connection:
        connection.sendall(b'{"execute": "guest-get-osinfo"}\n')
        answer = json.loads(connection.makefile("rb").readline())
    assert answer["return"]["id"] == "debian"


def test_the_everyday_block_runs_from_top_to_bottom(newcomer: Cli):
    newcomer("stop", "pro")
    run_all(newcomer, blocks("README.md")[1])
    assert [facts["name"] for facts in json.loads(newcomer("list", "--format", "json").stdout)] == [
        "pro"
    ]


def test_the_block_about_the_machine_runs_from_top_to_bottom(newcomer: Cli):
    block = next(block for block in blocks("README.md") if block[0][1] == "catalog")
    spec = Path(next(words[-1] for words in block if words[1] == "order"))
    spec.unlink(missing_ok=True)
    try:
        newcomer("stop", "pro")
        run_all(newcomer, block)
        assert "memory_gb = 256" in spec.read_text()
    finally:
        spec.unlink(missing_ok=True)


def test_every_command_anywhere_in_the_documents_exists():
    """Verbs and options that documents name in passing are ones that the command line has."""
    from spacegray.cli.app import app

    for document in (ROOT / "README.md", *ROOT.glob("docs/*.md")):
        for line in re.findall(r"`\./run ([a-z-]+)[^`]*`", document.read_text()):
            assert line in app.commands, f"{document.name}: {line}"
