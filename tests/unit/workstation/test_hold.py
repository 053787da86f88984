"""A machine that is off is held by one at a time, and whoever comes second is told what for."""

import os
from pathlib import Path

import msgspec
import pytest

from spacegray import process
from spacegray.errors import SpacegrayError
from spacegray.files import locked
from spacegray.paths import Paths, WorkstationPaths
from spacegray.workstation import hold, state


@pytest.fixture
def at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WorkstationPaths:
    paths = Paths.current({"SPACEGRAY_HOME": str(tmp_path)}).workstation("pro")
    for folder in (paths.folder, paths.run):
        folder.mkdir(parents=True)
    monkeypatch.setattr(hold, "TURN_SECONDS", 0.1)
    return paths


def test_a_second_holder_is_told_what_it_is_held_for(at: WorkstationPaths):
    assert hold.holder(at) is None
    with hold.held(at, "exporting", "being exported to /tmp/x"):
        assert hold.holder(at) == "being exported to /tmp/x"
        with (
            pytest.raises(SpacegrayError, match="erasing: it is being exported to /tmp/x"),
            hold.held(at, "erasing", "being erased"),
        ):
            pass
        with pytest.raises(SpacegrayError, match="starting: it is being exported"):
            hold.await_free(at, "starting")
    assert hold.holder(at) is None
    hold.await_free(at, "starting")


def test_a_machine_that_is_on_is_not_held(at: WorkstationPaths):
    record = state.Record(
        state="running", supervisor=process.identity(os.getpid()), host_boot=process.boot_id()
    )
    state.write(at, record)
    with (
        pytest.raises(SpacegrayError, match="`stop pro` first"),
        hold.held(at, "erasing", "being erased"),
    ):
        pass


def test_the_note_of_a_process_that_is_gone_is_not_believed(at: WorkstationPaths):
    note = hold.Holder(process="4194304@1.00", purpose="in target disk mode")
    at.holder.write_bytes(msgspec.json.encode(note))
    assert hold.holder(at) is None
    at.holder.write_bytes(b"{")
    assert hold.holder(at) is None
    with hold.held(at, "erasing", "being erased"):
        assert hold.holder(at) == "being erased"


def test_a_lock_without_a_note_is_somebody_else(at: WorkstationPaths):
    with (
        locked(at.lock),
        pytest.raises(SpacegrayError, match="somebody else is at work"),
        hold.held(at, "erasing", "being erased"),
    ):
        pass
