"""Attack: change the service record, or the machine behind its back, with a real chip to compare.

Promise: what the record does not truly say is said to be not true. Whoever may write to the
workstation's folder can destroy the record, and cannot make it say anything else unnoticed.
"""

import contextlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from spacegray import spec as specs
from spacegray.errors import SpacegrayError, UsageError
from spacegray.service.history import History
from spacegray.workstation.under_way import UnderWay
from tests.support.authority import the_authority
from tests.support.bench import Bench, made
from tests.support.service_entries import Signer, filed

STORE = "vault.sealed"
MEMORY, PROCESSOR, MOUNT = "memory 64", "processor 18", "vesa-mount"


@pytest.fixture(scope="module")
def serviced(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """A machine with three entries: by a provider, by its owner, by its owner outside.

    `yesterday` beside its home is the workstation's folder as it was before the last of them, with
    the vault's store of that day in it.
    """
    it = made(tmp_path_factory.mktemp("record") / "home")
    it.trust(the_authority())
    it.do(MEMORY, it.order(the_authority(), MEMORY))
    it.do(PROCESSOR)
    shutil.copytree(it.at.folder, it.home.parent / "yesterday")
    shutil.copy(it.at.state_folder / STORE, it.home.parent / "yesterday")
    it.do(MOUNT)
    return it


@pytest.fixture
def it(serviced: Bench, tmp_path: Path) -> Bench:
    """A copy of it to attack."""
    return serviced.copied(tmp_path / "home")


def put(it: Bench, content: bytes) -> History:
    """The history with this as the record's file."""
    it.at.service_record.write_bytes(content)
    found = it.history()
    assert found.verified == (not found.wrong)
    return found


def test_what_was_done_and_by_whom_is_there(it: Bench) -> None:
    """The control: what is attacked below is true before."""
    found = it.history()
    assert found.verified, found.wrong
    assert [each.job for each in found.entries] == [MEMORY, PROCESSOR, MOUNT]
    assert [each.by for each in found.entries] == ["provider", "owner", "owner"]
    assert found.entries[0].provider == "the shop"
    assert len(found.entries[0].order) == 32
    assert all(each.verified for each in found.entries)


def test_an_edited_entry_is_noticed(it: Bench) -> None:
    """Eighteen cores become eight."""
    content = it.at.service_record.read_bytes()
    found = put(it, content.replace(b"processor 18", b"processor 08"))
    assert any("entry 1" in each and "was not signed" in each for each in found.wrong)
    assert [each.verified for each in found.entries] == [False, False, True]


def test_every_entry_is_missed(it: Bench) -> None:
    entries = it.on_file()
    for gone in range(len(entries)):
        left = [entry for number, entry in enumerate(entries) if number != gone]
        assert not put(it, filed(*left)).verified
    assert put(it, filed(*entries)).verified, "the control"


def test_another_order_is_noticed(it: Bench) -> None:
    one, two, three = it.on_file()
    for order in ((two, one, three), (one, three, two), (three, two, one)):
        found = put(it, filed(*order))
        assert any("does not follow" in each for each in found.wrong)


def test_a_cut_off_end_is_noticed(it: Bench) -> None:
    content = it.at.service_record.read_bytes()
    entries = it.on_file()
    for left in (b"", filed(*entries[:1]), filed(*entries[:2]), content[:-1]):
        assert not put(it, left).verified
    it.at.service_record.unlink()
    assert "none is here" in it.history().wrong[0]


def test_put_back_to_yesterday_it_is_older_than_the_chip_remembers(it: Bench, serviced: Bench):
    """The whole folder but the disk, so that record and spec agree with each other."""
    yesterday = serviced.home.parent / "yesterday"
    for file in ("spec.toml", "service/record"):
        shutil.copyfile(yesterday / file, it.at.folder / file)
    found = it.history()
    assert any("it ends with entry 1" in each for each in found.wrong)
    assert not any(each.verified for each in found.entries)


def test_put_back_with_the_chips_own_store_it_is_not_called_true(it: Bench, serviced: Bench):
    """The whole chip put back would need a TPM to be noticed: a known weakness."""
    yesterday = serviced.home.parent / "yesterday"
    for file in ("spec.toml", "service/record"):
        shutil.copyfile(yesterday / file, it.at.folder / file)
    shutil.copyfile(yesterday / STORE, it.at.state_folder / STORE)
    it.at.under_way.write_bytes(msgspec.json.encode(UnderWay(job=MOUNT, number=2)))
    found = it.history()
    assert not found.verified
    assert [each for each in found.wrong if "was put back to an older day" in each]
    assert it.at.under_way.exists(), "withdrawn by a chip that may have signed it"


def test_another_workstations_record_is_none_of_this_one(it: Bench, tmp_path: Path) -> None:
    other = made(tmp_path / "other")
    for text in (MEMORY, PROCESSOR, MOUNT):
        other.do(text)
    found = put(it, other.at.service_record.read_bytes())
    assert any("belongs to another machine" in each for each in found.wrong)


def test_an_entry_signed_by_another_key_is_not_the_chips(it: Bench) -> None:
    """All of it made anew with a better history, the chip's number in it, and a forger's key."""
    forger = Signer(it.ecid)
    spec = specs.replace(it.spec, {"memory_gb": 32})
    for text in (MEMORY, PROCESSOR, MOUNT):
        forger.record(text, spec)
    found = put(it, filed(*forger.entries))
    assert any("another key signed it" in each for each in found.wrong)
    assert not any(each.verified for each in found.entries)


def test_a_machine_changed_without_a_record_is_noticed(it: Bench) -> None:
    """The record is as it was, and true; the next entry does not cover it up."""
    more = specs.replace(it.spec, {"memory_gb": 256})
    it.at.spec.write_text(specs.dump(more))
    (wrong,) = it.history().wrong
    assert "since entry 2" in wrong
    assert "memory_gb was 64 and is 256" in wrong
    it.do("stand")
    (wrong,) = it.history().wrong
    assert "between entry 2 and entry 3" in wrong


def test_a_forged_note_of_a_job_under_way_does_no_job(it: Bench) -> None:
    """Neither one that was never signed, nor one that was long ago."""
    for number in (0, 2, 3, 7):
        note = UnderWay(job="memory 256", number=number)
        it.at.under_way.write_bytes(msgspec.json.encode(note))
        before = it.spec
        assert it.history().verified
        assert it.spec == before
        assert not it.at.under_way.exists()
    it.at.under_way.write_bytes(b"{")
    assert it.history().verified


def put_folder(path: Path) -> None:
    path.mkdir()


def put_pipe(path: Path) -> None:
    os.mkfifo(path)


def put_endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


def put_loop(path: Path) -> None:
    path.symlink_to(path)


def put_deep(path: Path) -> None:
    path.write_bytes(b'{"a":' + b"[" * 100_000)


def put_no_text(path: Path) -> None:
    path.write_bytes(b'{"job":"\xff","number":1}')


def put_nothing(path: Path) -> None:
    path.touch()


def named(put: Callable[[Path], None]) -> str:
    return put.__name__


STRANGE = (put_folder, put_pipe, put_endless, put_loop, put_deep, put_no_text)


@pytest.mark.parametrize("put", STRANGE, ids=named)
@pytest.mark.parametrize("name", ["record", "under-way.json"])
def test_whatever_lies_in_its_place_is_named_or_passed_over(
    it: Bench, name: str, put: Callable[[Path], None]
) -> None:
    """Never waited for, never read without an end, and no job is signed that could not be filed."""
    place = it.at.service_record.with_name(name)
    place.unlink(missing_ok=True)
    put(place)
    with contextlib.suppress(SpacegrayError):
        assert it.history().verified == (name != "record")
    with contextlib.suppress(SpacegrayError):
        it.do("stand")
    if place.is_dir():
        place.rmdir()
    else:
        place.unlink(missing_ok=True)
    filed_entries = len(it.on_file()) if name != "record" else 0
    assert it.entries() in (3, filed_entries or 4)


def test_a_link_in_its_place_carries_nothing_out_of_the_state_folder(it: Bench) -> None:
    """The next entry is put behind what is there: behind the sealed store, in a folder to copy."""
    it.at.service_record.unlink()
    it.at.service_record.symlink_to(it.at.state_folder / STORE)
    with pytest.raises(SpacegrayError, match="service/record"):
        it.do("stand")
    assert it.at.service_record.is_symlink()
    it.at.service_record.unlink()
    assert it.entries() == 3


@pytest.mark.parametrize("put", [put_folder, put_pipe, put_endless, put_nothing], ids=named)
def test_a_head_to_go_on_with_that_is_none_is_named(it: Bench, put: Callable[[Path], None]) -> None:
    put(it.at.continues)
    with pytest.raises(SpacegrayError, match="state/pro/continues"):
        it.do("stand")


def test_nothing_is_signed_that_could_not_be_filed(it: Bench) -> None:
    it.at.service_record.unlink()
    it.at.service_record.mkdir()
    with pytest.raises(SpacegrayError, match="service/record"):
        it.do("stand")
    it.at.service_record.rmdir()
    assert it.entries() == 3


def test_a_job_refused_leaves_no_trace(it: Bench) -> None:
    with pytest.raises(UsageError, match="it has 64 GB already"):
        it.do(MEMORY)
    assert it.entries() == 3
    assert it.history().verified
