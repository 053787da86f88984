"""Passwords and recovery at the mailbox, with the real vault and the real disk."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from spacegray.chip.client import ChipClient
from spacegray.chip.launch import launch
from spacegray.chip.modules import NAMES
from spacegray.chip.refusal import ChipRefusalError
from spacegray.nbd import NbdClient
from spacegray.paths import WorkstationPaths
from tests.support.chip import believed, born, workstation
from tests.support.vaultd import secret

SIZE_BYTES = 64 * 1024**2
PASSWORD, OTHER = b"correct horse", b"battery staple"
KEPT = b"what the owner wrote".ljust(512)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a workstation lies whose chip has a disk with something on it, and PASSWORD."""
    made = tmp_path_factory.mktemp("made") / "home"
    with born(workstation(made)) as chip, chip.client() as client:
        client.create_disk(SIZE_BYTES)
        with NbdClient(client.open_disk("nbd")) as disk:
            disk.write(0, KEPT)
            disk.flush()
        client.close_disk()
        with secret(PASSWORD) as new:
            client.set_password(new)
    return made


def refused(action: Callable[..., Any], *texts: bytes, **how: Any) -> ChipRefusalError:
    """The refusal of an action with secrets of these texts."""
    with pytest.raises(ChipRefusalError) as caught:
        given(action, *texts, **how)
    return caught.value


def given(action: Callable[..., Any], *texts: bytes, **how: Any) -> Any:
    """Do something with secrets of these texts."""
    if not texts:
        return action(**how)
    with secret(texts[0]) as first:
        return given(lambda *rest, **how: action(first, *rest, **how), *texts[1:], **how)


def recovery_key(client: ChipClient, *proof: bytes, **how: Any) -> bytes:
    """A new recovery key."""
    reading, writing = os.pipe()
    with open(reading, "rb") as reader:
        try:
            given(
                lambda *proofs, **how: client.make_recovery_key(writing, *proofs, **how),
                *proof,
                **how,
            )
        finally:
            os.close(writing)
        return reader.read()


def content(client: ChipClient, *, adopt: bool = False) -> bytes:
    """What is at the beginning of the disk."""
    with NbdClient(client.open_disk("nbd", adopt=adopt)) as disk:
        found = disk.read(0, len(KEPT))
    client.close_disk()
    return found


def test_a_locked_chip_says_what_it_needs_and_does_all_but_the_disk(client: ChipClient) -> None:
    """Promise: after a power-on the disk opens for the password and for nothing else."""
    shown = client.show()
    assert (shown["needs"], shown["password"], shown["unlocked"]) == (["password"], True, False)
    for action in (client.check_disk, client.prepare_start):
        error = refused(action)
        assert (error.code, error.link) == ("password", "chip")
    assert client.attest(bytes(8))
    given(client.unlock, PASSWORD)
    assert (client.show()["needs"], client.show()["unlocked"]) == ([], True)
    assert content(client) == KEPT


def test_wrong_ones_are_counted_and_made_to_wait(client: ChipClient) -> None:
    """Promise: whoever guesses is told how many tries are left and how long to wait."""
    errors = [refused(client.unlock, b"guess %d" % number) for number in range(4)]
    assert [(each.code, each.left) for each in errors] == [
        ("wrong", 9), ("wrong", 8), ("wrong", 7), ("wait", 7),
    ]  # fmt: skip
    assert errors[0].next_step == "try again"
    assert errors[3].wait_seconds in range(1, 61)
    assert "try again in " in errors[3].next_step
    assert refused(client.unlock, PASSWORD).code == "wait"
    given(client.unlock, PASSWORD, mode="recovery")
    attempts = client.show()["attempts"]
    assert attempts["recovery"]["failures"] == 0
    assert set(attempts) == {"password", "recovery", "recovery_key", "firmware_password"}


def test_a_power_on_does_not_forgive(at: WorkstationPaths) -> None:
    for number in range(3):
        with launch(at) as chip, chip.client() as client:
            refused(client.unlock, b"guess %d" % number)
    with launch(at) as chip, chip.client() as client:
        assert refused(client.unlock, b"one more").code == "wait"


@pytest.mark.parametrize("text", [b"", b"x" * 1025])
def test_what_is_no_password_costs_no_try(client: ChipClient, text: bytes) -> None:
    assert refused(client.unlock, text).code == "secret"
    assert client.show()["attempts"]["password"]["failures"] == 0


def test_a_pipe_whose_writer_is_not_done_blocks_nobody(client: ChipClient) -> None:
    """Promise: the chip never waits for a secret."""
    reading, writing = os.pipe()
    try:
        with pytest.raises(ChipRefusalError) as caught:
            client.unlock(reading)
    finally:
        os.close(reading)
        os.close(writing)
    assert caught.value.code == "secret"


def test_a_password_is_set_once_then_changed_then_removed(at: WorkstationPaths) -> None:
    with launch(at) as chip, chip.client() as client:
        assert "password change" in refused(client.set_password, OTHER).next_step
        assert refused(client.change_password, OTHER, OTHER).code == "wrong"
        given(client.change_password, PASSWORD, OTHER)
    with launch(at) as chip, chip.client() as client:
        assert refused(client.unlock, PASSWORD).code == "wrong"
        given(client.unlock, OTHER)
        given(client.remove_password, OTHER)
        assert refused(client.unlock, OTHER).code == "absent"
    with launch(at) as chip, chip.client() as client:
        assert client.show()["needs"] == []
        assert content(client) == KEPT


def test_a_recovery_key_opens_what_the_password_does(at: WorkstationPaths) -> None:
    """Promise: shown once, 28 characters in groups; a new one voids it."""
    with launch(at) as chip, chip.client() as client:
        assert refused(client.unlock, b"x", with_="recovery_key").code == "absent"
        with pytest.raises(ChipRefusalError) as caught:
            recovery_key(client)
        assert caught.value.code == "unauthorised"
        first = recovery_key(client, PASSWORD).rstrip(b"\n")
        assert [len(group) for group in first.split(b"-")] == [4] * 7
        second = recovery_key(client, PASSWORD).rstrip(b"\n")
    with launch(at) as chip, chip.client() as client:
        assert refused(client.unlock, first, with_="recovery_key").code == "wrong"
        given(client.unlock, second, with_="recovery_key")
        given(client.change_password, second, OTHER, with_="recovery_key")
        assert content(client) == KEPT
    with launch(at) as chip, chip.client() as client:
        given(client.unlock, OTHER)


def test_a_bundle_makes_another_chip_take_the_disk_over(
    at: WorkstationPaths, tmp_path: Path
) -> None:
    """Promise: with the chip lost, recovery key and bundle bring the data back."""
    with launch(at) as chip, chip.client() as client:
        given(client.unlock, PASSWORD)
        assert refused(client.export_recovery).code == "absent"
        key = recovery_key(client, PASSWORD).rstrip(b"\n")
        bundle = tmp_path / "bundle"
        bundle.write_bytes(client.export_recovery())
        old = client.show()
    other = workstation(tmp_path / "other")
    for name in NAMES:
        shutil.copy(at.folder / name, other.folder)
    with launch(other, new=True) as chip, chip.client() as client:

        def adopt(text: bytes, path: Path = bundle) -> str:
            with path.open("rb") as file, secret(text) as recovery:
                return client.adopt_bundle(file.fileno(), recovery, **believed())

        with pytest.raises(ChipRefusalError, match="typing error"):
            adopt(b"no such key")
        with pytest.raises(ChipRefusalError, match="no recovery bundle"):
            adopt(key, at.folder / NAMES[0])
        adopt(key)
        shown = client.show()
        assert shown["ecid"] != old["ecid"]
        assert shown["identity_key"] != old["identity_key"]
        assert (shown["adopting"], shown["password"]) == (True, False)
        assert refused(client.check_disk).link is not None
        assert content(client, adopt=True) == KEPT
        assert content(client) == KEPT
        assert refused(lambda: adopt(key)).code == "exists"


def test_an_older_disk_opens_only_if_its_owner_says_so(
    at: WorkstationPaths, tmp_path: Path
) -> None:
    """Promise: yesterday's backup is refused until the owner authorises it, and that is counted."""
    for name in NAMES:
        shutil.copy(at.folder / name, tmp_path)
    with launch(at) as chip, chip.client() as client:
        given(client.unlock, PASSWORD)
        with NbdClient(client.open_disk("nbd")) as disk:
            disk.write(0, b"today".ljust(512))
            disk.flush()
        client.close_disk()
        for name in NAMES:
            shutil.copy(tmp_path / name, at.folder)
        assert refused(client.check_disk).code == "stale"
        assert refused(client.check_disk, adopt=True).code == "unauthorised"
        assert refused(client.authorise_rollback).code == "unauthorised"
        assert refused(client.authorise_rollback, OTHER).code == "wrong"
        given(client.authorise_rollback, PASSWORD)
        assert content(client, adopt=True) == KEPT
        assert client.show()["rollbacks"] == 1
        assert refused(client.check_disk, adopt=True).code == "unauthorised"
        assert content(client) == KEPT
