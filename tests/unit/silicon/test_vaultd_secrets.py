"""The vault's secrets as a process gives and takes them: passwords, recovery key, bundle, seals."""

import os
import re
from pathlib import Path
from typing import Any

import pytest

from tests.support.vault_store import read_secrets
from tests.support.vaultd import Vaultd, opened, pins, secret, vaultd

RIGHT = b"correct horse"
RECOVERY_KEY = re.compile(rb"([0-9A-Z]{4}-){6}[0-9A-Z]{4}\n")


def outcome(reply: dict[str, Any]) -> object:
    """The code of a refusal, `ok` for a plain success."""
    return "ok" if reply == {"ok": True} else reply["error"]


def make_recovery_key(chip: Vaultd, *proofs: bytes) -> bytes:
    """A new recovery key, as it came out of the pipe."""
    reader, writer = os.pipe()
    with open(reader, "rb") as end:
        try:
            if proofs:
                with secret(proofs[0]) as proof:
                    reply = chip.ask(
                        "make_recovery_key", writer, proof, **{"with": "password", "mode": "normal"}
                    )
            else:
                reply = chip.ask(
                    "make_recovery_key", writer, **{"with": "password", "mode": "normal"}
                )
        finally:
            os.close(writer)
        assert reply == {"ok": True}, reply
        text = end.read()
    assert RECOVERY_KEY.fullmatch(text), text
    return text.strip()


def export(chip: Vaultd, folder: Path) -> dict[str, Any]:
    """Have a bundle written to `bundle` in the folder."""
    with (folder / "bundle").open("wb") as file:
        return chip.ask("export_recovery", file.fileno())


def test_password_guards_the_disk(tmp_path: Path, chip: Vaultd) -> None:
    """Promise: once set, nothing of the disk is given without it, and its key stays the same."""
    key = read_secrets(tmp_path)["volume_key"]
    assert outcome(chip.give("set_password", RIGHT)) == "ok"
    assert outcome(chip.give("set_password", b"again")) == "exists"
    assert chip.ask("open")["ok"]
    assert chip.ask("status")["unlocked"] is False
    ours, theirs = os.pipe()
    assert outcome(chip.ask("attach_ssd", theirs, mode="open")) == "descriptor"
    os.close(ours)
    os.close(theirs)
    assert outcome(chip.give("unlock", b"guess")) == "wrong"
    assert outcome(chip.give("unlock", RIGHT + b"\nand more\n")) == "ok"
    with chip.attach() as ssd:
        assert ssd.volume_key() == key
    assert outcome(chip.give("change_password", b"guess", b"new")) == "wrong"
    assert outcome(chip.give("change_password", RIGHT, b"new")) == "ok"
    assert outcome(chip.give("unlock", RIGHT)) == "wrong"
    assert outcome(chip.give("remove_password", b"new")) == "ok"
    assert outcome(chip.give("unlock", b"new")) == "absent"
    assert read_secrets(tmp_path)["volume_key"] == key


def test_tries_end(chip: Vaultd) -> None:
    """Promise: three tries, then a wait in which nothing is computed or charged."""
    chip.give("set_password", RIGHT)
    for guess in (b"a", b"a", b"b", b"c"):
        assert outcome(chip.give("unlock", guess)) == "wrong"
    for guess in (b"d", RIGHT, b"c"):
        assert outcome(chip.give("unlock", guess)) == "wait"
    status = chip.ask("status")
    assert (status["password_failures"], status["password_left"]) == (3, 7)
    assert 50 < status["password_wait_seconds"] <= 60
    assert outcome(chip.give("unlock", RIGHT, mode="recovery")) == "ok"


@pytest.mark.parametrize("text", [b"", b"\n", b"x" * 1025, b"nul\0"])
def test_no_secret_is_charged(chip: Vaultd, text: bytes) -> None:
    """Promise: what cannot be a password costs nothing."""
    chip.give("set_password", RIGHT)
    assert outcome(chip.give("unlock", text)) == "secret"
    assert chip.ask("status")["password_failures"] == 0


def test_vault_waits_for_no_writer(chip: Vaultd) -> None:
    """Promise: a pipe that is still open is refused at once, and so is what is no file."""
    chip.give("set_password", RIGHT)
    reader, writer = os.pipe()
    fields = {"with": "password", "mode": "normal"}
    try:
        os.write(writer, b"half a pass")
        assert outcome(chip.ask("unlock", reader, **fields)) == "secret"
    finally:
        os.close(reader)
        os.close(writer)
    with opened(Path("/dev/zero")) as zero, opened(Path("/")) as folder:
        assert outcome(chip.ask("unlock", zero, **fields)) == "secret"
        assert outcome(chip.ask("unlock", folder, **fields)) == "secret"
    assert outcome(chip.ask("unlock", **fields)) == "descriptor"
    assert chip.ask("status")["password_failures"] == 0


def test_recovery_key_opens_and_carries_over(tmp_path: Path, chip: Vaultd) -> None:
    """Promise: it unlocks what a forgotten password locks, here and on a new chip."""
    chip.give("set_password", RIGHT)
    first, key = make_recovery_key(chip, RIGHT), make_recovery_key(chip, RIGHT)
    assert export(chip, tmp_path) == {"ok": True}
    secrets = read_secrets(tmp_path, password=RIGHT)
    assert chip.ask("open")["ok"]
    assert outcome(export(chip, tmp_path / "..")) == "password"
    assert outcome(chip.give("unlock", first, **{"with": "recovery_key"})) == "wrong"
    mistyped = key[:-1] + (b"0" if key[-1:] != b"0" else b"1")
    assert outcome(chip.give("unlock", mistyped, **{"with": "recovery_key"})) == "secret"
    given = {"with": "recovery_key"}
    assert outcome(chip.give("change_password", key.lower(), b"new", **given)) == "ok"
    assert outcome(chip.give("unlock", b"new")) == "ok"
    other = tmp_path / "other"
    other.mkdir()
    with vaultd(other) as new, opened(tmp_path / "bundle") as bundle:
        with secret(first) as wrong:
            assert (
                outcome(new.ask("adopt_bundle", bundle, wrong, seal="keyfile", **pins())) == "wrong"
            )
        os.lseek(bundle, 0, os.SEEK_SET)
        with secret(key) as right:
            assert new.ask("adopt_bundle", bundle, right, seal="keyfile", **pins())["ok"]
        assert new.ask("status")["adopting"] is True
        with new.attach("adopt") as ssd:
            assert ssd.volume_key() == secrets["volume_key"]
            assert ssd.ask("read_anchor") == {"ok": True, "adopt": True}
            assert ssd.write(7, b"taken over") == {"ok": True}
        with new.attach() as ssd:
            assert ssd.anchor() == b"taken over"
    assert read_secrets(other)["uid"] != secrets["uid"]


def test_passphrase_seals(tmp_path: Path) -> None:
    """Promise: without the passphrase the chip stays closed; a wrong one is told."""
    with vaultd(tmp_path) as vault, secret(b"a phrase") as phrase:
        vault.birth("passphrase", phrase)
    assert not (tmp_path / "sealing.key").exists()
    with vaultd(tmp_path) as vault:
        assert outcome(vault.ask("open")) == "passphrase"
        assert outcome(vault.give("open", b"another")) == "passphrase"
        assert vault.give("open", b"a phrase")["ok"]
        assert vault.ask("status")["seal"] == "passphrase"


def test_erase_and_new_life(tmp_path: Path, chip: Vaultd) -> None:
    """Promise: an erase ends the disk under whoever uses it; a restore begins anew."""
    chip.give("set_password", RIGHT)
    before = (tmp_path / "vault.sealed").read_bytes()
    with chip.attach() as ssd:
        key = ssd.volume_key()
        assert set(chip.ask("erase")) == {"ok", "receipt"}
        assert ssd.link.recv(1) == b""
    status = chip.ask("status")
    assert (status["life"], status["password"], status["unlocked"]) == ("erased", False, False)
    kept = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert before[200:264] not in kept
    with chip.attach("format") as ssd:
        assert ssd.volume_key() != key
    kek = chip.ask("identity")["kek"]
    assert chip.ask("restore", **pins())["ok"]
    assert chip.ask("identity")["kek"] != kek
    assert chip.ask("status")["lives"] == 2


@pytest.mark.parametrize("is_open", [True, False])
def test_destroyed_chip_is_unborn(tmp_path: Path, chip: Vaultd, is_open: bool) -> None:
    """Promise: open or not, nothing of it is left, and another can be born there."""
    if not is_open:
        (tmp_path / "sealing.key").write_bytes(bytes(32))
        assert outcome(chip.ask("open")) == "sealed"
    assert outcome(chip.ask("destroy")) == "ok"
    assert list(tmp_path.iterdir()) == []
    assert outcome(chip.ask("open")) == "unborn"
    assert chip.birth()
