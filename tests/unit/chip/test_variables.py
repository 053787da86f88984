"""The variable store: our certificates, one boot option, nothing to fall through to."""

import os
from collections.abc import Iterator
from typing import Any

import pytest
from virt.firmware.efi import efivar
from virt.firmware.varstore import edk2

from spacegray import host
from spacegray.chip import images, variables
from spacegray.chip.vault import Identity
from spacegray.errors import SpacegrayError
from tests.support.vaultd import vaultd

RUNTIME = efivar.EFI_VARIABLE_RUNTIME_ACCESS


@pytest.fixture(scope="module")
def identity(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    with vaultd(tmp_path_factory.mktemp("state")) as vault:
        vault.ask("birth", seal="keyfile")
        reply = vault.ask("identity")
    del reply["ok"]
    return Identity(**reply)


@pytest.fixture
def template() -> Iterator[images.Frozen]:
    frozen = images.freeze(host.ovmf().variables)
    yield frozen
    frozen.close()


def read_back(content: bytes) -> Any:
    frozen = images.freeze_bytes(content, "store")
    try:
        return edk2.Edk2VarStore(f"/proc/self/fd/{frozen.descriptor}").get_varlist()
    finally:
        frozen.close()


def test_the_store_holds_ours_and_nothing_else(template: images.Frozen, identity: Identity) -> None:
    content = variables.build(template, identity)
    assert len(content) == template.size_bytes
    found = read_back(content)
    assert set(found) == {
        "PK", "KEK", "db", "SecureBootEnable", "Boot0000", "BootOrder", "Timeout",
    }  # fmt: skip
    for name, certificate in (("PK", identity.pk), ("KEK", identity.kek), ("db", identity.db)):
        (signature_list,) = found[name].sigdb
        assert [each["data"] for each in signature_list] == [certificate]
    assert found["SecureBootEnable"].data == b"\1"
    assert found["BootOrder"].data == b"\0\0"
    assert found["Timeout"].data == b"\0\0"
    assert "BOOTX64.EFI" in found["Boot0000"].fmt_boot_entry()


def test_nobody_can_append_to_the_boot_order(template: images.Frozen, identity: Identity) -> None:
    """Promise: no fall-through. An existing variable keeps its attributes, and the firmware
    writes BootOrder with RUNTIME_ACCESS, so its every write to ours is refused."""
    found = read_back(variables.build(template, identity))
    assert not found["BootOrder"].attr & RUNTIME
    assert found["Boot0000"].attr & RUNTIME


def test_what_the_template_holds_is_dropped(template: images.Frozen, identity: Identity) -> None:
    """Promise: a template with keys of others in it brings none of them along."""
    own = variables.build(template, identity)
    filled = images.freeze_bytes(own, "filled")
    try:
        assert variables.build(filled, identity) == own
    finally:
        filled.close()


@pytest.mark.parametrize("content", [b"", os.urandom(4096), bytes(540672)])
def test_a_template_that_is_none_is_one_clear_error(content: bytes, identity: Identity) -> None:
    frozen = images.freeze_bytes(content, "template")
    try:
        with pytest.raises(SpacegrayError) as caught:
            variables.build(frozen, identity)
    finally:
        frozen.close()
    assert caught.value.link == "firmware"
