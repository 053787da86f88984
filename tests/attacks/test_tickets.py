"""Attack: have a chip take a system that its signing authority did not let in.

Promise: a ticket counts only if the pinned authority signed it for this chip, as the answer to the
question that is open, for no older a system.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cbor2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.authority import (
    EPOCH,
    TestAuthority,
    another_authority,
    components,
    encode,
    the_authority,
)
from tests.support.starts import accept, install_chip, running, said
from tests.support.vaultd import Vaultd, pins, vaultd

TICKET_LIMIT_BYTES = 2048


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install_chip(tmp_path_factory.mktemp("installed") / "state")


@pytest.fixture
def vault(installed: Path, tmp_path: Path) -> Iterator[Vaultd]:
    """A vault that is open on a copy of it."""
    with running(installed, tmp_path / "state") as vault:
        yield vault


def asked(vault: Vaultd, **wanted: Any) -> dict[str, Any]:
    """The fields of a ticket that would be taken."""
    fields: dict[str, Any] = cbor2.loads(vault.request(**wanted))
    fields.pop("type")
    return fields | {"issued": 1_800_000_000}


def test_a_ticket_of_this_authority_for_this_question_is_taken(vault: Vaultd) -> None:
    """The control of all that follows."""
    assert vault.install("b") == {"ok": True}
    assert vault.boot()["current"] == "b"
    assert vault.install("b") == {
        "ok": False,
        "error": "in_use",
        "detail": "the current system is in this slot",
    }


def test_another_chips_ticket_is_refused(vault: Vaultd, tmp_path: Path) -> None:
    """Stolen from another chip, or made for its number, with the nonce of this one or its own."""
    other = tmp_path / "other"
    other.mkdir(mode=0o700)
    with vaultd(other) as stranger:
        stranger.birth()
        theirs = the_authority().sign_ticket(stranger.request())
        vault.request()
        assert accept(vault, theirs) == "other_chip"
        assert accept(stranger, theirs, slot="a") == "ok"
    ours = vault.request()
    ecid = cbor2.loads(ours)["ecid"]
    assert accept(vault, the_authority().sign_ticket(ours, ecid=ecid ^ 1)) == "other_chip"


def test_a_ticket_answers_one_question_once(vault: Vaultd, installed: Path, tmp_path: Path) -> None:
    """Not twice, not after another question, not in another session, not unasked."""
    first = the_authority().sign_ticket(vault.request())
    second = the_authority().sign_ticket(vault.request())
    assert accept(vault, first) == "nonce"
    assert accept(vault, second) == "nonce", "an attempt ends the question"
    taken = the_authority().sign_ticket(vault.request())
    assert accept(vault, taken, tries=2) == "ok"
    assert accept(vault, taken, tries=2) == "nonce"
    unasked = the_authority().sign_ticket(vault.request(), nonce=bytes(32))
    assert accept(vault, unasked) == "nonce"
    kept = the_authority().sign_ticket(vault.request())
    assert vault.ask("open")["ok"] is True
    assert accept(vault, kept) == "nonce"
    with running(installed, tmp_path / "later") as later:
        later.request()
        assert accept(later, kept) == "nonce"


def test_an_older_system_is_refused(vault: Vaultd) -> None:
    """Neither one that was asked for, nor one that is slipped into the answer."""
    assert vault.boot()["minimum_epoch"] == EPOCH
    assert said(vault.install("b", epoch=EPOCH - 1)) == "epoch"
    slipped = the_authority().sign_ticket(vault.request(), epoch=EPOCH - 1)
    assert accept(vault, slipped) == "epoch"
    assert said(vault.install("b", epoch=EPOCH + 1, tries=1)) == "ok"
    # One that did not come up moves nothing on.
    assert vault.boot()["minimum_epoch"] == EPOCH
    assert said(vault.install("b", epoch=EPOCH)) == "ok"


def test_a_ticket_names_what_was_asked_for(vault: Vaultd) -> None:
    for change in (
        {"components": components("another")},
        {"components": components(kernel=bytes(32))},
        {"product": "other"},
        {"epoch": EPOCH + 1},
    ):
        assert accept(vault, the_authority().sign_ticket(vault.request(), **change)) == "ticket"
    assert vault.boot()["slot_b"] == b""


def test_another_signer_is_refused(vault: Vaultd) -> None:
    """Another authority, also one that names the right key, or none; and no statement of a chip."""
    forger = another_authority()
    right = {4: cbor2.loads(cbor2.loads(the_authority().sign_payload(b"")).value[0])[4]}
    payload = encode(asked(vault))
    assert accept(vault, forger.sign_payload(payload)) == "ticket"
    assert accept(vault, forger.sign_payload(encode(asked(vault)), header=right)) == "ticket"
    blank = list(cbor2.loads(the_authority().sign_payload(encode(asked(vault)))).value)
    for signature in (bytes(64), b"\xff" * 64, b""):
        vault.request()
        assert accept(vault, encode(cbor2.CBORTag(18, [*blank[:3], signature]))) == "ticket"
    vault.request()
    statement = vault.ask("attest", nonce=bytes(32), software=b"\xa0")["statement"]
    assert accept(vault, statement) == "ticket"
    assert vault.boot()["slot_b"] == b""


def test_no_bit_of_a_ticket_can_be_changed(vault: Vaultd) -> None:
    boundaries = vault.ask("status")["boundaries"]
    size = len(the_authority().sign_ticket(vault.request()))
    for bit in range(8 * size):
        ticket = bytearray(the_authority().sign_ticket(vault.request()))
        ticket[bit // 8] ^= 1 << bit % 8
        assert accept(vault, bytes(ticket)) == "ticket", bit
    assert vault.ask("status")["boundaries"] == boundaries
    assert vault.boot()["slot_b"] == b""


def test_a_ticket_has_one_length(vault: Vaultd) -> None:
    """Truncated anywhere, or with more behind it, up to the limit and over it."""
    size = len(the_authority().sign_ticket(vault.request()))
    for length in range(1, size):
        ticket = the_authority().sign_ticket(vault.request())
        assert accept(vault, ticket[:length]) == "ticket", length
    for more in (1, 8, TICKET_LIMIT_BYTES - size):
        ticket = the_authority().sign_ticket(vault.request())
        assert accept(vault, ticket + bytes(more)) == "ticket", more
    ticket = the_authority().sign_ticket(vault.request())
    assert accept(vault, ticket.ljust(TICKET_LIMIT_BYTES + 1, b"\0")) == "malformed"
    assert accept(vault, b"") == "malformed"
    # What is no request has ended nothing.
    assert accept(vault, ticket) == "ok"


def test_a_right_signature_over_another_form_is_refused(vault: Vaultd) -> None:
    """The authority's own key signs what is no ticket: nothing of it is taken."""
    signer = the_authority()
    digests = components()
    for change in (
        {"version": 2},
        {"version": True},
        {"extra": 1},
        {"product": ""},
        {"product": "Tiny"},
        {"product": "p" * 33},
        {"epoch": -1},
        {"epoch": 2**64},
        {"epoch": 1.0},
        {"issued": "now"},
        {"nonce": bytes(31)},
        {"ecid": 2**64},
        {"components": {**digests, "kernel": bytes(31)}},
        {"components": {**digests, "more": bytes(32)}},
        {"components": {name: digests[name] for name in list(digests)[1:]}},
        {"components": list(digests.values())},
    ):
        fields = asked(vault)
        assert accept(vault, signer.sign_payload(encode({**fields, **change}))) == "ticket", change
    for name in asked(vault):
        fields = asked(vault)
        del fields[name]
        assert accept(vault, signer.sign_payload(encode(fields))) == "ticket", name
    reordered = dict(reversed(asked(vault).items()))
    assert accept(vault, signer.sign_payload(cbor2.dumps(reordered))) == "ticket"
    longer = cbor2.dumps(cbor2.CBORTag(55799, asked(vault)))
    assert accept(vault, signer.sign_payload(longer)) == "ticket"
    assert accept(vault, signer.sign_payload(vault.request())) == "ticket", "the question itself"


def test_a_right_payload_in_another_envelope_is_refused(vault: Vaultd) -> None:
    signer = the_authority()

    def payload() -> bytes:
        return encode(asked(vault))

    assert accept(vault, signer.sign_payload(payload(), aad=b"")) == "ticket"
    assert accept(vault, signer.sign_payload(payload(), aad=b"spacegray ticket 2")) == "ticket"
    for header in ({1: -35}, {1: -8}, {4: bytes(32)}, {16: "application/eat+cwt"}, {2: [99]}):
        assert accept(vault, signer.sign_payload(payload(), header=header)) == "ticket", header
    assert accept(vault, signer.sign_payload(payload(), unprotected={1: -7})) == "ticket"
    for tag in (17, 61, 98):
        parts = cbor2.loads(signer.sign_payload(payload())).value
        assert accept(vault, encode(cbor2.CBORTag(tag, parts))) == "ticket", tag
    bare = signer.sign_payload(payload())
    assert accept(vault, bare[1:]) == "ticket"


@pytest.fixture(scope="module")
def fuzzed(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vaultd]:
    with running(installed, tmp_path_factory.mktemp("fuzzed") / "state") as vault:
        yield vault


@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_rubbish_is_a_ticket(fuzzed: Vaultd, data: st.DataObject) -> None:
    """Bytes of any kind, and tickets with a part cut out, doubled or replaced."""
    ticket = the_authority().sign_ticket(fuzzed.request())
    if data.draw(st.booleans(), label="of a ticket"):
        start = data.draw(st.integers(0, len(ticket)), label="start")
        end = data.draw(st.integers(start, len(ticket)), label="end")
        part = data.draw(st.binary(max_size=64), label="part")
        changed = ticket[:start] + part + ticket[end:]
    else:
        changed = data.draw(st.binary(min_size=1, max_size=TICKET_LIMIT_BYTES), label="bytes")
    if changed and changed != ticket:
        assert accept(fuzzed, changed) == "ticket"
    assert fuzzed.boot()["slot_b"] == b""


def test_who_signs_is_pinned(vault: Vaultd) -> None:
    """Nothing but a new life, which begins with nothing, changes whose tickets count."""
    stranger = another_authority()
    assert said(vault.ask("birth", seal="keyfile", **pins(stranger))) == "exists"
    assert said(vault.install("b", authority=stranger)) == "ticket"
    assert vault.ask("restore", **pins(stranger))["ok"] is True
    boot = vault.boot()
    assert (boot["slot_a"], boot["slot_b"], boot["current"]) == (b"", b"", "")
    assert boot["minimum_epoch"] == EPOCH
    assert said(vault.ask("begin_start", target="main")) == "no_ticket"
    assert said(vault.install("a")) == "ticket"
    assert said(vault.install("a", authority=stranger, epoch=EPOCH - 1)) == "epoch"
    assert said(vault.install("a", authority=stranger)) == "ok"


def test_an_authority_that_cannot_sign_is_not_pinned(tmp_path: Path) -> None:
    """A birth with a key that is none leaves no chip, rather than one without a signer."""
    with vaultd(tmp_path) as vault:
        key = TestAuthority().ticket_key
        for wrong in (bytes(91), key[:-1] + bytes([key[-1] ^ 1]), b"\x31" + key[1:]):
            reply = vault.ask("birth", seal="keyfile", authority=wrong, vendor=b"certificate")
            assert said(reply) == "malformed"
        assert list(tmp_path.iterdir()) == []
        assert vault.birth()
