"""What the chip signed when it was erased is kept, each time."""

import time
from pathlib import Path

import pytest

from spacegray.errors import SpacegrayError
from spacegray.paths import Paths
from spacegray.workstation import life


def test_two_in_one_second_are_both_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    at = Paths.current({"SPACEGRAY_HOME": str(tmp_path)}).workstation("pro")
    monkeypatch.setattr(time, "gmtime", lambda: time.struct_time((2026, 1, 2, 3, 4, 5, 0, 2, 0)))
    kept = [life._keep(at, content) for content in (b"one", b"two", b"three")]
    assert [path.read_bytes() for path in kept] == [b"one", b"two", b"three"]
    assert [path.name for path in kept[:2]] == [
        "erased-20260102T030405Z.cose",
        "erased-20260102T030405Z-2.cose",
    ]


def test_one_that_cannot_be_written_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    at = Paths.current({"SPACEGRAY_HOME": str(tmp_path)}).workstation("pro")

    def full(*_: object) -> None:
        raise SpacegrayError("writing", "no space left", "make room")

    monkeypatch.setattr(life, "write_atomically", full)
    with pytest.raises(SpacegrayError, match="no space left"):
        life._keep(at, b"one")
    assert list(at.receipts.iterdir()) == []
