"""Promise: of a failed build's report the user sees the line that says why."""

import contextlib
import os
import select
import time
from pathlib import Path

import pytest

from spacegray.system import debootstrap, edition
from spacegray.system.archive import Archive

END_SECONDS = 10.0
"""How long the kernel may take to carry a SIGKILL out on a busy machine."""


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["I: ok", "E: unable to pick chroot mode", "E: failed to run"], "E: unable to pick"),
        (["E: something", "dpkg: write error: No space left on device"], "No space left"),
        (["newuidmap: uid range not allowed", "E: unshare failed"], "newuidmap"),
        (["ValueError: 1 files differ after packing: /x", "E: command failed"], "ValueError"),
        (["last words"], "last words"),
        (["I: extracting archives..."], "ended before it was done"),
        ([], "ended before it was done"),
    ],
)
def test_the_reason_is_found(lines: list[str], expected: str) -> None:
    assert expected in debootstrap.reason(lines)


def test_only_folders_of_our_own_making_are_removed(tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    debootstrap.remove_chroots(tmp_path / "precious")
    assert (tmp_path / "precious").is_dir()


def test_what_a_dead_mmdebstrap_leaves_running_neither_blocks_nor_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed from outside, its children lived on and held its output open: the build hung."""
    fake = tmp_path / "mmdebstrap"
    fake.write_text(f"#!/bin/sh\nsleep 1000 & echo $! > {tmp_path}/left\necho E: dying; exit 3\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    began = time.monotonic()
    with pytest.raises(debootstrap.BuildFailedError, match="E: dying"):
        debootstrap.run(
            edition.load("tiny"), Archive((), "", 0), tmp_path, tmp_path, tmp_path, lambda _: None
        )
    assert time.monotonic() - began < 20
    with contextlib.suppress(ProcessLookupError):  # gone altogether
        left = os.pidfd_open(int((tmp_path / "left").read_text()))
        ended, _, _ = select.select([left], [], [], END_SECONDS)
        os.close(left)
        assert ended, "what mmdebstrap left behind still runs"
