"""Files stand whole or not at all, and a lock is dropped with its holder."""

import os
import pathlib
import subprocess
import sys

import pytest

from spacegray.errors import SpacegrayError
from spacegray.files import locked, make_private, write_atomically


def test_a_file_is_replaced_whole_and_private(tmp_path):
    path = tmp_path / "state.json"
    write_atomically(path, b"old")
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["state.json"]


def test_a_failed_write_leaves_the_old_file_and_no_rest(tmp_path):
    path = tmp_path / "state.json"
    write_atomically(path, b"old")
    code = f"""
import resource, signal, pathlib
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
from spacegray.errors import SpacegrayError
from spacegray.files import write_atomically
try:
    write_atomically(pathlib.Path({str(path)!r}), b"x" * 100_000)
except SpacegrayError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "File too large" in done.stdout
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["state.json"]


def test_a_second_holder_waits_in_vain_and_a_dead_one_does_not_block(tmp_path):
    lock = tmp_path / "lock"
    code = f"""
import pathlib, sys
from spacegray.files import locked
with locked(pathlib.Path({str(lock)!r})) as held:
    print(held, flush=True)
    sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "True\n"
        with locked(lock, timeout_seconds=0.2) as held:
            assert not held
        holder.kill()
        holder.wait()
        with locked(lock, timeout_seconds=5) as held:
            assert held


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(SpacegrayError, match=r"creating .*SPACEGRAY_HOME"):
        make_private(tmp_path / "file" / "folder")


def test_what_to_do_is_told_by_what_stopped_it(tmp_path):
    with pytest.raises(SpacegrayError, match="make it, or choose another"):
        write_atomically(tmp_path / "none" / "file", b"")
    with pytest.raises(SpacegrayError) as caught:
        write_atomically(pathlib.Path("/proc/sys/file"), b"")
    assert "make room" not in str(caught.value)
