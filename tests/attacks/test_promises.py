"""The design's table, line by line and seal by seal: what holds is attacked, what fails is shown.

docs/threat-model.md names a test of these, or of `test_confined` and `test_chip_mailbox_strangers`,
for each cell. What a cell says is `spacegray.chip.promises`; `chip show` says it to the owner.
"""

import shutil
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from spacegray.chip.launch import launch
from spacegray.chip.modules import NAMES
from spacegray.chip.refusal import ChipRefusalError
from spacegray.errors import SpacegrayError
from tests.support import owned as support
from tests.support import ssd, vault_store
from tests.support.chip import born, workstation
from tests.support.owned import PASSPHRASE, SEALS, Owned, owned
from tests.support.scan import found_in_files
from tests.support.tpm import emulated_tpm

GUESS_MEMORY_LEAST_KIB = 19 * 1024
"""What OWASP and RFC 9106 ask of Argon2id at the least; in fact it is more."""


@pytest.fixture(scope="module", params=SEALS)
def first(request: pytest.FixtureRequest, tmp_path_factory: Any) -> Iterator[Owned]:
    """A workstation with generation 1 on its disk; its home is never opened again."""
    with owned(request.param, tmp_path_factory.mktemp("promises") / "home") as it:
        yield it


@pytest.fixture
def it(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Owned]:
    """One of its own for a test that changes what cannot be copied: the TPM."""
    with owned(request.param, tmp_path / "home") as it:
        yield it


each_seal = pytest.mark.parametrize("it", SEALS, indirect=True)


# Modules or workstation folder copied, stolen, put back


def test_a_copied_workstation_folder_is_noise(first: Owned, tmp_path: Path) -> None:
    """Another account or host has all of it but the state folder."""
    secrets = ssd.content(1, 7)
    assert not found_in_files([first.at.folder], {"plain": secrets})
    thief = workstation(tmp_path / "thief")
    shutil.rmtree(thief.folder)
    shutil.copytree(first.at.folder, thief.folder)
    with pytest.raises(ChipRefusalError) as caught, launch(thief):
        pass
    assert caught.value.code == "unborn"
    # Nor with a chip of the thief's own.
    with born(thief) as chip, chip.client() as client:
        with pytest.raises(SpacegrayError):
            client.check_disk()
        for name in NAMES:
            assert (thief.folder / name).read_bytes() == (first.at.folder / name).read_bytes()


@each_seal
def test_modules_put_back_are_refused_and_the_way_back_is_said(it: Owned, tmp_path: Path) -> None:
    kept = ssd.keep(it.at, tmp_path / "kept")
    it.fill(2)
    newest = ssd.keep(it.at, tmp_path / "newest")
    ssd.put_back(it.at, kept, 0, 1)
    refusal = it.refusal()
    assert "older than the chip remembers" in refusal.stopped_by
    assert "ssd accept" in refusal.next_step
    ssd.put_back(it.at, newest, 0, 1)
    assert it.generation() == 2


# The whole home or host disk copied


@each_seal
def test_the_whole_home_copied(it: Owned, tmp_path: Path) -> None:
    """On another host, which has another TPM. The key file's holder has it all; a passphrase has
    to be guessed; a TPM's secret is not there.
    """
    with emulated_tpm() as another:
        tpm = None if it.tpm is None else another
        copy = it.copied(tmp_path / "copy")
        thief = Owned(it.seal, copy.home, copy.at, tpm)
        match it.seal:
            case "keyfile":
                assert thief.generation() == 1
                assert vault_store.read_secrets(thief.at.state_folder)["volume_key"]
            case "passphrase":
                with pytest.raises(vault_store.StoreError):
                    vault_store.read_secrets(thief.at.state_folder)
                with pytest.raises(ChipRefusalError) as caught, thief.chip(b"a guess"):
                    pass
                assert caught.value.code == "passphrase"
                # A right guess is all that it takes, at this price for each.
                store = (thief.at.state_folder / "vault.sealed").read_bytes()
                memory, passes = struct.unpack_from(">II", vault_store.header(store).parameters, 32)
                assert memory >= GUESS_MEMORY_LEAST_KIB
                assert passes >= 1
                state = thief.at.state_folder
                assert vault_store.read_secrets(state, passphrase=PASSPHRASE)["volume_key"]
                assert thief.generation() == 1
            case "tpm2":
                with pytest.raises(vault_store.StoreError):
                    vault_store.read_secrets(thief.at.state_folder)
                thief.refused("sealed", "put_back", "tpm")
    assert it.generation() == 1


# The whole host disk put back to an older day


@each_seal
def test_the_whole_disk_put_back(it: Owned, tmp_path: Path) -> None:
    """Without a TPM nothing tells; with one it is told, and the chip refuses."""
    yesterday = it.copied(tmp_path / "yesterday")
    it.fill(2)
    shutil.rmtree(it.home)
    yesterday.home.rename(it.home)
    if it.seal == "tpm2":
        it.refused("put_back", "sealed")
    else:
        assert it.generation() == 1


# Erase, against copies made before


@each_seal
def test_everything_put_back_after_an_erase(it: Owned, tmp_path: Path) -> None:
    """What was copied before an erase opens again, unless the secret was in the TPM."""
    before = it.copied(tmp_path / "before")
    store = (it.at.state_folder / "vault.sealed").read_bytes()
    with it.mailbox() as client:
        client.erase()
        assert client.show()["life"] == "erased"
    sealed = store[vault_store.HEADER.size :][: vault_store.header(store).contents_size]
    assert not found_in_files([it.home], {"store": sealed}), "the old store was not written over"
    # What is left in place opens nothing, whatever the copies do.
    assert isinstance(it.refusal(), SpacegrayError)
    shutil.rmtree(it.home)
    before.home.rename(it.home)
    if it.seal == "tpm2":
        it.refused("put_back", "sealed")
        with pytest.raises(vault_store.StoreError):
            vault_store.read_secrets(it.at.state_folder)
    else:
        assert it.generation() == 1


# Root on the host, or its owner's own account, while the machine runs


def test_the_owners_own_account_reads_the_open_disk(first: Owned, tmp_path: Path) -> None:
    """Whoever is the owner may ask the chip, as the owner's own tools do."""
    it = first if first.seal == "tpm2" else first.copied(tmp_path / "home")
    with it.chip() as chip, chip.client() as owner:
        owner.check_disk()
        with chip.client() as another:
            another.close_disk()
            assert support.on_disk(another) == 1
            another.close_disk()
