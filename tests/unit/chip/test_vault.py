"""The client of the vault: real answers are taken, broken ones are one clear error."""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from spacegray.chip.vault import Vault, VaultRefusalError
from spacegray.errors import SpacegrayError
from tests.support.chip import StillLoop
from tests.support.vaultd import SsdLink, program

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
    ecid = first.birth()
    identity = first.identity()
    first.stop()
    second = start(program())
    assert second.open() == ecid == identity.ecid
    assert second.identity() == identity


def test_the_ssd_is_linked_to_the_vault_and_to_nobody_else(start: Start) -> None:
    vault = start(program())
    vault.birth()
    before = open_descriptors()
    descriptor = vault.attach_ssd(new_key=False)
    assert open_descriptors() == before | {descriptor}
    assert not os.get_inheritable(descriptor)
    with SsdLink(descriptor) as ssd:
        assert len(ssd.volume_key()) == 32
        with pytest.raises(VaultRefusalError) as caught:
            vault.attach_ssd(new_key=True)
        assert caught.value.code == "attached"
        assert open_descriptors() == before | {descriptor}
    os.close(vault.attach_ssd(new_key=False))


def test_a_new_key_is_another_one_and_stays(start: Start) -> None:
    first = start(program())
    first.birth()
    keys = []
    for new_key in (False, False, True, False):
        with SsdLink(first.attach_ssd(new_key)) as ssd:
            keys.append(ssd.volume_key())
    first.stop()
    second = start(program())
    second.open()
    with SsdLink(second.attach_ssd(new_key=False)) as ssd:
        keys.append(ssd.volume_key())
    assert keys[0] == keys[1] != keys[2] == keys[3] == keys[4]


def test_a_signature_is_the_vaults(start: Start) -> None:
    vault = start(program())
    vault.birth()
    assert vault.identity().db in vault.sign_image(bytes(32))


@pytest.mark.parametrize(
    ("code", "action"),
    [
        ("unborn", Vault.open),
        ("locked", Vault.identity),
        ("locked", lambda vault: vault.attach_ssd(new_key=False)),
        ("malformed", lambda vault: vault.sign_image(b"too short")),
    ],
)
def test_refusals_keep_their_code(
    start: Start, code: str, action: Callable[[Vault], object]
) -> None:
    with pytest.raises(VaultRefusalError) as caught:
        action(start(program()))
    assert caught.value.code == code
    assert caught.value.link == "chip"


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
