"""The socket of target disk mode: its owner's alone, in nobody's place, gone at the end."""

import os
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from spacegray.chip.client import ChipClient
from spacegray.errors import UsageError
from spacegray.sockets import connect_unix
from spacegray.workstation import create, target
from spacegray.workstation.api import Workstation
from spacegray.workstation.target import PATH_LIMIT_BYTES, listening


def refusal(path: Path) -> str:
    with pytest.raises(UsageError) as caught, listening(path, "serving"):
        pass
    return str(caught.value)


def test_it_is_private_and_goes_at_the_end(tmp_path: Path):
    path = tmp_path / "socket"
    with listening(path, "serving"):
        assert path.stat().st_mode & 0o777 == 0o600
        connect_unix(path).close()
    assert not path.exists()


def test_it_takes_the_place_of_nothing(tmp_path: Path):
    path = tmp_path / "there"
    path.write_text("precious")
    assert "a file already" in refusal(path)
    assert path.read_text() == "precious"
    path.unlink()
    path.symlink_to(tmp_path / "nowhere")
    assert "already" in refusal(path)
    assert path.is_symlink()
    path.unlink()
    with listening(path, "serving"):
        assert "that somebody serves" in refusal(path)
        connect_unix(path).close()
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    assert "nobody serves was left there; remove it" in refusal(path)
    assert path.is_socket()


def test_what_others_put_there_meanwhile_stays(tmp_path: Path):
    path = tmp_path / "socket"
    with listening(path, "serving"):
        path.unlink()
        path.write_text("another's")
    assert path.read_text() == "another's"


def test_a_path_that_no_program_can_connect_to_is_refused(tmp_path: Path):
    room = PATH_LIMIT_BYTES - len(os.fsencode(tmp_path)) - 1
    with listening(tmp_path / ("x" * room), "serving"), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(tmp_path / ("x" * room)))
    assert "longer than" in refusal(tmp_path / ("x" * (room + 1)))


def test_a_folder_that_is_not_there_or_not_ours_is_named(tmp_path: Path):
    assert f"there is no folder {tmp_path}/none" in refusal(tmp_path / "none" / "socket")
    file = tmp_path / "file"
    file.touch()
    assert "there is no folder" in refusal(file / "socket")
    if os.getuid() != 0:
        tmp_path.chmod(0o500)
        assert "may not make files" in refusal(tmp_path / "socket")
        tmp_path.chmod(0o700)


@pytest.mark.parametrize(
    ("was_anothers", "table", "other"),
    [
        (False, "none", False),
        (False, "ours", False),
        (False, "another's", True),
        (True, "none", True),
        (True, "ours", False),
    ],
)
def test_whose_disk_it_is_afterwards(
    monkeypatch: pytest.MonkeyPatch, was_anothers: bool, table: str, other: bool
):
    """One of ours whose table was wiped stays ours: it can be repaired, with the data kept."""
    noted: list[Any] = []
    monkeypatch.setattr(target, "is_ours", lambda _: table == "ours")
    monkeypatch.setattr(target, "is_anothers", lambda _: table == "another's")
    monkeypatch.setattr(create, "note_empty", lambda *_, **words: noted.append(words))
    at = SimpleNamespace(at=None, installed=SimpleNamespace(other=was_anothers))
    target._note(cast(Workstation, at), cast(ChipClient, None))
    assert noted == [{"empty": False, "other": other}]
