"""The vault as a process: the record of what was done inside the machine, and by whose leave.

What the vault decides is proved in silicon/vault/src/tests/service.rs; here it is the protocol, the
bytes that another reader finds in the store, and what survives which end of the process.
"""

import signal
from pathlib import Path

import cbor2
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.support.authority import another_authority, encode, the_authority
from tests.support.record_reader import NO_HEAD, head, read_entry
from tests.support.vault_store import read_contents, sealing_key
from tests.support.vaultd import Vaultd, pins, secret, vaultd
from tests.support.work_orders import DAY_SECONDS, work_order
from tests.unit.silicon.test_vaultd import code

JOB = "memory 64"
PASSWORD = b"correct horse"


def ecid(vault: Vaultd) -> int:
    return int(vault.ask("identity")["ecid"])


def new_key() -> bytes:
    """An order key of somebody who never signs."""
    public_key = ec.generate_private_key(ec.SECP256R1()).public_key()
    return public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def test_new_chip_has_no_record(chip: Vaultd) -> None:
    """Promise: nothing was done yet, and nobody is trusted."""
    empty = {"entries": 0, "head": NO_HEAD, "last": b"", "providers": []}
    assert chip.service() == empty


def test_record_is_read_by_others(tmp_path: Path, chip: Vaultd) -> None:
    """Promise: entries have the form of docs/service-record.md, each names the one before, and the
    store has what docs/vault-store.md says."""
    provider = another_authority()
    assert chip.trust(provider.ticket_key) == {"ok": True}
    order = work_order(
        provider, ecid(chip), JOB, id=bytes(range(16)), not_after=2**33, not_before=2**33
    )
    detail = encode({"before": {"memory_gb": 32}, "after": {"memory_gb": 64}})
    first = chip.record(JOB, order=order, detail=detail, time=2**33)
    second = chip.record("stand", time=7)
    identity = chip.ask("identity")["identity_public_key"]
    expected = {
        "ecid": ecid(chip),
        "type": "service entry",
        "version": 1,
        "number": 0,
        "previous": NO_HEAD,
        "time": 2**33,
        "job": JOB,
        "by": "provider",
        "provider": head(provider.ticket_key),
        "order": bytes(range(16)),
        "detail": detail,
    }
    assert first == {
        "ok": True,
        "entry": first["entry"],
        "entries": 1,
        "head": head(first["entry"]),
    }
    assert read_entry(first["entry"], identity) == expected
    assert read_entry(second["entry"], identity) == expected | {
        "number": 1,
        "previous": first["head"],
        "time": 7,
        "job": "stand",
        "by": "owner",
        "provider": b"",
        "order": b"",
        "detail": b"",
    }
    with pytest.raises(InvalidSignature):
        read_entry(second["entry"], provider.ticket_key)
    assert chip.service() == {
        "entries": 2,
        "head": head(second["entry"]),
        "last": second["entry"],
        "providers": [["Repairs", provider.ticket_key]],
    }
    chip.close()
    contents = read_contents((tmp_path / "vault.sealed").read_bytes(), sealing_key(tmp_path))
    assert list(contents)[-6:] == [
        "providers",
        "spent_orders",
        "spent_floor",
        "record_entries",
        "record_head",
        "record_last",
    ]
    assert cbor2.loads(contents["providers"]) == [["Repairs", provider.ticket_key]]
    assert contents["spent_orders"] == bytes(range(16)) + (2**33).to_bytes(8)
    assert (contents["spent_floor"], contents["record_entries"]) == (0, 2)
    assert contents["record_head"] == head(second["entry"])
    assert contents["record_last"] == second["entry"]


def test_orders_of_others_are_refused(chip: Vaultd) -> None:
    """Promise: each reason has its code, and a refusal leaves the record as it is."""
    provider, number = another_authority(), ecid(chip)
    good = work_order(provider, number, JOB)
    assert code(chip.record(JOB, order=good)) == "order"
    assert chip.trust(provider.ticket_key)["ok"]
    now = cbor2.loads(cbor2.loads(good).value[2])["issued"]
    late = work_order(
        provider, number, JOB, not_before=now + DAY_SECONDS, not_after=now + DAY_SECONDS
    )
    # The same key's ticket is no leave to work inside the machine.
    ticket = provider.sign_ticket(chip.request())
    for order, expected in (
        (b"no order", "order"),
        (ticket, "order"),
        (bytes(1024), "order"),
        (work_order(the_authority(), number, JOB), "order"),
        (work_order(provider, number, JOB, version=2), "order"),
        (work_order(provider, number, JOB, more=1), "order"),
        (work_order(provider, number, JOB, id=bytes(15)), "order"),
        (work_order(provider, number, JOB, not_before=0), "order"),
        (work_order(provider, number ^ 1, JOB), "other_chip"),
        (work_order(provider, number, "memory 128"), "job"),
        (late, "validity"),
        (bytes(1025), "malformed"),
    ):
        assert code(chip.record(JOB, order=order)) == expected, order
    assert chip.service()["entries"] == 0
    assert chip.record(JOB, order=good)["ok"]
    assert code(chip.record(JOB, order=good)) == "replayed"
    assert chip.service()["entries"] == 1


def test_record_outlives_the_data(tmp_path: Path, chip: Vaultd) -> None:
    """Promise: neither an erase nor a new life nor SIGKILL brings a spent order back."""
    provider = another_authority()
    assert chip.trust(provider.ticket_key)["ok"]
    order = work_order(provider, ecid(chip), JOB)
    assert chip.record(JOB, order=order)["ok"]
    kept = chip.service()
    assert chip.ask("erase")["ok"]
    assert chip.service() == kept
    assert chip.ask("restore", **pins(another_authority()))["ok"]
    assert chip.service() == kept
    chip.process.send_signal(signal.SIGKILL)
    chip.process.wait(60)
    with vaultd(tmp_path) as again:
        assert again.ask("open")["ok"]
        assert again.service() == kept
        assert code(again.record(JOB, order=order)) == "replayed"
        assert again.record("ssd 0")["entries"] == 2


def test_owner_is_asked_for_the_password(chip: Vaultd) -> None:
    """Promise: with a password nobody else says who is trusted or that work was the owner's."""
    provider = another_authority()
    assert chip.give("set_password", PASSWORD)["ok"]
    assert code(chip.trust(provider.ticket_key)) == "unauthorised"
    assert code(chip.record(JOB)) == "unauthorised"
    assert code(chip.trust(provider.ticket_key, b"guess")) == "wrong"
    assert code(chip.record(JOB, b"another")) == "wrong"
    assert chip.ask("status")["password_failures"] == 2
    assert chip.trust(provider.ticket_key, PASSWORD) == {"ok": True}
    assert chip.ask("status")["password_failures"] == 0
    entry = chip.record(JOB, PASSWORD)["entry"]
    identity = chip.ask("identity")["identity_public_key"]
    assert read_entry(entry, identity)["by"] == "owner with password"
    # Whoever has an order needs no password, and is asked for none.
    order = work_order(provider, ecid(chip), JOB)
    assert code(chip.record(JOB, PASSWORD, order=order)) == "descriptor"
    assert chip.record(JOB, order=order)["entries"] == 2
    fields = {"fingerprint": head(provider.ticket_key)}
    assert code(chip.give("distrust_provider", **fields)) == "unauthorised"
    assert chip.give("distrust_provider", PASSWORD, **fields) == {"ok": True}
    assert code(chip.give("distrust_provider", PASSWORD, **fields)) == "absent"
    assert chip.service()["providers"] == []


def test_providers_are_few_and_plain(chip: Vaultd) -> None:
    """Promise: eight keys with names that a terminal can show, and no ninth."""
    key = new_key()
    for name in ("", "x" * 65, "Werkst\u00e4tte", "a\nb", "\x1b[2J"):
        assert code(chip.trust(key, name=name)) == "malformed"
    for wrong in (b"", key[:-1], key + b"\0", bytes(91), key[:-1] + bytes([key[-1] ^ 1])):
        assert code(chip.trust(wrong)) == "malformed"
    for _ in range(8):
        assert chip.trust(new_key())["ok"]
    assert code(chip.trust(key)) == "full"
    known = chip.service()["providers"][2][1]
    assert chip.trust(known, name="Another name")["ok"]
    assert chip.service()["providers"][2] == ["Another name", known]


def test_work_that_no_entry_can_hold(chip: Vaultd) -> None:
    """Promise: a job is a plain word, its detail one plain map; the longest fit into one packet."""
    longest = encode({"a": bytes(506)})
    assert len(longest) == 512
    assert chip.record("x" * 64, detail=longest, continues=bytes(range(32)))["ok"]
    for job, detail, continues in (
        ("", b"", b""),
        ("x" * 65, b"", b""),
        ("Stand", b"", b""),
        ("stand", encode({"a": bytes(507)}), b""),
        ("stand", b"no map", b""),
        ("stand", encode({1: 2}), b""),
        ("stand", encode({"a": 1.5}), b""),
        ("stand", b"", bytes(31)),
        ("stand", b"", bytes(32)),
    ):
        assert code(chip.record(job, detail=detail, continues=continues)) == "malformed"
    assert chip.service()["entries"] == 1


def test_new_chip_goes_on_from_the_old_one(tmp_path: Path, chip: Vaultd) -> None:
    """Promise: the record of a chip that took another's place begins where that one's ended."""
    assert chip.record("logic-board")["ok"]
    end = chip.service()["head"]
    (tmp_path / "new").mkdir()
    with vaultd(tmp_path / "new") as new:
        new.birth()
        first = new.record("logic-board", continues=end)
        entry = read_entry(first["entry"], new.ask("identity")["identity_public_key"])
        assert (entry["number"], entry["previous"]) == (0, end)
        assert code(new.record("stand", continues=end)) == "malformed"


def test_closed_vault_records_nothing(tmp_path: Path) -> None:
    """Promise: before a chip is open there is nothing to ask it, and no descriptor is kept."""
    with vaultd(tmp_path) as vault, secret(b"word") as word:
        assert code(vault.ask("service")) == "locked"
        assert code(vault.record(JOB)) == "locked"
        assert code(vault.trust(new_key())) == "locked"
        assert code(vault.ask("service", word)) == "descriptor"
