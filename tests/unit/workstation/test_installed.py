"""Promise: the note of what is on the disk follows what is done, and is whole or not there."""

import shutil
from pathlib import Path

import pytest

from spacegray.errors import SpacegrayError
from spacegray.paths import Paths, WorkstationPaths
from spacegray.progress import Silent
from spacegray.spec import Spec
from spacegray.workstation import create
from spacegray.workstation.api import Workstation
from spacegray.workstation.install import System

OLD = System(edition="tiny", root_hash="1" * 64, kernel="6.1", epoch=1)
NEW = System(edition="tiny", root_hash="2" * 64, kernel="6.2", epoch=2)


@pytest.fixture
def at(tmp_path: Path) -> WorkstationPaths:
    paths = Paths.current({"SPACEGRAY_HOME": str(tmp_path)}).workstation("pro")
    for folder in (paths.folder, paths.state_folder):
        folder.mkdir(parents=True)
    create.finish(paths, "0x1", Spec(), "a", OLD)
    return paths


def read(at: WorkstationPaths) -> create.Installed:
    found = create.installed(at)
    assert found is not None
    return found


def test_a_new_disk_is_described(at: WorkstationPaths):
    note = read(at)
    assert (note.ecid, note.slot, note.root_hash, note.kernel) == ("0x1", "a", "1" * 64, "6.1")
    assert (note.empty, note.other) == (False, False)
    names = [each["name"] for each in note.partitions]
    assert {"esp", "system", "verity", "data", "esp-b"} <= set(names)
    assert max(p["start_bytes"] + p["size_bytes"] for p in note.partitions) < Spec().ssd_bytes


def test_what_lies_in_the_other_slot_counts_once_it_is_in_use(at: WorkstationPaths):
    create.note_system(at, "b", NEW, in_use=False)
    assert (read(at).slot, read(at).root_hash) == ("a", "1" * 64)
    create.note_slot(at, "b")
    assert (read(at).slot, read(at).root_hash, read(at).kernel) == ("b", "2" * 64, "6.2")
    create.note_slot(at, "a")
    assert read(at).root_hash == "1" * 64


def test_a_reinstalled_system_is_in_use_at_once_and_a_new_chip_is_named(at: WorkstationPaths):
    create.note_system(at, "b", NEW, in_use=True, ecid="0x2")
    assert (read(at).ecid, read(at).slot, read(at).root_hash) == ("0x2", "b", "2" * 64)


def test_another_systems_disk_stays_so_until_it_is_restored(at: WorkstationPaths):
    create.note_empty(at, read(at), empty=True)
    create.note_empty(at, read(at), empty=False, other=True)
    create.note_empty(at, read(at), empty=True)
    assert (read(at).empty, read(at).other) == (True, True)
    create.finish(at, "0x1", Spec(), "a", NEW)
    assert (read(at).empty, read(at).other) == (False, False)


def test_where_there_is_no_whole_note_there_is_no_workstation(at: WorkstationPaths):
    content = at.installed.read_bytes()
    for damaged in (content[:-1], b"", b"{}"):
        at.installed.write_bytes(damaged)
        assert create.installed(at) is None
        create.note_slot(at, "b")
        create.note_system(at, "b", NEW, in_use=True)
        assert at.installed.read_bytes() == damaged
    at.installed.unlink()
    create.note_slot(at, "b")
    assert not at.installed.exists()


def test_a_slot_of_which_nothing_is_known_has_no_seal(at: WorkstationPaths):
    create.note_slot(at, "b")
    assert (read(at).root_hash, read(at).kernel) == ("", "")


def test_whose_chip_it_is_stays_as_it_was_noted_meanwhile(at: WorkstationPaths):
    """Opening the chip may have brought another one, after whoever opened it looked at the note."""
    before = read(at)
    create.note_chip(at, "0x2")
    create.note_empty(at, before, empty=True, other=False)
    assert (read(at).ecid, read(at).empty) == ("0x2", True)


def test_of_one_that_is_damaged_it_is_said_and_it_can_be_removed(at: WorkstationPaths):
    paths = Paths.current({"SPACEGRAY_HOME": str(at.folder.parents[1])})
    assert paths.workstation("pro") == at
    (at.state_folder / "vault.sealed").write_bytes(b"its keys")
    for damaged in (b"", b"{}", None):
        if damaged is None:
            at.installed.unlink()
        else:
            at.installed.write_bytes(damaged)
        with pytest.raises(SpacegrayError, match=r"installed\.json is .*delete pro. removes"):
            Workstation.find(paths, "pro")
        assert Workstation.to_delete(paths, "pro").at == at
    shutil.rmtree(at.folder)
    shutil.rmtree(at.state_folder)
    for find in (Workstation.find, Workstation.to_delete):
        with pytest.raises(SpacegrayError, match="there is none of that name"):
            find(paths, "pro")


@pytest.mark.parametrize("lost", ["the workstation's folder", "the note", "the state folder"])
def test_what_is_there_of_a_workstation_is_not_in_the_way_of_a_new_one(
    at: WorkstationPaths, monkeypatch: pytest.MonkeyPatch, lost: str
):
    """A folder that is not mounted just now, say: a new chip would be the end of its disk."""
    paths = Paths.current({"SPACEGRAY_HOME": str(at.folder.parents[1])})
    keys, module = at.state_folder / "vault.sealed", at.folder / "flash-0.module"
    for path in (keys, module):
        path.write_bytes(b"precious")
    match lost:
        case "the workstation's folder":
            shutil.rmtree(at.folder)
        case "the state folder":
            shutil.rmtree(at.state_folder)
            at.installed.unlink()
        case _:
            at.installed.unlink()
    monkeypatch.setattr(create, "build", lambda *_, **__: pytest.fail("it went on"))
    with pytest.raises(SpacegrayError, match=r"installed\.json is not there"):
        create.create(paths, "pro", Spec(), mirror="http://m", password_hash="", progress=Silent())
    left = [path.read_bytes() for path in (keys, module) if path.exists()]
    assert left == [b"precious"] * (2 if lost == "the note" else 1)


def test_what_was_left_unfinished_is_removed_by_the_next(
    at: WorkstationPaths, monkeypatch: pytest.MonkeyPatch
):
    paths = Paths.current({"SPACEGRAY_HOME": str(at.folder.parents[1])})
    at.installed.unlink()
    at.unfinished.touch()
    monkeypatch.setattr(create, "build", lambda *_, **__: None)
    monkeypatch.setattr(create, "destroy_chip", lambda *_: True)
    made: list[bool] = []
    monkeypatch.setattr(create, "_create", lambda *_: made.append(create.remains(at)))
    assert create.create(
        paths, "pro", Spec(), mirror="http://m", password_hash="", progress=Silent()
    )
    assert made == [False]
