"""Promise: of a failed build's report the user sees the line that says why."""

from pathlib import Path

import pytest

from spacegray.system import debootstrap


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["I: ok", "E: unable to pick chroot mode", "E: failed to run"], "E: unable to pick"),
        (["E: something", "dpkg: write error: No space left on device"], "No space left"),
        (["newuidmap: uid range not allowed", "E: unshare failed"], "newuidmap"),
        (["ValueError: 1 files differ after packing: /x", "E: command failed"], "ValueError"),
        (["last words"], "last words"),
        ([], "said nothing"),
    ],
)
def test_the_reason_is_found(lines: list[str], expected: str) -> None:
    assert expected in debootstrap.reason(lines)


def test_only_folders_of_our_own_making_are_removed(tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    debootstrap.remove_chroots(tmp_path / "precious")
    assert (tmp_path / "precious").is_dir()
