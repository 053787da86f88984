"""The client of the vault: real answers are taken, broken ones are one clear error."""

import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import cbor2
import msgspec
import pytest

from spacegray.chip.messages import AttachMode
from spacegray.chip.vault import BUDGETS, Vault, VaultRefusalError
from spacegray.chip.vault_words import WORDS
from spacegray.errors import SpacegrayError
from spacegray.paths import Slot
from tests.support.authority import EPOCH, PRODUCT, components, the_authority
from tests.support.chip import StillLoop
from tests.support.vaultd import ROOT, SsdLink, program, secret

PROTOCOL = (ROOT / "docs" / "vault-protocol.md").read_text()

PINS = (the_authority().ticket_key, the_authority().vendor)
SLOTS: tuple[tuple[Slot, int], ...] = (("a", 0), ("b", 2))

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
    ecid = first.birth("keyfile", *PINS)
    identity = first.identity()
    first.stop()
    second = start(program())
    assert second.open() == ecid == identity.ecid
    assert second.identity() == identity


def test_a_status_says_all_of_it(start: Start) -> None:
    vault = start(program())
    ecid = vault.birth("keyfile", *PINS)
    status = vault.status()
    assert (status.ecid, status.life, status.lives) == (ecid, "in use", 1)
    assert (status.seal, status.root, status.policy) == ("keyfile", "software", "full")
    there = (status.password, status.recovery_key, status.adopting, status.put_back)
    assert there == (False, False, False, False)
    assert set(status.attempts) == set(BUDGETS)
    assert {each.left for each in status.attempts.values()} == {10}


def test_the_ssd_is_linked_to_the_vault_and_to_nobody_else(start: Start) -> None:
    vault = start(program())
    vault.birth("keyfile", *PINS)
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
    first.birth("keyfile", *PINS)
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


def test_a_system_is_let_in_by_its_ticket_and_started(start: Start) -> None:
    vault = start(program())
    ecid = vault.birth("keyfile", *PINS)
    assert vault.identity().vendor == the_authority().vendor
    empty = vault.boot()
    assert (empty.slots, empty.current, empty.target) == ({"a": None, "b": None}, "", "")
    assert (empty.policy, empty.external_boot, empty.other_systems) == ("full", False, False)
    asked = vault.request_ticket(PRODUCT, EPOCH, components())
    assert cbor2.loads(asked)["ecid"] == ecid
    vault.accept_ticket("a", the_authority().sign_ticket(asked))
    started = vault.begin_start("main")
    assert (started.slot, started.trying, started.policy) == ("a", False, "full")
    assert (started.entry.product, started.entry.epoch) == (PRODUCT, EPOCH)
    assert msgspec.structs.asdict(started.entry.components) == components()
    assert vault.boot().minimum_epoch == 0
    vault.came_up()
    after = vault.boot()
    assert (after.minimum_epoch, after.current, after.target) == (EPOCH, "a", "main")
    assert after.slots == {"a": started.entry, "b": None}


def test_a_system_is_tried_and_given_up(start: Start) -> None:
    vault = start(program())
    vault.birth("keyfile", *PINS)
    for slot, tries in SLOTS:
        asked = vault.request_ticket(PRODUCT, EPOCH, components(slot))
        vault.accept_ticket(slot, the_authority().sign_ticket(asked), tries)
    trying = vault.boot()
    assert (trying.current, trying.trying, trying.tries_left) == ("a", True, 2)
    started = vault.begin_start("main")
    assert (started.slot, started.trying, vault.boot().tries_left) == ("b", True, 1)
    vault.give_up()
    assert vault.boot().slots["b"] is None
    assert vault.begin_start("main").slot == "a"


def test_rules_change_in_recovery_and_its_password_is_asked_for(start: Start) -> None:
    vault = start(program())
    vault.birth("keyfile", *PINS)
    vault.accept_ticket(
        "a", the_authority().sign_ticket(vault.request_ticket("pro", 1, components()))
    )
    with secret(b"password") as new:
        vault.set_password(new)
    vault.begin_start("recovery")
    with secret(b"password") as proof:
        vault.unlock("password", "recovery", proof)
    assert vault.boot().owner_present
    vault.set_policy("medium", external_boot=True, other_systems=True)
    with secret(b"firmware") as new:
        vault.set_firmware_password(new)
    vault.keep_variables(b"k" * 32)
    assert not vault.boot().firmware_password_given
    with pytest.raises(VaultRefusalError) as caught:
        vault.begin_start("external")
    assert caught.value.code == "firmware_password"
    with secret(b"firmware") as given:
        vault.check_firmware_password(given)
    started = vault.begin_start("external")
    assert (started.policy, started.external_boot, started.other_systems) == ("medium", True, True)
    assert started.variables == b"k" * 32
    with pytest.raises(VaultRefusalError) as caught:
        vault.remove_firmware_password()
    assert caught.value.code == "not_recovery"


def test_secrets_are_passed_on_and_never_read(start: Start) -> None:
    """Promise: a secret goes to the vault as the descriptor that it came in."""
    vault = start(program())
    vault.birth("keyfile", *PINS)
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
        ("locked", Vault.boot),
        ("locked", lambda vault: vault.begin_start("main")),
        ("malformed", lambda vault: vault.keep_variables(b"too short")),
        ("malformed", lambda vault: vault.birth("keyfile", bytes(91), b"vendor")),
        ("tpm", lambda vault: vault.birth("tpm2", *PINS)),
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
