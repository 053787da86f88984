"""The chip's life at its mailbox, with the real vault and the real controller of the disk."""

import os
import select
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cbor2
import pytest

from spacegray.chip import attestation
from spacegray.chip.client import ChipClient, Erased
from spacegray.chip.launch import launch
from spacegray.chip.modules import NAMES
from spacegray.chip.refusal import ChipRefusalError
from spacegray.chip.starting import LINKS_LIMIT
from spacegray.nbd import NbdClient
from spacegray.paths import WorkstationPaths
from tests.support.authority import another_authority
from tests.support.chip import believed, born, copy, fill, let_in, workstation
from tests.support.vaultd import secret

SIZE_BYTES = 64 * 1024**2
PASSPHRASE = b"four words and a dog"
PATIENCE_SECONDS = 10.0


@pytest.fixture
def at(tmp_path: Path) -> WorkstationPaths:
    """A workstation without a chip."""
    return workstation(tmp_path)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a workstation lies whose chip was born and has a disk."""
    made = tmp_path_factory.mktemp("made") / "home"
    with born(workstation(made)) as chip, chip.client() as connected:
        connected.create_disk(SIZE_BYTES)
    return made


@pytest.fixture
def with_disk(home: Path, tmp_path: Path) -> WorkstationPaths:
    """A copy of that workstation, for one test to do with as it likes."""
    return copy(home, tmp_path / "copy")


@pytest.fixture
def client(with_disk: WorkstationPaths) -> Iterator[ChipClient]:
    """The mailbox of that chip."""
    with launch(with_disk) as chip, chip.client() as connected:
        yield connected


def refused(action: Callable[[], Any]) -> ChipRefusalError:
    with pytest.raises(ChipRefusalError) as caught:
        action()
    return caught.value


def test_a_new_chip_answers_what_makes_or_ends_one(at: WorkstationPaths) -> None:
    """Promise: nothing is done with keys that are not there yet; asking says so."""
    with launch(at, new=True) as chip, chip.client() as client:
        shown = client.show()
        assert (shown["state"], shown["ecid"], shown["needs"]) == ("new", None, [])
        assert (shown["attempts"], shown["holds"], shown["life"]) == ({}, [], None)
        for action in (client.check_disk, client.erase, client.export_recovery):
            assert refused(action).code == "state"
        ecid = client.birth(**believed())
        assert client.show()["ecid"] == ecid
        assert (client.show()["state"], client.show()["lives"]) == ("open", 1)
        assert refused(lambda: client.birth(**believed())).code == "exists"


def test_a_passphrase_is_needed_at_each_power_on(at: WorkstationPaths) -> None:
    """Promise: until it is given, the chip says who it is and nothing else."""
    with born(at, seal="passphrase", passphrase=PASSPHRASE) as chip, chip.client() as client:
        client.create_disk(SIZE_BYTES)
        ecid = client.show()["ecid"]
    with launch(at) as chip, chip.client() as client:
        shown = client.show()
        assert (shown["state"], shown["needs"], shown["ecid"]) == ("sealed", ["passphrase"], ecid)
        assert (shown["seal"], shown["identity_key"], shown["password"]) == (
            "passphrase", None, None,
        )  # fmt: skip
        assert "the passphrase" in refused(client.prepare_start).next_step
        with secret(b"another") as wrong:
            error = refused(lambda: client.unseal(wrong))
        assert (error.code, error.stopped_by) == ("passphrase", "this is not the passphrase")
        assert client.show()["state"] == "sealed"
        with secret(PASSPHRASE) as right:
            client.unseal(right)
        assert (client.show()["state"], client.show()["needs"]) == ("open", [])
        client.prepare_start().close()
        with secret(PASSPHRASE) as again:
            assert refused(lambda: client.unseal(again)).code == "state"


def test_a_birth_that_was_cut_off_is_completed_under_its_passphrase(at: WorkstationPaths) -> None:
    with born(at, seal="passphrase", passphrase=PASSPHRASE) as chip, chip.client() as client:
        ecid = client.show()["ecid"]
    (at.state_folder / "chip.json").unlink()
    with launch(at, new=True) as chip, chip.client() as client, secret(PASSPHRASE) as given:
        other = believed(another_authority())
        error = refused(lambda: client.birth(**other, seal="passphrase", passphrase=given))
        assert (error.code, client.show()["state"]) == ("exists", "new")
    completed = born(at, seal="passphrase", passphrase=PASSPHRASE, system=False)
    with completed as chip, chip.client() as client:
        assert client.show()["ecid"] == ecid


State = Callable[[ChipClient, WorkstationPaths], object]


def closed(_: ChipClient, __: WorkstationPaths) -> None: ...


def opened(client: ChipClient, _: WorkstationPaths) -> object:
    return client.check_disk()


def served(client: ChipClient, _: WorkstationPaths) -> object:
    disk = NbdClient(client.open_disk("nbd"))
    disk.write(0, b"secret".ljust(512))
    disk.flush()
    return disk


def missing(_: ChipClient, at: WorkstationPaths) -> None:
    for name in NAMES:
        (at.folder / name).unlink()


def damaged(_: ChipClient, at: WorkstationPaths) -> None:
    for name in NAMES:
        (at.folder / name).write_bytes(b"rubbish")


@pytest.mark.parametrize("state", [closed, opened, served, missing, damaged])
def test_erasing_works_whatever_state_the_disk_is_in(
    client: ChipClient, with_disk: WorkstationPaths, state: State
) -> None:
    """Promise: erase asks for nothing; afterwards no key to the disk is left."""
    disk, at = state(client, with_disk), with_disk
    erased = client.erase()
    assert erased.milliseconds > 0
    paths = [] if state is missing else [str(at.folder / name) for name in NAMES]
    assert [each.path for each in erased.modules] == paths
    shown = client.show()
    assert (shown["life"], shown["password"], shown["disk"]["state"]) == (
        "erased", False, "none" if state is missing else "off",
    )  # fmt: skip
    refused(client.check_disk)
    client.erase_disk(SIZE_BYTES)
    with NbdClient(client.open_disk("nbd")) as empty:
        assert empty.read(0, 512) == bytes(512)
    assert client.show()["life"] == "in use"
    if isinstance(disk, NbdClient):
        disk.__exit__()


def test_a_served_disk_is_cut_off_at_once(client: ChipClient) -> None:
    """Promise: whoever had the disk open gets a power cut, not one more block."""
    connection = client.open_disk("nbd")
    client.erase()
    assert ended(connection)


def ended(connection: socket.socket) -> bool:
    """Whether the other side hangs up, after whatever it has still to say."""
    while select.select([connection], [], [], PATIENCE_SECONDS)[0]:
        try:
            if not connection.recv(65536):
                return True
        except ConnectionError:
            return True
    return False


def test_a_receipt_names_what_was_destroyed(client: ChipClient) -> None:
    """Promise: the owner can show what was erased, signed by this very chip."""
    key = client.show()["identity_key"].encode()
    first, second = client.erase(), client.erase()
    receipt = attestation.verify_receipt(first.receipt, key_pem=key)
    assert receipt.key_is_known
    assert receipt.ecid == client.show()["ecid"]
    assert any("media key" in each.what for each in receipt.destroyed)
    assert first.receipt != second.receipt
    assert isinstance(first, Erased)


def test_erasing_forgets_the_password(client: ChipClient) -> None:
    with secret(b"password") as new:
        client.set_password(new)
    client.erase()
    shown = client.show()
    assert (shown["password"], shown["recovery_key"], shown["needs"]) == (False, False, [])


def test_a_restored_chip_begins_a_new_life(client: ChipClient, with_disk: WorkstationPaths) -> None:
    """Promise: the same chip, with nothing of what it kept or let in, and another authority."""
    at, other = with_disk, another_authority()
    before = client.show()
    client.prepare_start().close()
    restored = client.restore(**believed(other))
    after = client.show()
    assert restored.ecid == after["ecid"] == before["ecid"]
    assert after["identity_key"] == before["identity_key"]
    assert (after["lives"], after["slots"], after["boot"]) == (2, {"a": None, "b": None}, None)
    assert (after["firmware_source"], after["firmware_sha256"]) == (None, None)
    receipt = attestation.verify_receipt(restored.receipt)
    assert receipt.ecid == before["ecid"]
    refused(client.check_disk)
    client.erase_disk(SIZE_BYTES)
    assert refused(client.prepare_start).code == "no_ticket"
    assert refused(lambda: let_in(client)).code == "ticket"
    newer = at.slot("a").firmware.read_bytes() + b"newer"
    at.slot("a").firmware.write_bytes(newer)
    let_in(client, authority=other, source="a newer ovmf")
    assert client.show()["firmware_source"] == "a newer ovmf"
    with client.prepare_start() as start:
        assert os.pread(start.firmware, len(newer) + 1, 0) == newer


@pytest.mark.parametrize("new", [False, True])
def test_a_destroyed_chip_is_gone(at: WorkstationPaths, new: bool) -> None:
    """Promise: nothing is asked for, opened or not; what is left cannot be opened again."""
    with born(at, seal="passphrase", passphrase=PASSPHRASE) as chip, chip.client() as client:
        client.create_disk(SIZE_BYTES)
    with launch(at, new=new) as chip, chip.client() as client:
        client.destroy()
        assert client.show()["state"] == "new"
        assert refused(client.check_disk).code == "state"
    assert refused(lambda: launch(at)).code == "unborn"
    with born(at) as chip, chip.client() as client:
        assert refused(client.check_disk).link == "disk"


def test_destroying_works_while_the_disk_is_served(client: ChipClient) -> None:
    connection = client.open_disk("nbd")
    client.destroy()
    assert ended(connection)


def test_a_statement_says_what_may_start_and_what_was_seen(client: ChipClient) -> None:
    """Promise: signed for the asker's nonce; of the software it says the tickets and the start."""
    shown, nonce = client.show(), b"a nonce of the asker"
    key = shown["identity_key"].encode()
    said = attestation.verify(client.attest(nonce), key_pem=key, nonce=nonce)
    assert said.key_is_known
    assert (said.ecid, said.root, said.life) == (shown["ecid"], "software", "in use")
    software = said.authorised_by_firmware
    assert (software["chip_firmware"], software["current"]) == (shown["version"], "a")
    assert (software["start"], software["trying"]) == (None, False)
    (system,) = software["systems"].values()
    components = {name: digest.hex() for name, digest in system.pop("components").items()}
    assert system | components == shown["slots"]["a"]
    client.prepare_start().close()
    client.report("kernel", "failed", "it was refused")
    start = attestation.verify(client.attest(nonce)).authorised_by_firmware["start"]
    assert start == {
        "target": "main",
        "slot": "a",
        "trying": False,
        "policy": "full",
        "since": int(client.show()["boot"]["since"]),
        "links": {"chip": "ok", "firmware": "ok", "disk": "ok", "kernel": "failed"},
    }


def test_a_statement_has_room_for_all_that_is_remembered(
    client: ChipClient, with_disk: WorkstationPaths
) -> None:
    """Promise: however long the words and many the links, it can be made."""
    fill(with_disk, "b")
    let_in(client, "b", source="\N{SNOWMAN}" * 200, tries=1)
    client.prepare_start().close()
    for number in range(LINKS_LIMIT + 2):
        client.report("abcdefghijklmno" + chr(ord("a") + number), "failed", "x" * 500)
    said = attestation.verify(client.attest(bytes(64))).authorised_by_firmware
    assert len(said["start"]["links"]) == LINKS_LIMIT
    assert (said["trying"], said["systems"].keys()) == (True, {"a", "b"})


def test_what_is_said_of_the_software_is_deterministic_cbor(client: ChipClient) -> None:
    statement = cbor2.loads(client.attest(bytes(8)))
    claims = cbor2.loads(statement.value[2])
    (embedded,) = (each.value for each in claims.values() if isinstance(each, cbor2.CBORTag))
    assert cbor2.dumps(cbor2.loads(embedded), canonical=True) == embedded
