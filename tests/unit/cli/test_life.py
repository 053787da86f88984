"""What `erase` says of its receipt: that it is erased stands, whatever becomes of the paper."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from spacegray.cli import life as verbs
from spacegray.cli.asking import Files
from spacegray.errors import SpacegrayError
from spacegray.workstation import life
from spacegray.workstation.life import Erasure


@pytest.fixture
def erased(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A workstation that was erased; `saved` is where its own copy went."""
    found = SimpleNamespace(saved="/kept/erased.cose")

    def erase(*_: object) -> Erasure:
        return Erasure(receipt=b"receipt", saved=found.saved, milliseconds=3.0)

    monkeypatch.setattr(life, "erase", erase)
    monkeypatch.setattr("spacegray.cli.life.Workstation.find", lambda *_: None)
    return found


def test_it_is_written_where_it_is_wanted(
    erased: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    file = tmp_path / "receipt"
    verbs.erase("pro", Files(), receipt=str(file), ask=False)
    assert file.read_bytes() == b"receipt"
    assert f"is in /kept/erased.cose and in {file}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("saved", "next_step"),
    [
        ("/kept/erased.cose", "`cp /kept/erased.cose FILE` makes a copy"),
        (None, "`erase pro --receipt FILE` has the chip sign another"),
    ],
)
def test_on_a_full_disk_it_is_erased_all_the_same(
    erased: SimpleNamespace,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    saved: str | None,
    next_step: str,
):
    @contextlib.contextmanager
    def full(*_: object) -> Iterator[int]:
        descriptor = os.open("/dev/full", os.O_WRONLY)
        yield descriptor
        os.close(descriptor)

    erased.saved = saved
    monkeypatch.setattr(verbs, "_room_for", full)
    with pytest.raises(SpacegrayError) as caught:
        verbs.erase("pro", Files(), receipt="/none/receipt", ask=False)
    assert caught.value.exit_status == 1
    assert "it is erased, but the receipt could not be written to /none/receipt (No space" in str(
        caught.value
    )
    assert next_step in caught.value.next_step
    said = capsys.readouterr().out
    assert "pro is erased" in said
    assert "/none/receipt" not in said


def test_without_any_copy_it_says_so(erased: SimpleNamespace):
    erased.saved = None
    with pytest.raises(SpacegrayError, match="could not be written into its folder"):
        verbs.erase("pro", Files(), receipt=None, ask=False)
