"""A state folder that came back from a backup is made its owner's alone again, or refused."""

import os
import stat
from pathlib import Path

import pytest

from spacegray.chip import privacy
from spacegray.errors import SpacegrayError


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """As a careless backup brings it back."""
    folder = tmp_path / "pro"
    (folder / "ssh").mkdir(parents=True)
    for path in (folder / "sealing.key", folder / "ssh" / "id_ed25519"):
        path.touch()
        path.chmod(0o644)
    (folder / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").touch()
    (tmp_path / "elsewhere").chmod(0o644)
    for path in (folder, folder / "ssh"):
        path.chmod(0o755)
    return folder


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_what_is_open_to_others_is_tightened(state: Path):
    privacy.tighten(state, "pro")
    assert {mode(state), mode(state / "ssh")} == {0o700}
    assert {mode(state / "sealing.key"), mode(state / "ssh" / "id_ed25519")} == {0o600}
    assert mode(state.parent / "elsewhere") == 0o644, "what a link leads to is another's"


def test_what_is_another_users_is_refused(state: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(SpacegrayError, match=f"{state} is open to others") as caught:
        privacy.tighten(state, "pro")
    assert f"`chmod -R go= {state}`" in caught.value.next_step
    assert caught.value.link == "chip"
    assert mode(state / "sealing.key") == 0o644


def test_what_cannot_be_looked_into_is_one_error(state: Path):
    if os.getuid() == 0:
        pytest.skip("nothing is closed to this user")
    (state / "ssh").chmod(0)
    try:
        with pytest.raises(SpacegrayError, match="ssh: Permission denied"):
            privacy.tighten(state, "pro")
    finally:
        (state / "ssh").chmod(0o700)
