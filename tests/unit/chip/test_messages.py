"""The mailbox's messages: only what the protocol lists is taken, whatever the bytes are."""

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cbor2
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spacegray import authenticode, sockets
from spacegray.chip import keeping, limits, mailbox, messages, service_record, starting
from spacegray.chip.firmware import ANSWERED
from spacegray.sockets import PeerError

DOCUMENT = (Path(__file__).parents[3] / "docs" / "chip-protocol.md").read_text()

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)

PINS = {"authority": bytes(91), "vendor": bytes(2048)}
ESP = {"number": 1, "start_sector": 2048, "sectors": 1048576, "guid": bytes(16)}
ASKED = {
    "op": "request_ticket", "slot": "a", "product": "tiny", "epoch": 0, "system": bytes(32),
}  # fmt: skip
ANSWERED_WITH = {
    "op": "accept_ticket", "slot": "a", "ticket": bytes(2048), "source": "ovmf", "esp": ESP,
}  # fmt: skip
TRUSTED = {"op": "trust_provider", "name": "Corner shop", "key": bytes(91)}
RECORDED = {"op": "record_service", "job": "memory 64", "detail": b"\xa0"}

VALUES = st.sampled_from(
    [
        "password",
        "recovery_key",
        "normal",
        "recovery",
        "keyfile",
        "nbd",
        16 * 1024**2,
        bytes(8),
        bytes(32),
        bytes(91),
        b"",
        "memory 64",
        "a",
        "tiny",
        "main",
        "ok",
        ESP,
        1,
    ]
)


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"op": "show"}, messages.Show),
        ({"op": "birth", "seal": "keyfile", **PINS}, messages.Birth),
        ({"op": "birth", "seal": "passphrase", **PINS, "vendor": b"x"}, messages.Birth),
        ({"op": "adopt_bundle", "seal": "tpm2", **PINS}, messages.AdoptBundle),
        ({"op": "unseal"}, messages.Unseal),
        ({"op": "unlock"}, messages.Unlock),
        ({"op": "unlock", "with": "recovery_key", "mode": "normal"}, messages.Unlock),
        ({"op": "unlock", "with": "firmware_password"}, messages.Unlock),
        ({"op": "set_password"}, messages.SetPassword),
        ({"op": "change_password", "mode": "recovery"}, messages.ChangePassword),
        ({"op": "remove_password", "with": "password"}, messages.RemovePassword),
        ({"op": "set_firmware_password"}, messages.SetFirmwarePassword),
        ({"op": "make_recovery_key"}, messages.MakeRecoveryKey),
        ({"op": "authorise_rollback", "with": "recovery_key"}, messages.AuthoriseRollback),
        ({"op": "service"}, messages.Service),
        (TRUSTED, messages.TrustProvider),
        (TRUSTED | {"name": "~" * 64, "with": "recovery_key"}, messages.TrustProvider),
        ({"op": "distrust_provider", "fingerprint": bytes(32)}, messages.DistrustProvider),
        (RECORDED, messages.RecordService),
        (RECORDED | {"job": "x" * 64, "detail": bytes(512)}, messages.RecordService),
        (RECORDED | {"order": bytes(1024), "continues": bytes(32)}, messages.RecordService),
        (RECORDED | {"order": b"", "continues": b"", "mode": "recovery"}, messages.RecordService),
        ({"op": "erase"}, messages.Erase),
        ({"op": "restore", **PINS}, messages.Restore),
        ({"op": "attest", "nonce": bytes(8)}, messages.Attest),
        ({"op": "attest", "nonce": bytes(64)}, messages.Attest),
        ({"op": "export_recovery"}, messages.ExportRecovery),
        ({"op": "destroy"}, messages.Destroy),
        (ASKED, messages.RequestTicket),
        (ASKED | {"slot": "b", "epoch": 2**63 - 1, "product": "x" * 32}, messages.RequestTicket),
        (ANSWERED_WITH, messages.AcceptTicket),
        (ANSWERED_WITH | {"tries": 8, "source": "x" * 200}, messages.AcceptTicket),
        ({"op": "came_up"}, messages.CameUp),
        ({"op": "give_up"}, messages.GiveUp),
        ({"op": "create_disk", "size_bytes": 10**12}, messages.CreateDisk),
        ({"op": "erase_disk", "size_bytes": 16 * 1024**2}, messages.EraseDisk),
        ({"op": "open_disk"}, messages.OpenDisk),
        ({"op": "open_disk", "front": "nbd", "strict": True}, messages.OpenDisk),
        ({"op": "open_disk", "adopt": True}, messages.OpenDisk),
        ({"op": "verify_disk", "block": 0, "count": 2**30}, messages.VerifyDisk),
        ({"op": "disk_health"}, messages.DiskHealth),
        ({"op": "close_disk"}, messages.CloseDisk),
        ({"op": "prepare_start"}, messages.PrepareStart),
        ({"op": "prepare_start", "target": "recovery", "strict": True}, messages.PrepareStart),
        ({"op": "report", "link": "kernel", "status": "ok", "detail": ""}, messages.Report),
    ],
)
def test_each_operation_is_understood(fields: dict[str, Any], kind: type) -> None:
    assert isinstance(messages.parse_request(messages.encode_map(fields)), kind)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"op": "export_key"},
        {"op": ["show"]},
        {"op": "show", "force": True},
        {"op": "birth"},
        {"op": "birth", "seal": "keyfile"},
        {"op": "birth", "seal": "none", **PINS},
        {"op": "birth", "seal": "keyfile", **PINS, "authority": bytes(90)},
        {"op": "birth", "seal": "keyfile", **PINS, "authority": "x" * 91},
        {"op": "birth", "seal": "keyfile", **PINS, "vendor": b""},
        {"op": "birth", "seal": "keyfile", **PINS, "vendor": bytes(2049)},
        {"op": "birth", "seal": "keyfile", "passphrase": "secret", **PINS},
        {"op": "unseal", "passphrase": "secret"},
        {"op": "unlock", "with": "finger"},
        {"op": "change_password", "with": "firmware_password"},
        {"op": "unlock", "with_": "password"},
        {"op": "unlock", "mode": None},
        {"op": "unlock", "password": "secret"},
        {"op": "service", "entries": 1},
        TRUSTED | {"name": ""},
        TRUSTED | {"name": "x" * 65},
        TRUSTED | {"name": "two\nlines"},
        TRUSTED | {"name": "\N{SNOWMAN}"},
        TRUSTED | {"key": bytes(90)},
        TRUSTED | {"password": "secret"},
        {"op": "distrust_provider"},
        {"op": "distrust_provider", "fingerprint": bytes(31)},
        {"op": "distrust_provider", "fingerprint": "0" * 64},
        RECORDED | {"job": ""},
        RECORDED | {"job": "x" * 65},
        RECORDED | {"job": "Memory"},
        RECORDED | {"job": "memory\n"},
        RECORDED | {"job": b"memory"},
        RECORDED | {"detail": bytes(513)},
        RECORDED | {"detail": {}},
        RECORDED | {"order": bytes(1025)},
        RECORDED | {"order": None},
        RECORDED | {"continues": bytes(31)},
        RECORDED | {"continues": bytes(33)},
        RECORDED | {"time": 1},
        {"op": "restore"},
        {"op": "restore", "source": "ovmf", **PINS},
        ASKED | {"slot": "c"},
        ASKED | {"product": ""},
        ASKED | {"product": "x" * 33},
        ASKED | {"product": "Tiny"},
        ASKED | {"product": "tiny\n"},
        ASKED | {"epoch": -1},
        ASKED | {"epoch": 2**63},
        ASKED | {"system": bytes(31)},
        ASKED | {"firmware": bytes(32)},
        ANSWERED_WITH | {"ticket": b""},
        ANSWERED_WITH | {"ticket": bytes(2049)},
        ANSWERED_WITH | {"tries": 9},
        ANSWERED_WITH | {"tries": -1},
        ANSWERED_WITH | {"source": ""},
        ANSWERED_WITH | {"source": "x" * 201},
        ANSWERED_WITH | {"esp": ESP | {"number": 0}},
        ANSWERED_WITH | {"esp": ESP | {"guid": bytes(15)}},
        ANSWERED_WITH | {"esp": ESP | {"more": 1}},
        ANSWERED_WITH | {"esp": {}},
        {"op": "prepare_start", "target": "network"},
        {"op": "report", "link": "", "status": "ok", "detail": ""},
        {"op": "report", "link": "kernel\n", "status": "ok", "detail": ""},
        {"op": "report", "link": "kernel", "status": "maybe", "detail": ""},
        {"op": "report", "link": "kernel", "status": "ok", "detail": "x" * 501},
        {"op": "attest"},
        {"op": "attest", "nonce": bytes(7)},
        {"op": "attest", "nonce": bytes(65)},
        {"op": "attest", "nonce": "QUFBQUFBQUE="},
        {"op": "open_disk", "adopt": 1},
        {"op": "create_disk"},
        {"op": "create_disk", "size_bytes": "1000"},
        {"op": "create_disk", "size_bytes": 1.0e12},
        {"op": "create_disk", "size_bytes": True},
        {"op": "create_disk", "size_bytes": 0},
        {"op": "create_disk", "size_bytes": -512},
        {"op": "create_disk", "size_bytes": 16 * 1024**2 - 4096},
        {"op": "create_disk", "size_bytes": 16 * 1024**2 + 512},
        {"op": "create_disk", "size_bytes": 4 * 1024**4 + 4096},
        {"op": "create_disk", "size_bytes": 2**70},
        {"op": "erase_disk"},
        {"op": "open_disk", "strict": 1},
        {"op": "verify_disk", "block": -1, "count": 1},
        {"op": "verify_disk", "block": 0, "count": 0},
        {"op": "verify_disk", "block": 0, "count": 2**30 + 1},
        {"op": "prepare_start", "strict": "yes"},
        {"op": "open_disk", "front": "fuse"},
        {"op": "open_disk", "front": b"nbd"},
    ],
)
def test_wrong_fields_are_refused_without_a_hint(fields: dict[str, Any]) -> None:
    """Promise: who sends rubbish learns nothing of what would be understood."""
    with pytest.raises(PeerError, match=r"^not a request of the chip$"):
        messages.parse_request(messages.encode_map(fields))


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xa0\x00",
        cbor2.dumps({"op": "show"}) + b"\x00",
        cbor2.dumps({"op": "show"}) * 2,
        cbor2.dumps("show"),
        cbor2.dumps(["op", "show"]),
        cbor2.dumps({1: "op"}),
        cbor2.dumps({"op": "show", "at": datetime.now(UTC)}),
        cbor2.dumps(cbor2.CBORTag(55799, {"op": "show"})),
        cbor2.dumps(cbor2.CBORTag(4, [10**9, 1])),
        cbor2.dumps({"op": cbor2.CBORTag(35, "(a+)+$")}),
        b"\xbf\x62op\x64show\xff",
        b"\xa2\x62op\x64show\x62op\x64show",
        b"\x81" * 60_000,
        b"\xbb" + b"\xff" * 8,
        b"\x5b" + b"\xff" * 8,
    ],
)
def test_what_is_no_plain_map_is_refused(payload: bytes) -> None:
    with pytest.raises(PeerError):
        messages.parse_request(payload)


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_no_bytes_do_more_than_be_refused(payload: bytes) -> None:
    try:
        messages.parse_request(payload)
    except PeerError:
        return


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.sampled_from(sorted(messages.OPERATIONS)), st.data())
def test_no_fields_do_more_than_be_refused(op: str, data: st.DataObject) -> None:
    known = {field.encode_name for field in msgspec.structs.fields(messages.OPERATIONS[op])}
    fields = data.draw(st.dictionaries(st.sampled_from([*sorted(known), "x"]), PLAIN | VALUES))
    payload = messages.encode_map({"op": op} | fields)
    try:
        request = messages.parse_request(payload)
    except PeerError:
        return
    assert set(fields) <= known
    assert type(request) is messages.OPERATIONS[op]


def test_document_lists_the_operations() -> None:
    assert [op for op, *_ in rows()] == list(messages.OPERATIONS)


def test_document_lists_fields_and_descriptors() -> None:
    for op, fields, descriptors, _ in rows():
        kind = messages.OPERATIONS[op]
        named = re.findall(r"(?:^|; )`(\w+)`", fields)
        wanted = [field.encode_name for field in msgspec.structs.fields(kind)]
        assert sorted(named) == sorted(wanted), op
        counts = re.match(r"(\d)(?: or (\d))?", descriptors)
        assert counts is not None, op
        assert tuple(int(each) for each in counts.groups() if each) == kind.descriptors, op


def test_document_says_which_are_answered_when() -> None:
    for state, kinds in ANSWERED.items():
        (row,) = re.findall(rf"^\| `{state}`: [^|]*\| (.*) \|$", DOCUMENT, re.MULTILINE)
        listed = {messages.OPERATIONS[op] for op in re.findall(r"`(\w+)`", row)}
        assert listed == set(kinds)


def rows() -> list[tuple[str, ...]]:
    """The table of requests: operation, fields, descriptors, reply."""
    return re.findall(r"^\| `(\w+)` \| (.*?)\| (.*?)\| (.*?)\|$", DOCUMENT, re.MULTILINE)


def test_document_states_the_limits() -> None:
    assert f"at most {sockets.MESSAGE_LIMIT_BYTES}" in DOCUMENT
    assert f"at most {sockets.DESCRIPTOR_LIMIT}." in DOCUMENT
    assert f"within {mailbox.MESSAGE_SECONDS:.0f} seconds" in DOCUMENT
    assert f"at most {messages.DEPTH_LIMIT} levels" in DOCUMENT
    assert f"`nonce`: {messages.NONCE_LEAST_BYTES} to {messages.NONCE_LIMIT_BYTES} " in DOCUMENT
    assert f"1 to {messages.SOURCE_LIMIT_CHARACTERS} characters" in DOCUMENT
    assert f"`detail`: up to {messages.DETAIL_LIMIT_CHARACTERS} characters" in DOCUMENT
    assert f"`authority`: {messages.PUBLIC_KEY_BYTES} bytes" in DOCUMENT
    assert f"`vendor`: 1 to {messages.VENDOR_LIMIT_BYTES} bytes" in DOCUMENT
    assert f"`ticket`: 1 to {messages.TICKET_LIMIT_BYTES} bytes" in DOCUMENT
    assert f"`tries` (0): 0 to {messages.TRIES_LIMIT}" in DOCUMENT
    assert f"`key`: {messages.PUBLIC_KEY_BYTES} bytes" in DOCUMENT
    assert f"`name`: 1 to {messages.PROVIDER_NAME_LIMIT_CHARACTERS} printable" in DOCUMENT
    assert f"`job`: 1 to {messages.JOB_LIMIT_CHARACTERS} of" in DOCUMENT
    assert f"`detail`: up to {messages.JOB_DETAIL_LIMIT_BYTES} bytes" in DOCUMENT
    assert f"`order` (empty): up to {messages.ORDER_LIMIT_BYTES} bytes" in DOCUMENT
    assert f"`last`: up to {service_record.ENTRY_LIMIT_BYTES} bytes" in DOCUMENT
    assert f"`entry`: up to {service_record.ENTRY_LIMIT_BYTES} bytes" in DOCUMENT
    assert f"of one start {starting.LINKS_LIMIT} links" in DOCUMENT
    assert f"no more than {keeping.SIZE_LIMIT_BYTES} bytes" in DOCUMENT
    assert f"at most {authenticode.IMAGE_LIMIT_BYTES // 1024**2} MiB" in DOCUMENT
    assert f"{messages.DISK_LEAST_BYTES} to {messages.DISK_LIMIT_BYTES}" in DOCUMENT
    assert f"a multiple of {messages.DISK_BLOCK_BYTES}" in DOCUMENT
    assert f"`count`: 1 to {messages.DISK_LIMIT_BLOCKS}" in DOCUMENT
    assert mailbox.CONNECTION_LIMIT == 16
    assert "a seventeenth connection" in DOCUMENT


def test_document_states_the_rates() -> None:
    listed = re.findall(r"^\| (.*) \| (\d+) \| (\d+) \|$", DOCUMENT, re.MULTILINE)
    assert [(int(burst), float(rate)) for _, burst, rate in listed] == [
        (limits.CONNECTION_BURST, limits.CONNECTION_PER_SECOND),
        (limits.TOTAL_BURST, limits.TOTAL_PER_SECOND),
        (limits.COSTLY_BURST, limits.COSTLY_PER_SECOND),
    ]
    assert f"for {limits.SHARE_SECONDS} s" in listed[1][0]
    costly = {messages.OPERATIONS[op] for op in re.findall(r"`(\w+)`", listed[2][0])}
    assert costly == set(mailbox.COSTLY)
