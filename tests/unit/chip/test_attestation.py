"""Statements of a chip: what a real vault says is read, and nothing that was tampered with.

docs/attestation.md and the constants agree; what signs well and is still wrong is refused.
"""

import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
)
from hypothesis import given
from hypothesis import strategies as st

from spacegray.chip import attestation
from spacegray.chip.attestation import verify, verify_any, verify_receipt
from spacegray.errors import SpacegrayError
from tests.support.authority import the_authority
from tests.support.statements import ATTESTATION, RECEIPT, Signer
from tests.support.vaultd import vaultd

DOCUMENT = (Path(__file__).parents[3] / "docs" / "attestation.md").read_text()
NONCE = b"what was asked"
SOFTWARE = {"chip_firmware": "0.1", "authorised": [{"component": "kernel", "sha256": bytes(32)}]}


class Said:
    """What one real vault said, and the key that its owner noted."""

    def __init__(self, folder: Path) -> None:
        with vaultd(folder) as vault:
            self.ecid = vault.birth()
            identity = vault.ask("identity")
            reply = vault.ask("attest", nonce=NONCE, software=cbor2.dumps(SOFTWARE, canonical=True))
            self.attestation: bytes = reply["statement"]
            self.receipt: bytes = vault.ask("erase")["receipt"]
            self.status = vault.ask("status")
        key = load_der_public_key(identity["identity_public_key"])
        self.pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> Said:
    return Said(tmp_path_factory.mktemp("chip"))


@pytest.fixture(scope="module")
def signer() -> Signer:
    return Signer()


def refused(check: Callable[..., object], *arguments: Any, **named: Any) -> SpacegrayError:
    with pytest.raises(SpacegrayError) as caught:
        check(*arguments, **named)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("checking the statement: ")
    return caught.value


def test_what_a_vault_attests_is_read(said: Said) -> None:
    """Promise: an attestation says what the chip is, to whoever knows its key and asked."""
    read = verify(said.attestation, key_pem=said.pem, nonce=NONCE)
    assert read.ecid == f"0x{said.ecid:016x}"
    assert read.identity_key.encode() == said.pem
    assert read.key_is_known
    assert read.nonce == NONCE
    assert (read.life, read.lives, read.rollbacks) == ("in use", 1, 0)
    assert (read.seal, read.root, read.password_required) == ("keyfile", "software", False)
    assert read.authorised_by_firmware == SOFTWARE
    assert (read.policy, read.external_boot, read.other_systems) == ("full", False, False)
    assert (read.firmware_password, read.minimum_epoch) == (False, 0)
    pinned = the_authority()
    assert read.authority_key_sha256 == hashlib.sha256(pinned.ticket_key).digest()
    assert read.vendor_certificate_sha256 == hashlib.sha256(pinned.vendor).digest()
    plain = read.plain()
    assert plain["nonce"] == NONCE.hex()
    assert plain["authorised_by_firmware"]["authorised"][0]["sha256"] == "00" * 32


def test_the_receipt_of_an_erase_is_read(said: Said) -> None:
    """Promise: a receipt names what is gone, where it lay and how surely, and is of that chip."""
    read = verify_receipt(said.receipt, key_pem=said.pem)
    assert (read.ecid, read.lives) == (f"0x{said.ecid:016x}", 1)
    assert read.boundaries == said.status["boundaries"]
    assert read.destroyed
    assert all(item.what and item.place and item.how for item in read.destroyed)
    assert read.plain()["destroyed"][0].keys() == {"what", "place", "how"}


def test_no_byte_can_be_changed(said: Said) -> None:
    """Promise: one changed bit anywhere, one byte more or fewer, and it is no statement."""
    for statement, check in ((said.attestation, verify), (said.receipt, verify_receipt)):
        for key_pem in (said.pem, None):
            for place in range(len(statement)):
                for bit in (0x01, 0x80):
                    changed = bytearray(statement)
                    changed[place] ^= bit
                    refused(check, bytes(changed), key_pem=key_pem)
        for size in (0, 1, len(statement) - 1):
            refused(check, statement[:size], key_pem=said.pem)
        refused(check, statement + b"\0", key_pem=said.pem)


def test_neither_kind_is_taken_for_the_other(said: Said, signer: Signer) -> None:
    """Promise: a receipt is no attestation and the reverse, and half of one kind is neither."""
    assert "another kind" in str(refused(verify, said.receipt, key_pem=said.pem))
    assert "another kind" in str(refused(verify_receipt, said.attestation, key_pem=said.pem))
    for header, claims in ((ATTESTATION, RECEIPT), (RECEIPT, ATTESTATION)):
        mixed = signer.sign(signer.header(header), signer.claims(claims))
        refused(verify, mixed)
        refused(verify_receipt, mixed)
    assert isinstance(verify_any(said.receipt), attestation.Receipt)
    assert isinstance(verify_any(said.attestation, nonce=NONCE), attestation.Attestation)
    refused(verify_any, said.receipt, nonce=NONCE)


def test_only_the_chip_whose_key_is_known_is_believed(said: Said, signer: Signer) -> None:
    """Promise: another chip's statement is refused by name; without a key it is said so."""
    other = signer.statement(ATTESTATION)
    assert "another key" in str(refused(verify, other, key_pem=said.pem))
    assert not verify(other).key_is_known
    assert verify(other, key_pem=signer.pem).key_is_known
    # A statement that names the known key and is signed with another.
    forged = Signer()
    forged.cose_key, forged.thumbprint = signer.cose_key, signer.thumbprint
    assert "signature" in str(refused(verify, forged.statement(ATTESTATION), key_pem=signer.pem))
    refused(verify, forged.statement(ATTESTATION))
    for key in (Ed25519PrivateKey.generate(), ec.generate_private_key(ec.SECP384R1())):
        pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        assert "no identity key" in str(refused(verify, other, key_pem=pem))
    for rubbish in (b"", b"key", signer.pem[:-40]):
        assert "no identity key" in str(refused(verify, other, key_pem=rubbish))


def test_an_old_answer_is_seen(said: Said) -> None:
    """Promise: an attestation is an answer to this nonce or refused."""
    for nonce in (b"", NONCE[:-1], NONCE + b"x", b"12345678"):
        assert "nonce" in str(refused(verify, said.attestation, key_pem=said.pem, nonce=nonce))


@pytest.mark.parametrize(
    "changes",
    [
        {"extra": 1},
        {"life": 1},
        {"lives": -1},
        {"lives": "1"},
        {"lives": True},
        {"ecid": "0x1"},
        {"ecid": -1},
        {"ecid": 2**64},
        {"ecid": True},
        {"password_required": 1},
        {"external_boot": "deny"},
        {"other_systems": 0},
        {"minimum_epoch": -1},
        {"authority_key_sha256": bytes(31)},
        {"vendor_certificate_sha256": bytes(33)},
        {"authorised_by_firmware": {}},
        {"authorised_by_firmware": cbor2.dumps({})},
        {"authorised_by_firmware": cbor2.CBORTag(24, b"\x01")},
        {"authorised_by_firmware": cbor2.CBORTag(24, b"\xa1\x01\x01")},
        {"authorised_by_firmware": cbor2.CBORTag(25, cbor2.dumps({}))},
    ],
)
def test_what_no_vault_says_is_refused(signer: Signer, changes: dict[str, Any]) -> None:
    """Promise: also under a right signature only the documented claims are taken."""
    verify(signer.statement(ATTESTATION))
    refused(verify, signer.statement(ATTESTATION, **changes))


def test_each_claim_is_needed_and_each_label_fixed(signer: Signer) -> None:
    """Promise: nothing can be left out of a statement, and nothing slipped into its header."""
    for kind, check in ((ATTESTATION, verify), (RECEIPT, verify_receipt)):
        header, claims = signer.header(kind), signer.claims(kind)
        check(signer.sign(header, claims), key_pem=signer.pem)
        for name in claims:
            less = {key: value for key, value in claims.items() if key != name}
            refused(check, signer.sign(header, less), key_pem=signer.pem)
        for label in header:
            less = {key: value for key, value in header.items() if key != label}
            refused(check, signer.sign(less, claims), key_pem=signer.pem)
        for more in ({2: [99]}, {1: -35}, {1: True}, {4: b""}, {16: 263}):
            refused(check, signer.sign(header | more, claims), key_pem=signer.pem)
        stranger = Signer().cose_key
        swaps: list[dict[int, Any]] = [{256: bytes(33)}, {8: {1: {}}}, {8: {1: stranger}}, {265: 1}]
        for wrong in swaps:
            refused(check, signer.sign(header, claims | wrong), key_pem=signer.pem)
        nothing: list[Any] = [1, [], "text", None]
        for rubbish in nothing:
            refused(check, signer.sign(rubbish, claims), key_pem=signer.pem)
            refused(check, signer.sign(header, rubbish), key_pem=signer.pem)


def test_a_statement_has_one_form(signer: Signer) -> None:
    """Promise: what is not signed (how it is packed, the open header) cannot be changed either."""
    statement = signer.statement(ATTESTATION)
    parts = list(cbor2.loads(statement).value)
    verify(statement)
    for other in (
        cbor2.dumps(parts),
        cbor2.dumps(cbor2.CBORTag(98, parts)),
        cbor2.dumps(cbor2.CBORTag(18, [parts[0], {4: b"x"}, *parts[2:]])),
        cbor2.dumps(cbor2.CBORTag(18, [*parts, b""])),
        cbor2.dumps(cbor2.CBORTag(18, [*parts[:3], parts[3] + b"\0"])),
        b"\xd8\x12" + statement[1:],
        b"\xd2\x9f" + statement[2:] + b"\xff",
    ):
        refused(verify, other)
    refused(verify, cbor2.dumps(b"x" * attestation.STATEMENT_LIMIT_BYTES))


@given(st.binary(max_size=300))
def test_rubbish_is_one_clear_error(data: bytes) -> None:
    """Promise: whatever the file is, the answer is one line."""
    refused(verify_any, data)
    refused(verify_any, b"\xd2\x84" + data)


def test_the_document_has_the_constants() -> None:
    """Promise: docs/attestation.md names types, profiles and claims as they are."""
    for text in (*ATTESTATION, *RECEIPT, attestation.VAULT_NAME):
        assert f"`{text}`" in DOCUMENT
    assert ATTESTATION == (attestation.ATTESTATION_TYPE, attestation.ATTESTATION_PROFILE)
    assert RECEIPT == (attestation.RECEIPT_TYPE, attestation.RECEIPT_PROFILE)
    signer = Signer()
    for kind, name in ((ATTESTATION, "an attestation"), (RECEIPT, "a receipt")):
        sections = DOCUMENT.split("\n## ")
        rows = [
            row
            for section in sections
            if section.startswith(("Claims of both", f"Claims of {name}"))
            for row in re.findall(r"^\| `(\w+)`", section, re.MULTILINE)
        ]
        assert sorted(rows) == sorted(str(claim) for claim in signer.claims(kind))
