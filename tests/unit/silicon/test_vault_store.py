"""The vault's store, read by the plain reader that other tests look for secrets with."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_private_key,
)

from tests.support.vault_store import StoreError, header, read_anchors, read_secrets
from tests.support.vaultd import secret, vaultd


def test_reader_finds_the_real_secrets(tmp_path: Path) -> None:
    """Promise: the reader returns the keys in use, so a search for them means something."""
    with vaultd(tmp_path) as vault:
        vault.birth()
        identity = vault.ask("identity")
        with vault.attach() as ssd:
            volume_key = ssd.volume_key()
    secrets = read_secrets(tmp_path)
    assert secrets["volume_key"] == volume_key
    assert header((tmp_path / "vault.sealed").read_bytes()).ecid == identity["ecid"]

    key = load_der_private_key(secrets["identity_key"], None).public_key()
    public_half = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert public_half == identity["identity_public_key"]


def test_store_alone_gives_nothing(tmp_path: Path) -> None:
    """Promise: the store's bytes hold no secret in plain text and open with no other key."""
    with vaultd(tmp_path) as vault:
        vault.birth()
    store = (tmp_path / "vault.sealed").read_bytes()
    assert not [name for name, secret in read_secrets(tmp_path).items() if secret[-24:] in store]
    (tmp_path / "sealing.key").write_bytes(bytes(32))
    with pytest.raises(StoreError):
        read_secrets(tmp_path)


def test_reader_finds_the_anchors(tmp_path: Path) -> None:
    """Promise: the document has the anchor file's bytes right, and each write takes the other."""
    with vaultd(tmp_path) as vault:
        vault.birth()
        born = [(slot.number, slot.counter, slot.anchor) for slot in read_anchors(tmp_path)]
        assert born == [(1, 1, b""), (0, 1, b"")]
        with vault.attach() as ssd:
            for sequence in (5, 5, 2**64 - 1):
                ssd.write(sequence, f"anchor {sequence}".encode())
            newest, older = read_anchors(tmp_path)
            assert (newest.number, newest.counter, older.number, older.counter) == (0, 4, 1, 3)
            assert (newest.sequence, newest.anchor) == (2**64 - 1, f"anchor {2**64 - 1}".encode())
            assert (older.sequence, older.anchor) == (5, b"anchor 5")
            file = tmp_path / "anchor"
            file.write_bytes(file.read_bytes().replace(b"anchor 5", b"anchor 6"))
            assert read_anchors(tmp_path) == [newest]
        assert vault.close() == 0
    # The end of the session was a boundary: a new file, both of whose slots have the newest.
    assert {(slot.counter, slot.anchor) for slot in read_anchors(tmp_path)} == {(1, newest.anchor)}


def test_reader_finds_the_secrets_behind_secrets(tmp_path: Path) -> None:
    """Promise: the document has passphrase and password right, and both are needed."""
    with vaultd(tmp_path) as vault, secret(b"a phrase\n") as phrase:
        vault.birth("passphrase", phrase)
        assert vault.give("set_password", b"a word")["ok"]
        with vault.attach() as ssd:
            volume_key = ssd.volume_key()
    found = read_secrets(tmp_path, passphrase=b"a phrase", password=b"a word")
    assert found["volume_key"] == volume_key
    for wrong in (
        {"passphrase": b"a phrase"},
        {"passphrase": b"a phrase", "password": b"another"},
        {"passphrase": b"another", "password": b"a word"},
        {"password": b"a word"},
    ):
        with pytest.raises(StoreError):
            read_secrets(tmp_path, **wrong)
