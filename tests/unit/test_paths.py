"""Where things lie, and that the chip's state is apart from the workstation's folder."""

from pathlib import Path

import pytest

from spacegray.errors import UsageError
from spacegray.paths import SLOTS, Paths, other_slot


def test_one_variable_overrides_all():
    paths = Paths.current({"SPACEGRAY_HOME": "/h", "XDG_DATA_HOME": "/elsewhere"})
    at = paths.workstation("pro")
    assert at.folder == Path("/h/workstations/pro")
    assert at.state_folder == Path("/h/state/pro")
    assert paths.cache == Path("/h/cache")


def test_xdg_folders_are_followed_when_they_are_absolute():
    paths = Paths.current(
        {"XDG_DATA_HOME": "/data", "XDG_STATE_HOME": "relative", "XDG_CACHE_HOME": "/cache"}
    )
    assert paths.workstations == Path("/data/spacegray")
    assert paths.state == Path.home() / ".local/state/spacegray"
    assert paths.cache == Path("/cache/spacegray")


def test_a_copy_of_the_folder_takes_neither_the_chip_nor_the_key_along():
    at = Paths.current({"SPACEGRAY_HOME": "/h"}).workstation("pro")
    for apart in (at.state_folder, at.ssh_key, at.provision):
        assert at.folder not in apart.parents
        assert apart != at.folder


def test_what_chips_share_is_nobodys_own():
    """Promise: the map of a host's TPM is one for all chips, and no workstation's folder."""
    paths = Paths.current({"SPACEGRAY_HOME": "/h"})
    assert paths.workstation("pro").host_state == paths.workstation("lab").host_state
    with pytest.raises(UsageError):
        paths.workstation(paths.workstation("pro").host_state.name)


def test_the_authority_is_apart_from_every_workstation():
    paths = Paths.current({"SPACEGRAY_HOME": "/h"})
    with pytest.raises(UsageError):
        paths.workstation(paths.authority.name)
    at = paths.workstation("pro")
    for folder in (at.folder, at.state_folder):
        assert folder not in (paths.authority, *paths.authority.parents)


def test_each_slot_has_its_own_files():
    at = Paths.current({"SPACEGRAY_HOME": "/h"}).workstation("pro")
    found = [
        path
        for slot in SLOTS
        for path in (at.slot(slot).firmware, at.slot(slot).variables, at.slot(slot).recovery)
    ]
    assert len(set(found)) == 6
    assert all(path.parent.parent == at.folder for path in found)
    assert [other_slot(slot) for slot in SLOTS] == ["b", "a"]


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "-x", "A", "a" * 33, "a\n", "1a", "a b"])
def test_a_name_that_could_lead_elsewhere_is_refused(name):
    with pytest.raises(UsageError, match="choose another name"):
        Paths.current({"SPACEGRAY_HOME": "/h"}).workstation(name)
