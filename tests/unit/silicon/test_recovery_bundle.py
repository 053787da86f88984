"""Recovery keys and bundles of a real vault, read by a plain reader with another library."""

import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.recovery import ALPHABET, BundleError, key_material, open_bundle
from tests.support.vaultd import Vaultd, vaultd


@dataclass(frozen=True)
class Exported:
    """A chip's number and disk key, its recovery key as text, and a bundle."""

    ecid: int
    volume_key: bytes
    text: str
    bundle: bytes


def make_recovery_key(vault: Vaultd) -> str:
    """The text that a vault writes into a pipe, once."""
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as reading:
        with os.fdopen(writer, "wb"):
            assert vault.ask("make_recovery_key", writer, **{"with": "password", "mode": "normal"})[
                "ok"
            ]
        return reading.read().decode()


def export(vault: Vaultd) -> bytes:
    """A bundle, through a descriptor."""
    descriptor = os.memfd_create("bundle")
    with os.fdopen(descriptor, "rb") as file:
        assert vault.ask("export_recovery", descriptor)["ok"]
        file.seek(0)
        return file.read()


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    with vaultd(tmp_path_factory.mktemp("chip")) as vault:
        ecid = vault.birth()
        text = make_recovery_key(vault)
        bundle = export(vault)
        with vault.attach() as ssd:
            return Exported(ecid, ssd.volume_key(), text, bundle)


def test_the_key_is_written_down_as_documented(exported: Exported) -> None:
    """Promise: 28 characters in seven groups, one line, whose check fits."""
    assert exported.text.endswith("\n")
    groups = exported.text.strip().split("-")
    assert [len(group) for group in groups] == [4] * 7
    assert set("".join(groups)) <= set(ALPHABET)
    key_material(exported.text)


def test_another_library_opens_the_bundle(exported: Exported) -> None:
    """Promise: a bundle is HPKE as documented: its owner does not depend on this program."""
    bundle = open_bundle(exported.text, exported.bundle)
    assert bundle.ecid == exported.ecid
    assert bundle.contents["volume_key"] == exported.volume_key
    assert bundle.contents.keys() == {"volume_key"}


def test_nothing_else_opens_it(exported: Exported, tmp_path: Path) -> None:
    """Promise: without the recovery key a bundle is noise, also with a newer recovery key."""
    assert exported.volume_key not in exported.bundle
    with vaultd(tmp_path) as vault:
        vault.birth()
        older = make_recovery_key(vault)
        bundle = export(vault)
        newer = make_recovery_key(vault)
        assert export(vault)[24:] != bundle[24:]
    open_bundle(older, bundle)
    for text in (newer, exported.text):
        with pytest.raises(BundleError, match="another key"):
            open_bundle(text, bundle)
