"""Entries are taken in one form only, and true only with their chip's signature."""

import random
import time
from pathlib import Path

import cbor2
import pytest

from spacegray.errors import SpacegrayError
from spacegray.paths import Paths, WorkstationPaths
from spacegray.service import record
from spacegray.spec import Spec
from spacegray.workstation import under_way
from tests.support.service_entries import NOTHING, TIME, Signer, filed

MUTATIONS = 2000
SEED = 9
SPLIT_SECONDS = 20.0
"""A hundred times what a slow host takes; copying the rest each time takes minutes."""


@pytest.fixture
def at(tmp_path: Path) -> WorkstationPaths:
    paths = Paths.current({"SPACEGRAY_HOME": str(tmp_path)}).workstation("pro")
    paths.folder.mkdir(parents=True)
    return paths


def test_an_entry_says_what_was_signed():
    chip = Signer()
    entry = record.read(
        chip.record("memory 64", Spec(), by="provider", provider=b"\1" * 32, order=b"\2" * 16)
    )
    assert (entry.ecid, entry.number, entry.previous) == (chip.ecid, 0, NOTHING)
    assert (entry.time, entry.job, entry.by) == (TIME, "memory 64", "provider")
    assert entry.provider == "01" * 32
    assert entry.machine("before")["memory_gb"] == 32
    assert entry.machine("after")["memory_gb"] == 64
    assert entry.head == chip.head
    assert entry.signed_by(chip.key.public_key())
    assert not entry.signed_by(Signer().key.public_key())
    assert entry.key == chip.key.public_key()
    assert record.read(chip.record("stand", Spec())).key is None


@pytest.mark.parametrize(
    "changed",
    [
        {"type": "ticket"}, {"version": 2}, {"number": -1}, {"previous": bytes(31)},
        {"by": "somebody"}, {"detail": b"\xff"}, {"detail": cbor2.dumps([1])}, {"more": 1},
        {"ecid": -1}, {"ecid": 2**64}, {"time": 1.5}, {"time": 2**63}, {"order": ""},
        {"time": 253_402_300_800}, {"order": bytes(15)}, {"provider": bytes(32)},
    ],
)  # fmt: skip
def test_what_is_signed_and_still_wrong_is_no_entry(changed):
    with pytest.raises(ValueError, match="no service entry"):
        record.read(Signer().record("memory 64", Spec(), **changed))


@pytest.mark.parametrize("job", ["", "x" * 65, "stand\n", "\x1b[2Jall verified", "Memory"])
def test_what_no_chip_signs_as_a_job_is_no_entry(job: str):
    with pytest.raises(ValueError, match="no service entry"):
        record.read(Signer().record(job, Spec()))


def test_another_kind_of_statement_is_no_entry():
    chip = Signer()
    said = cbor2.loads(cbor2.loads(chip.record("stand", Spec())).value[2])
    for header in (
        {1: -7, 4: chip.thumbprint, 16: "application/eat+cwt"},
        {1: -8, 4: chip.thumbprint, 16: "application/x-spacegray-service-entry+cbor"},
        {1: -7, 4: chip.thumbprint},
    ):
        with pytest.raises(ValueError, match="no service entry"):
            record.read(chip.sign(said, header))


def test_rubbish_is_refused_and_nothing_else_happens():
    good = Signer().record("memory 64", Spec())
    dice = random.Random(SEED)
    for _ in range(MUTATIONS):
        changed = bytearray(good)
        for _ in range(dice.randrange(1, 4)):
            changed[dice.randrange(len(good))] = dice.randrange(256)
        try:
            record.read(bytes(changed))
        except ValueError:
            continue


def test_what_people_are_shown_of_a_machine_is_plain():
    """Nobody vouches for an entry that is not verified, and it is shown all the same."""
    machine = {"cores": "\x1b[2J", "memory_gb": 64, "graphics": [1], "mount": "stand", "more": 1}
    said = cbor2.dumps({"before": machine, "after": [machine]})
    entry = record.read(Signer().record("memory 64", Spec(), detail=said))
    assert entry.machine("before") == {"memory_gb": 64, "mount": "stand"}
    assert entry.machine("after") == {}


def test_a_file_full_of_rubbish_is_split_at_once():
    """Four million bytes as entries of one byte each; and no entry is that short."""
    rubbish = b"\0\1x" * (under_way.RECORD_LIMIT_BYTES // 3)
    began = time.monotonic()
    assert record.split(rubbish) == ([], False)
    least = bytes([1, 0]) + bytes(256)
    assert len(record.split(least * (len(rubbish) // len(least)))[0]) > 10_000
    assert time.monotonic() - began < SPLIT_SECONDS
    shortest = Signer().record("x", Spec(), detail=b"", number=0, time=0)
    assert len(shortest) > record.ENTRY_LEAST_BYTES


def test_a_file_is_its_entries_each_after_its_length(at: WorkstationPaths):
    chip = Signer()
    assert under_way.content(at) == b""
    for text in ("memory 64", "memory 64", "stand"):
        under_way.append(at, chip.record(text, Spec()))
    assert under_way.content(at) == filed(*chip.entries)
    under_way.append(at, chip.entries[-1])
    assert record.split(under_way.content(at)) == (chip.entries, True)


def test_a_file_without_an_end_is_not_read_to_it(at: WorkstationPaths):
    at.service_record.parent.mkdir()
    with at.service_record.open("wb") as file:
        file.truncate(under_way.RECORD_LIMIT_BYTES + 1)
    with pytest.raises(SpacegrayError, match="too long"):
        under_way.content(at)


def test_what_is_set_aside_is_kept(at: WorkstationPaths):
    chip = Signer()
    under_way.append(at, chip.record("stand", Spec()))
    under_way.set_aside(at, chip.ecid)
    assert under_way.content(at) == b""
    kept = at.service_record.with_name(f"record-{chip.ecid}")
    assert kept.read_bytes() == filed(*chip.entries)
