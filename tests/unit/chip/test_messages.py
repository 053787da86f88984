"""The mailbox's messages: only what the protocol lists is taken, whatever the bytes are."""

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cbor2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spacegray import sockets
from spacegray.chip import authenticode, mailbox, messages
from spacegray.sockets import PeerError

DOCUMENT = (Path(__file__).parents[3] / "docs" / "chip-protocol.md").read_text()

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"op": "show"}, messages.Show),
        ({"op": "sign_image"}, messages.SignImage),
        ({"op": "create_disk", "size_bytes": 10**12}, messages.CreateDisk),
        ({"op": "erase_disk", "size_bytes": 16 * 1024**2}, messages.EraseDisk),
        ({"op": "open_disk"}, messages.OpenDisk),
        ({"op": "open_disk", "front": "nbd", "strict": True}, messages.OpenDisk),
        ({"op": "verify_disk", "block": 0, "count": 2**30}, messages.VerifyDisk),
        ({"op": "disk_health"}, messages.DiskHealth),
        ({"op": "close_disk"}, messages.CloseDisk),
        ({"op": "prepare_start"}, messages.PrepareStart),
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
def test_wrong_fields_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(PeerError):
        messages.parse_request(messages.encode_map(fields))


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xa0\x00",
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
@given(st.dictionaries(st.sampled_from(["op", "size_bytes", "front", "x"]), PLAIN))
def test_no_fields_do_more_than_be_refused(fields: dict[str, Any]) -> None:
    payload = messages.encode_map({"op": "create_disk"} | fields)
    try:
        request = messages.parse_request(payload)
    except PeerError:
        return
    assert set(fields) <= {"op", "size_bytes", "front"}
    assert type(request).__struct_config__.tag in messages.OPERATIONS


def test_document_lists_the_operations() -> None:
    listed = re.findall(r"^\| `(\w+)` \|", DOCUMENT, re.MULTILINE)
    assert listed == list(messages.OPERATIONS)


def test_document_states_the_limits() -> None:
    assert f"at most {sockets.MESSAGE_LIMIT_BYTES}" in DOCUMENT
    assert f"at most {sockets.DESCRIPTOR_LIMIT}." in DOCUMENT
    assert f"within {mailbox.MESSAGE_SECONDS:.0f} seconds" in DOCUMENT
    assert f"at most {messages.DEPTH_LIMIT} levels" in DOCUMENT
    assert f"at most {authenticode.IMAGE_LIMIT_BYTES // 1024**2} MiB" in DOCUMENT
    assert f"{messages.DISK_LEAST_BYTES} to {messages.DISK_LIMIT_BYTES}" in DOCUMENT
    assert f"a multiple of {messages.DISK_BLOCK_BYTES}" in DOCUMENT
    assert f"`count`: 1 to {messages.DISK_LIMIT_BLOCKS}" in DOCUMENT
    assert mailbox.CONNECTION_LIMIT == 16
    assert "a seventeenth connection" in DOCUMENT
