"""The client of the vault: real answers are taken, broken ones are one clear error."""

import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from spacegray.chip.messages import AttachMode
from spacegray.chip.vault import BUDGETS, WORDS, Vault, VaultRefusalError
from spacegray.errors import SpacegrayError
from tests.support.chip import StillLoop
from tests.support.vaultd import ROOT, SsdLink, program, secret

PROTOCOL = (ROOT / "docs" / "vault-protocol.md").read_text()

Start = Callable[[Path], Vault]

BROKEN_VAULT = """\
#!{python}
import socket, sys
link = socket.socket(fileno=int(sys.argv[sys.argv.index("--link-fd") + 1]))
link.recv(4096)
answer = {answer!r}
if answer:
    link.send(answer)
    link.recv(4096)
sys.exit("out of order")
"""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    running: list[Vault] = []

    def new(executable: Path) -> Vault:
        vault = Vault(executable, tmp_path, watcher=StillLoop(), ended=lambda _: None)
        running.append(vault)
        return vault

    yield new
    for vault in running:
        vault.stop()


def open_descriptors() -> set[int]:
    """This process's, but for the one that looks."""
    found = [int(path.name) for path in Path("/proc/self/fd").iterdir()]
    return {number for number in found if Path(f"/proc/self/fd/{number}").exists()}


def test_a_chip_keeps_its_identity(start: Start) -> None:
    first = start(program())
    ecid = first.birth("keyfile")
    identity = first.identity()
    first.stop()
    second = start(program())
    assert second.open() == ecid == identity.ecid
    assert second.identity() == identity


def test_a_status_says_all_of_it(start: Start) -> None:
    vault = start(program())
    ecid = vault.birth("keyfile")
    status = vault.status()
    assert (status.ecid, status.life, status.lives) == (ecid, "in use", 1)
    assert (status.seal, status.root, status.policy) == ("keyfile", "software", "full")
    there = (status.password, status.recovery_key, status.adopting, status.put_back)
    assert there == (False, False, False, False)
    assert set(status.attempts) == set(BUDGETS)
    assert {each.left for each in status.attempts.values()} == {10}


def test_the_ssd_is_linked_to_the_vault_and_to_nobody_else(start: Start) -> None:
    vault = start(program())
    vault.birth("keyfile")
    before = open_descriptors()
    descriptor = vault.attach_ssd("open")
    assert open_descriptors() == before | {descriptor}
    assert not os.get_inheritable(descriptor)
    with SsdLink(descriptor) as ssd:
        assert len(ssd.volume_key()) == 32
        with pytest.raises(VaultRefusalError) as caught:
            vault.attach_ssd("format")
        assert caught.value.code == "attached"
        assert open_descriptors() == before | {descriptor}
    os.close(vault.attach_ssd("open"))


def test_a_new_key_is_another_one_and_stays(start: Start) -> None:
    modes: tuple[AttachMode, ...] = ("open", "open", "format", "open")
    first = start(program())
    first.birth("keyfile")
    keys = []
    for mode in modes:
        with SsdLink(first.attach_ssd(mode)) as ssd:
            keys.append(ssd.volume_key())
    first.stop()
    second = start(program())
    second.open()
    with SsdLink(second.attach_ssd("open")) as ssd:
        keys.append(ssd.volume_key())
    assert keys[0] == keys[1] != keys[2] == keys[3] == keys[4]


def test_a_signature_is_the_vaults(start: Start) -> None:
    vault = start(program())
    vault.birth("keyfile")
    assert vault.identity().db in vault.sign_image(bytes(32))


def test_secrets_are_passed_on_and_never_read(start: Start) -> None:
    """Promise: a secret goes to the vault as the descriptor that it came in."""
    vault = start(program())
    vault.birth("keyfile")
    before = open_descriptors()
    with secret(b"password") as new:
        vault.set_password(new)
        assert os.read(new, 10) == b"", "the vault has not read it"
    with secret(b"password") as proof:
        vault.unlock("password", "normal", proof)
    assert open_descriptors() == before


@pytest.mark.parametrize(
    ("code", "action"),
    [
        ("unborn", Vault.open),
        ("locked", Vault.identity),
        ("locked", Vault.status),
        ("locked", Vault.erase),
        ("locked", lambda vault: vault.attach_ssd("open")),
        ("malformed", lambda vault: vault.sign_image(b"too short")),
        ("tpm", lambda vault: vault.birth("tpm2")),
    ],
)
def test_refusals_keep_their_code(
    start: Start, code: str, action: Callable[[Vault], object]
) -> None:
    with pytest.raises(VaultRefusalError) as caught:
        action(start(program()))
    assert caught.value.code == code
    assert caught.value.link == "chip"


def test_every_refusal_of_the_vault_that_has_words_is_one_of_its() -> None:
    """Promise: no word of the vault's protocol is misspelt here."""
    listed = re.findall(r"^\| `(\w+)` \|", PROTOCOL.partition("## Refusals")[2], re.MULTILINE)
    assert set(WORDS) <= set(listed)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\xff",
        b"\x80",
        bytes(5000),
        b"\xa1\x62ok\xf5",
        b"\xa2\x62ok\xf5\x64ecid\x61x",
        b"\xa2\x62ok\xf5\x64ecid\xc2\x49" + b"\xff" * 9,
    ],
)
def test_a_vault_out_of_order_is_one_clear_error(
    start: Start, tmp_path: Path, answer: bytes
) -> None:
    broken = tmp_path / "broken"
    broken.write_text(BROKEN_VAULT.format(python=sys.executable, answer=answer))
    broken.chmod(0o700)
    with pytest.raises(SpacegrayError) as caught:
        start(broken).open()
    assert caught.value.link == "chip"


def test_a_missing_vault_is_one_clear_error(start: Start, tmp_path: Path) -> None:
    with pytest.raises(SpacegrayError, match="No such file"):
        start(tmp_path / "vaultd")
