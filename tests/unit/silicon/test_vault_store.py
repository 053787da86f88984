"""The vault's store, read by the plain reader that other tests look for secrets with."""

from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_private_key,
)

from tests.support.vault_store import StoreError, ecid, read_secrets
from tests.support.vaultd import vaultd


def test_reader_finds_the_real_secrets(tmp_path: Path) -> None:
    """Promise: the reader returns the keys in use, so a search for them means something."""
    with vaultd(tmp_path) as vault:
        vault.ask("birth")
        identity, disk_key = vault.ask("identity"), vault.disk_key()
    secrets = read_secrets(tmp_path)
    assert secrets["disk_key"] == disk_key
    assert ecid((tmp_path / "vault.sealed").read_bytes()) == identity["ecid"]

    def public_half(name: str) -> bytes:
        key = load_der_private_key(secrets[name], None).public_key()
        return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    db = x509.load_der_x509_certificate(identity["db"]).public_key()
    db_key = db.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert public_half("boot_signing_key") == db_key
    assert public_half("identity_key") == identity["identity_public_key"]


def test_store_alone_gives_nothing(tmp_path: Path) -> None:
    """Promise: the store's bytes hold no secret in plain text and open with no other key."""
    with vaultd(tmp_path) as vault:
        vault.ask("birth")
    store = (tmp_path / "vault.sealed").read_bytes()
    assert not [name for name, secret in read_secrets(tmp_path).items() if secret[-24:] in store]
    (tmp_path / "sealing.key").write_bytes(bytes(32))
    with pytest.raises(StoreError):
        read_secrets(tmp_path)
