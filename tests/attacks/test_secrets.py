"""Promise: keys and passwords are in the silicon and nowhere else.

Looked for in the memory of every process that this user may look into, in files, temporary files,
logs, arguments and environments; as they are, in hex, base64, expanded by a cipher, and as text in
the encodings that programs use. What is planted is found; root finds the keys in the vault
(`test_vault_closed`).
"""

import base64
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from spacegray.paths import Paths
from tests.conftest import Cli, Running
from tests.functional.test_lifecycle import supervisor
from tests.support import needles, scan
from tests.support.authorityd import private_keys
from tests.support.needles import Needles
from tests.support.vault_store import class_key, read_contents, read_secrets, sealing_key

SILICON = ("vaultd", "ssdd")
"""The two programs that hold keys: the vault all of them, the controller the disk's."""
PASSWORD = "what the owner types at power-on"
WRONG = "what a stranger tries at power-on"
PRIVATE = ("identity_key",)
"""Of the chip's secrets, those that are private keys."""


@dataclass(frozen=True)
class Locked:
    """A running workstation that asked for its password."""

    cli: Cli
    since: float
    sought: Needles


@pytest.fixture(scope="module")
def locked(created: Running) -> Iterator[Locked]:
    """The shared workstation, with a password while this module's tests run."""
    cli, since = created.cli, time.time()
    cli("stop", created.name)
    cli("password", "set", "pro", "--password-file", "-", stdin=PASSWORD.encode())
    refused = cli("start", "pro", "--password-file", "-", stdin=WRONG.encode(), check=False)
    assert refused.returncode == 1
    cli("start", "pro", "--password-file", "-", stdin=PASSWORD.encode())
    yield Locked(cli, since, everything(cli.paths))
    cli("stop", "pro")
    cli("password", "remove", "pro", "--password-file", "-", stdin=PASSWORD.encode())


def everything(paths: Paths) -> Needles:
    """All that nobody may find, in all forms: of the chip, of its owner, of the authority."""
    state = paths.workstation("pro").state_folder
    secrets = read_secrets(state, password=PASSWORD.encode())
    contents = read_contents((state / "vault.sealed").read_bytes(), sealing_key(state))
    keys = {name: key for name, key in secrets.items() if name not in PRIVATE}
    keys["class_key"] = class_key(contents, password=PASSWORD.encode())
    found = {**needles.of_text("password", PASSWORD), **needles.of_text("wrong password", WRONG)}
    for name, key in keys.items():
        found |= needles.of_key(name, key)
    for name in PRIVATE:
        found |= needles.of_private_key(name, secrets[name])
    return found | authority_needles(paths)


def authority_needles(paths: Paths) -> Needles:
    """The authority's private keys."""
    found: Needles = {}
    for name, key in private_keys(paths.authority).items():
        found |= needles.of_private_key(name, key)
    return found


def test_no_process_has_a_key_or_a_password(locked: Locked) -> None:
    """The guest plants a word in its own memory, which the search of QEMU must find."""
    planted = b"planted-" + base64.b16encode(bytes(range(16)))
    locked.cli.shell("sh", "-c", f"echo {planted.decode()} > /dev/shm/planted")
    sought = {**locked.sought, "planted": planted}
    family = {each.pid: each for each in scan.family(supervisor(locked.cli))}
    looked_into = set()
    for process in scan.processes():
        try:
            name = " ".join(process.cmdline()[:4])
            found = scan.found_in_process(process.pid, sought)
        except (OSError, psutil.NoSuchProcess):
            # It has ended since; none of the workstation's has, as is seen below.
            continue
        keys = {place for place in found if place[0] != "planted"}
        assert not keys, f"{name}: {keys}"
        if process.pid in family and "qemu-system" in name:
            assert ("planted", "memory") in found
        looked_into.add(process.pid)
    unseen = {each.name() for pid, each in family.items() if pid not in looked_into}
    assert unseen == set(SILICON)


def test_no_file_argument_or_log_has_a_key_or_a_password(locked: Locked, tmp_path: Path) -> None:
    """In the home, and in temporary folders written to since; key files have their own keys."""
    paths = locked.cli.paths
    found = scan.found_in_files([locked.cli.home], locked.sought)
    key_file = str(paths.workstation("pro").state_folder / "sealing.key")
    authority_file = str(paths.authority / "authority.keys")
    of_authority = {place for place in found if place[1] == authority_file}
    assert found - of_authority == {("sealing_key", key_file)}
    names = {name for name, _ in of_authority}
    assert {"ticket_key d, big endian", "vendor_key p, big endian"} <= names
    assert names <= authority_needles(paths).keys()
    assert scan.found_in_temporary_files(locked.since, locked.sought, but=tmp_path) == set()


def test_the_search_finds_what_a_naive_chip_would_leave(locked: Locked, tmp_path: Path) -> None:
    """Keys in a file, an argument, an environment, a cipher in use; a password in Python."""
    key = next(iter(needles.of_key("disk", bytes(range(7, 39))).values()))
    sought = {**needles.of_key("disk", key), **needles.of_text("password", PASSWORD)}
    (tmp_path / "key.bin").write_bytes(bytes(5_000_000) + key)
    (tmp_path / "log").write_text(f"the password was {PASSWORD}\n", "utf-16")
    assert {
        ("disk", str(tmp_path / "key.bin")),
        ("password, UTF-16", str(tmp_path / "log")),
    } <= scan.found_in_files([tmp_path], sought)
    code = (
        "import sys\n"
        "from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes\n"
        "cipher = Cipher(algorithms.AES(bytes(range(7, 39))), modes.ECB())\n"
        "ways = cipher.encryptor(), cipher.decryptor()\n"
        "del cipher\n"
        "typed = sys.stdin.readline()\n"
        "print(flush=True)\n"
        "sys.stdin.readline()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, key.hex()],
        env={"KEY": base64.b64encode(key).decode()},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as naive:
        assert naive.stdin is not None
        assert naive.stdout is not None
        naive.stdin.write(f"{PASSWORD}\n")
        naive.stdin.flush()
        naive.stdout.readline()
        assert naive.pid in {each.pid for each in scan.processes()}
        found = scan.found_in_process(naive.pid, sought)
        naive.kill()
    assert {
        ("disk, hex", "cmdline"),
        ("disk, base64", "environ"),
        ("disk, schedule for encrypting", "memory"),
        ("disk, schedule for decrypting", "memory"),
        ("password, UTF-8", "memory"),
    } <= found


def test_the_event_log_says_of_a_secret_only_that_there_was_one(locked: Locked) -> None:
    events = json.dumps(locked.cli.events())
    assert "password" in events
    assert PASSWORD not in events
    assert WRONG not in events
