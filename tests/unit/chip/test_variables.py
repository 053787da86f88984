"""The variable store of a start: what may start by the policy, and nothing to fall through to.

Read with a library that is not ours.
"""

import os
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from virt.firmware.efi import efivar
from virt.firmware.varstore import edk2

from spacegray import host
from spacegray.chip import images, revocations, signatures, variables
from spacegray.chip.boot_state import Policy
from spacegray.chip.keeping import Kept
from spacegray.chip.messages import Esp
from spacegray.chip.signatures import SHA256, Signature
from spacegray.chip.variables import Plan
from spacegray.chip.vault import Identity
from spacegray.errors import SpacegrayError
from spacegray.links import Target
from tests.support.vaultd import vaultd

RUNTIME = efivar.EFI_VARIABLE_RUNTIME_ACCESS
SHIM_OF_2018 = "80b4d96931bf0d02fd91a61e19d14f1da452e66db2408ca8604d411f92659f0a"
IMAGE, OTHER = b"\x11" * 32, b"\x22" * 32
ESP = Esp(number=5, start_sector=4096, sectors=8192, guid=bytes(range(16)))
MICROSOFT_DB = {
    "Microsoft Corporation UEFI CA 2011", "Microsoft UEFI CA 2023",
}  # fmt: skip
MICROSOFT_KEK = {
    "Microsoft Corporation KEK CA 2011", "Microsoft Corporation KEK 2K CA 2023",
}  # fmt: skip


@pytest.fixture(scope="module")
def identity(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    with vaultd(tmp_path_factory.mktemp("state")) as vault:
        vault.birth()
        reply = vault.ask("identity")
    del reply["ok"]
    return Identity(**reply)


@pytest.fixture
def template() -> Iterator[images.Frozen]:
    frozen = images.freeze(host.ovmf().variables)
    yield frozen
    frozen.close()


def plan(
    target: Target = "main",
    policy: Policy = "full",
    *,
    other_systems: bool = False,
    kept: Kept | None = None,
) -> Plan:
    return Plan(
        target=target,
        policy=policy,
        other_systems=other_systems,
        image=IMAGE,
        esp=ESP,
        kept=kept or Kept(),
    )


def read_back(content: bytes) -> Any:
    frozen = images.freeze_bytes(content, "store")
    try:
        return edk2.Edk2VarStore(f"/proc/self/fd/{frozen.descriptor}").get_varlist()
    finally:
        frozen.close()


def made(template: images.Frozen, identity: Identity, what: Plan) -> Any:
    return read_back(variables.build(template, identity, what, name="pro"))


def certificates(variable: Any) -> dict[str, bytes]:
    """The certificates in a database by their subjects' names."""
    return {
        each.x509.subject.rfc4514_string().split("CN=")[1].split(",")[0]: each[0]["data"]
        for each in variable.sigdb
        if each.x509
    }


def digests(variable: Any) -> list[bytes]:
    return [
        each["data"] for found in variable.sigdb if str(found.guid) == str(SHA256) for each in found
    ]


def test_under_full_security_one_image_starts(template: images.Frozen, identity: Identity) -> None:
    content = variables.build(template, identity, plan(other_systems=True), name="pro")
    assert len(content) == template.size_bytes
    found = read_back(content)
    assert set(found) == {
        "PK", "KEK", "db", "dbx", "SecureBootEnable", "Boot0000", "BootOrder", "Timeout",
    }  # fmt: skip
    assert (digests(found["db"]), certificates(found["db"])) == ([IMAGE], {})
    assert list(certificates(found["PK"]).values()) == [identity.pk]
    assert list(certificates(found["KEK"]).values()) == [identity.kek]
    assert found["SecureBootEnable"].data == b"\1"
    assert found["BootOrder"].data == b"\0\0"
    assert found["Timeout"].data == b"\0\0"


@pytest.mark.parametrize("policy", ["medium", "none"])
def test_a_signer_is_trusted_if_the_owner_says_so(
    template: images.Frozen, identity: Identity, policy: Policy
) -> None:
    """Promise: Microsoft's keys are there only with leave for other systems."""
    ours = made(template, identity, plan(policy=policy))
    assert list(certificates(ours["db"]).values()) == [identity.vendor]
    assert digests(ours["db"]) == []
    assert list(certificates(ours["KEK"]).values()) == [identity.kek]
    theirs = made(template, identity, plan(policy=policy, other_systems=True))
    assert set(certificates(theirs["db"])) - set(certificates(ours["db"])) == MICROSOFT_DB
    assert set(certificates(theirs["KEK"])) - set(certificates(ours["KEK"])) == MICROSOFT_KEK
    enabled = b"\1" if policy == "medium" else b"\0"
    assert ours["SecureBootEnable"].data == theirs["SecureBootEnable"].data == enabled


@pytest.mark.parametrize("policy", ["full", "medium", "none"])
def test_recovery_is_one_image_under_every_policy(
    template: images.Frozen, identity: Identity, policy: Policy
) -> None:
    what = plan("recovery", policy, other_systems=True, kept=Kept(shim={"MokList": b"x"}))
    found = made(template, identity, what)
    assert (digests(found["db"]), certificates(found["db"])) == ([IMAGE], {})
    assert found["SecureBootEnable"].data == b"\1"
    assert "MokList" not in found
    assert (what.one_image, what.secure_boot) == (True, True)


@pytest.mark.parametrize(
    ("target", "path"),
    [
        (
            "main",
            "04012a00" "05000000" "0010000000000000" "0020000000000000"
            "000102030405060708090a0b0c0d0e0f" "0202",
        ),
        ("external", "030f0b00" "ffffffff" "08ffff"),
        ("other", ""),
        ("recovery", ""),
    ],
)  # fmt: skip
def test_the_one_boot_option_leads_to_what_is_to_start(
    template: images.Frozen, identity: Identity, target: Target, path: str
) -> None:
    """UEFI 2.10, 10.3.5.1 and 10.3.4.8: a partition by number, place and GUID; mass storage."""
    option = made(template, identity, plan(target))["Boot0000"]
    title = "Spacegray\0".encode("utf-16-le")
    file = "\\EFI\\BOOT\\BOOTX64.EFI\0".encode("utf-16-le")
    node = b"\x04\x04" + (4 + len(file)).to_bytes(2, "little") + file
    expected = bytes.fromhex(path) + (b"" if target == "external" else node) + b"\x7f\xff\x04\x00"
    head = b"\1\0\0\0" + len(expected).to_bytes(2, "little")
    assert option.data == head + title + expected


def test_nobody_can_append_to_the_boot_order(template: images.Frozen, identity: Identity) -> None:
    """Promise: no fall-through. An existing variable keeps its attributes, and the firmware
    writes BootOrder with RUNTIME_ACCESS, so its every write to ours is refused."""
    found = made(template, identity, plan())
    assert not found["BootOrder"].attr & RUNTIME
    assert found["Boot0000"].attr & RUNTIME


@pytest.mark.parametrize("policy", ["full", "medium", "none"])
def test_what_is_kept_is_placed_where_it_counts(
    template: images.Frozen, identity: Identity, policy: Policy
) -> None:
    """Promise: revocations are there under every policy, the shim's own where they count."""
    revoked = signatures.write([Signature(SHA256, uuid.UUID(int=1), OTHER)])
    kept = Kept(revoked, {"MokList": revoked, "MokNew": b"asked"})
    found = made(template, identity, plan(policy=policy, kept=kept))
    assert OTHER in digests(found["dbx"])
    if policy != "medium":
        assert not {"MokList", "MokNew"} & set(found)
    else:
        assert (found["MokList"].attr, found["MokList"].data) == (3, revoked)
        assert (found["MokNew"].attr, found["MokNew"].data) == (7, b"asked")


def test_what_the_template_holds_is_dropped(template: images.Frozen, identity: Identity) -> None:
    """Promise: a template with keys of others in it brings none of them along."""
    own = variables.build(template, identity, plan(), name="pro")
    filled = images.freeze_bytes(own, "filled")
    try:
        assert variables.build(filled, identity, plan(), name="pro") == own
    finally:
        filled.close()


@pytest.mark.parametrize("content", [b"", os.urandom(4096), bytes(540672)])
def test_a_template_that_is_none_is_one_clear_error(content: bytes, identity: Identity) -> None:
    frozen = images.freeze_bytes(content, "template")
    try:
        with pytest.raises(SpacegrayError) as caught:
            variables.build(frozen, identity, plan(), name="pro")
    finally:
        frozen.close()
    assert caught.value.link == "firmware"


@pytest.mark.parametrize("policy", ["full", "medium"])
def test_what_real_machines_revoke_is_revoked_here(
    template: images.Frozen, identity: Identity, policy: Policy
) -> None:
    """A shim of 2018, by the list that this repository did not make; other images are not."""
    found = made(template, identity, plan(policy=policy))["dbx"]
    hashes = set(digests(found))
    assert bytes.fromhex(SHIM_OF_2018) in hashes
    assert len(hashes) == len(revocations.revoked()) > 400
    assert IMAGE not in hashes
