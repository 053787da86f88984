"""The state is what truly is, not what a dead supervisor once wrote."""

import os

import msgspec

from spacegray import process
from spacegray.paths import Paths
from spacegray.workstation import state
from spacegray.workstation.state import Record


def at_(tmp_path):
    at = Paths.current({"SPACEGRAY_HOME": str(tmp_path)}).workstation("pro")
    at.folder.mkdir(parents=True)
    return at


def alive(**fields):
    return Record(
        state="running",
        supervisor=process.identity(os.getpid()),
        host_boot=process.boot_id(),
        secure_boot=True,
        **fields,
    )


def test_never_started_is_off(tmp_path):
    assert state.read(at_(tmp_path)).state == "off"


def test_a_living_supervisor_is_believed(tmp_path):
    at = at_(tmp_path)
    state.write(at, alive(boot=3))
    assert state.read(at) == alive(boot=3)


def test_a_killed_supervisor_means_that_the_machine_failed(tmp_path):
    at = at_(tmp_path)
    state.write(at, msgspec.structs.replace(alive(), supervisor=f"{os.getpid()}@1.00"))
    record = state.read(at)
    assert record.state == "failed"
    assert "supervisor was killed" in record.reason
    assert record.secure_boot is None


def test_a_rebooted_host_means_that_the_machine_is_off(tmp_path):
    at = at_(tmp_path)
    state.write(at, msgspec.structs.replace(alive(), host_boot="another boot"))
    assert state.read(at).state == "off"


def test_an_unreadable_file_is_said_and_not_taken_for_off(tmp_path):
    at = at_(tmp_path)
    for content in (b"", b"{", b'{"state": "flying"}', b"\xff"):
        at.state.write_bytes(content)
        assert state.read(at).state == "failed"
