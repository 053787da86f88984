"""The chip's life at its mailbox, with the real vault and the real controller of the disk."""

import json
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
from spacegray.chip.manifest import SIGNED_LIMIT
from spacegray.chip.modules import NAMES
from spacegray.chip.refusal import ChipRefusalError
from spacegray.nbd import NbdClient
from spacegray.paths import WorkstationPaths
from tests.support.chip import born, copy, unsigned_image, workstation
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
        ecid = client.birth("ovmf of this host")
        assert client.show()["ecid"] == ecid
        assert (client.show()["state"], client.show()["lives"]) == ("open", 1)
        assert refused(lambda: client.birth("again")).code == "exists"


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
    with born(at, seal="passphrase", passphrase=PASSPHRASE) as chip, chip.client() as client:
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
    """Promise: the same chip, with nothing of what it kept or signed; a newer firmware if said."""
    at = with_disk
    before, image = client.show(), unsigned_image(b"kernel" * 100)
    client.sign_bytes(image)
    with client.prepare_start() as start:
        variables = os.pread(start.variables, 2**20, 0)
    client.close_disk()
    newer = at.firmware.read_bytes() + b"newer"
    at.firmware.write_bytes(newer)
    assert refused(client.prepare_start).link == "firmware"
    restored = client.restore("a newer ovmf")
    after = client.show()
    assert restored.ecid == after["ecid"] == before["ecid"]
    assert after["identity_key"] == before["identity_key"]
    assert (after["lives"], after["firmware_source"]) == (2, "a newer ovmf")
    receipt = attestation.verify_receipt(restored.receipt)
    assert receipt.ecid == before["ecid"]
    refused(client.check_disk)
    client.erase_disk(SIZE_BYTES)
    with client.prepare_start() as start:
        assert os.pread(start.firmware, len(newer) + 1, 0) == newer
        assert os.pread(start.variables, 2**20, 0) != variables, "the old certificates are trusted"
    assert boot_images(client) == []


def test_restoring_without_a_source_keeps_the_firmware(client: ChipClient) -> None:
    before = client.show()
    client.restore()
    assert client.show()["firmware_sha256"] == before["firmware_sha256"]
    assert client.show()["firmware_source"] == before["firmware_source"]


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


def test_a_statement_says_what_the_chip_authorised(client: ChipClient) -> None:
    """Promise: signed for the asker's nonce; the same chip says the same of its software."""
    shown, nonce = client.show(), b"a nonce of the asker"
    client.sign_bytes(unsigned_image(b"kernel" * 100))
    key = shown["identity_key"].encode()
    said = [attestation.verify(client.attest(nonce), key_pem=key, nonce=nonce) for _ in range(2)]
    assert said[0].key_is_known
    assert (said[0].ecid, said[0].root, said[0].life) == (shown["ecid"], "software", "in use")
    software = said[0].authorised_by_firmware
    assert software == said[1].authorised_by_firmware
    assert (software["chip_firmware"], software["machine_firmware"]) == (
        shown["version"], shown["firmware_source"],
    )  # fmt: skip
    firmware, template, kernel = software["authorised"]
    assert firmware["component"] == "firmware image"
    assert firmware["sha256"].hex() == shown["firmware_sha256"]
    assert (template["component"], kernel["component"]) == ("variable template", "boot image")
    assert firmware["since"] <= kernel["since"]


def boot_images(client: ChipClient) -> list[dict[str, Any]]:
    """The boot images that a statement names."""
    said = attestation.verify(client.attest(bytes(8)))
    authorised: list[dict[str, Any]] = said.authorised_by_firmware["authorised"]
    return [each for each in authorised if each["component"] == "boot image"]


def test_a_statement_has_room_for_all_that_is_remembered(at: WorkstationPaths) -> None:
    """Promise: after any number of images it names the newest and counts the others."""
    with born(at, source="\N{SNOWMAN}" * 200) as chip, chip.client() as client:
        for number in range(SIGNED_LIMIT + 2):
            client.sign_bytes(unsigned_image(b"kernel %d" % number))
        said = attestation.verify(client.attest(bytes(64))).authorised_by_firmware
        assert len(boot_images(client)) == SIGNED_LIMIT
        assert said["authorised_earlier"] == 2
    kept = json.loads((at.state_folder / "chip.json").read_text())
    assert len(kept["signed"]) == SIGNED_LIMIT


def test_what_is_said_of_the_software_is_deterministic_cbor(client: ChipClient) -> None:
    statement = cbor2.loads(client.attest(bytes(8)))
    claims = cbor2.loads(statement.value[2])
    (embedded,) = (each.value for each in claims.values() if isinstance(each, cbor2.CBORTag))
    assert cbor2.dumps(cbor2.loads(embedded), canonical=True) == embedded
