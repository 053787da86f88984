"""Signature lists: another reader finds what we wrote, and rubbish is refused."""

import struct
import uuid

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from virt.firmware.efi import siglist

from spacegray.chip import signatures
from spacegray.chip.signatures import SHA256, X509, X509_SHA256, Signature
from tests.support.authority import the_authority

OWNER = uuid.UUID("77fa9abd-0359-4d32-bd60-28f4e78f784b")
SOME = [
    Signature(SHA256, OWNER, b"\x01" * 32),
    Signature(X509, OWNER, the_authority().vendor),
    Signature(SHA256, OWNER, b"\x02" * 32),
    Signature(X509_SHA256, OWNER, b"\x03" * 48),
]
DATABASE = signatures.write(SOME)


def test_what_is_written_is_read_back() -> None:
    assert set(signatures.read(DATABASE)) == set(SOME)
    assert signatures.write(signatures.read(DATABASE)) == DATABASE
    assert (signatures.write([]), list(signatures.read(b""))) == (b"", [])


def test_others_read_the_same() -> None:
    found = siglist.EfiSigDB(signatures.write(SOME[:3]))
    assert [(str(each.guid), len(each)) for each in found] == [(str(SHA256), 2), (str(X509), 1)]
    assert found.has_sig(str(SHA256), b"\x02" * 32)
    assert found[1][0] == {"guid": OWNER, "data": the_authority().vendor}


def test_each_is_there_once() -> None:
    assert signatures.write(SOME + SOME) == DATABASE
    other = Signature(SHA256, uuid.UUID(int=0), b"\x01" * 32)
    assert signatures.write([*SOME, other]) == DATABASE


@pytest.mark.parametrize(
    ("field", "value"),
    [(16, 0), (16, 27), (16, 2**32 - 1), (20, 1), (24, 0), (24, 16), (24, 47), (24, 2**32 - 1)],
)
def test_no_length_leads_out_of_a_list(field: int, value: int) -> None:
    """Promise: sizes that do not add up are refused, also those that would never end."""
    database = bytearray(DATABASE)
    struct.pack_into("<I", database, field, value)
    with pytest.raises(ValueError, match=r"strange|cut short"):
        list(signatures.read(bytes(database)))


@pytest.mark.parametrize("database", [b"x", DATABASE[:-1], DATABASE + b"x", bytes(28)])
def test_what_is_cut_short_or_another_kind_is_refused(database: bytes) -> None:
    with pytest.raises(ValueError, match=r"strange|cut short"):
        list(signatures.read(database))


@settings(deadline=None)
@given(st.integers(0, len(DATABASE)), st.binary(max_size=40))
def test_rubbish_is_refused_or_read(at: int, noise: bytes) -> None:
    database = DATABASE[:at] + noise + DATABASE[at + len(noise) :]
    try:
        found = list(signatures.read(database))
    except ValueError:
        return
    assert sum(len(each.data) for each in found) <= len(database)
