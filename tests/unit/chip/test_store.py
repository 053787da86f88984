"""The variable store: another reader finds what we wrote, and nothing one leaves stops ours."""

import struct
import uuid
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from virt.firmware.varstore import edk2

from spacegray import host
from spacegray.chip import signatures, store
from spacegray.chip.store import Variable

TEMPLATE = host.ovmf().variables.read_bytes()
SHAPE = store.shape(TEMPLATE)
VENDOR = uuid.UUID("605dab50-e046-4300-abb6-3dd810dd8b23")
DBX = signatures.write([signatures.Signature(signatures.SHA256, VENDOR, bytes(32))])
SOME = [
    Variable("dbx", store.SECURITY, 0x27, DBX),
    Variable("Boot0000", store.GLOBAL, 7, b"odd"),
    Variable("MokNew", VENDOR, 7, b""),
]
HEADER_BYTES = 60


def theirs(content: bytes, folder: Path) -> Any:
    """What virt-firmware reads."""
    path = folder / "store"
    path.write_bytes(content)
    return edk2.Edk2VarStore(str(path)).get_varlist()


def test_what_is_written_is_read_back_by_us_and_by_others(tmp_path: Path) -> None:
    content = store.write(TEMPLATE, SOME)
    assert len(content) == len(TEMPLATE)
    assert store.read(content) == SOME
    found = theirs(content, tmp_path)
    assert set(found) == {each.name for each in SOME}
    for each in SOME:
        other = found[each.name]
        assert (other.guid, other.attr, other.data) == (each.vendor, each.attributes, each.data)
    assert found["dbx"].time.year == 2010
    assert found["Boot0000"].time is None


def test_the_rest_is_the_templates() -> None:
    content = store.write(TEMPLATE, SOME)
    assert content[: SHAPE.start] == TEMPLATE[: SHAPE.start]
    assert content[SHAPE.end :] == TEMPLATE[SHAPE.end :]
    assert store.read(TEMPLATE) == []


def test_what_was_deleted_does_not_count() -> None:
    content = bytearray(store.write(TEMPLATE, SOME))
    content[SHAPE.start + 2] = 0x3C
    assert store.read(bytes(content)) == SOME[1:]
    content[SHAPE.start + 2] = 0x3E
    assert store.read(bytes(content)) == SOME, "its replacement was cut off"


def test_more_than_fits_is_refused() -> None:
    full = Variable("x", VENDOR, 3, bytes(SHAPE.end - SHAPE.start - HEADER_BYTES - 4))
    assert store.read(store.write(TEMPLATE, [full])) == [full]
    with pytest.raises(ValueError, match="do not fit"):
        store.write(TEMPLATE, [full._replace(data=full.data + bytes(4))])


@pytest.mark.parametrize(
    "content", [b"", bytes(4096), TEMPLATE[:50], TEMPLATE[: SHAPE.end - 1], b"x" + TEMPLATE]
)
def test_what_is_no_store_is_refused(content: bytes) -> None:
    for action in (store.read, lambda template: store.write(template, [])):
        with pytest.raises(ValueError, match="EDK II store"):
            action(content)


@pytest.mark.parametrize("field", [36, 40])
@pytest.mark.parametrize("length", [2**32 - 1, 2**31, SHAPE.end])
def test_a_variable_that_says_it_is_longer_than_its_store_is_refused(
    field: int, length: int
) -> None:
    """Promise: a length is checked before it is used."""
    content = bytearray(store.write(TEMPLATE, SOME))
    struct.pack_into("<I", content, SHAPE.start + field, length)
    with pytest.raises(ValueError, match="does not fit"):
        store.read(bytes(content))


@settings(deadline=None)
@given(st.integers(0, 600), st.binary(min_size=1, max_size=80))
def test_nothing_that_a_machine_leaves_does_more_than_be_refused(at: int, noise: bytes) -> None:
    content = bytearray(store.write(TEMPLATE, SOME))
    content[at : at + len(noise)] = noise
    try:
        found = store.read(bytes(content))
    except ValueError:
        return
    assert sum(len(each.data) for each in found) < len(content)
