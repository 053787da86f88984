"""Children die with their parent, keep only what they were given, reach only what they may."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from spacegray import process
from spacegray.confinement import Reach
from spacegray.landlock import supported

PYTHON_READS = (Path("/usr"), Path("/lib"), Path("/lib64"), Path("/etc"), Path(sys.prefix))


def test_a_child_dies_with_its_parent():
    code = """
import subprocess, time
from spacegray import process
child = process.spawn(["sleep", "1000"])
print(child.pid, flush=True)
time.sleep(1000)
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        identity = process.identity(int(parent.stdout.readline()))
        assert identity is not None
        assert process.alive(identity)
        parent.kill()
    deadline = time.monotonic() + 10
    while process.alive(identity):
        assert time.monotonic() < deadline, "the child outlived its parent"
        time.sleep(0.02)


def test_a_child_inherits_no_other_descriptor_and_no_other_variable(monkeypatch):
    monkeypatch.setenv("SECRET_OF_THE_USER", "x")
    reading, writing = os.pipe()
    os.set_inheritable(reading, True)
    child = process.spawn(
        ["sh", "-c", "ls -1 /proc/self/fd; env"],
        descriptors=[writing],
        stdout=subprocess.PIPE,
    )
    output = child.communicate()[0].decode()
    os.close(reading)
    os.close(writing)
    descriptors = {line for line in output.splitlines() if line.isdigit()}
    assert str(writing) in descriptors
    assert str(reading) not in descriptors
    assert "SECRET_OF_THE_USER" not in output


@pytest.mark.skipif(supported() == 0, reason="needs Landlock, which this kernel lacks")
def test_a_confined_child_reaches_only_what_it_was_given(tmp_path):
    (tmp_path / "given").mkdir()
    (tmp_path / "given" / "file").write_text("within reach")
    (tmp_path / "secret").write_text("out of reach")
    script = f"cat {tmp_path}/given/file; cat {tmp_path}/secret; echo x > {tmp_path}/given/new"
    reach = Reach(read=(*PYTHON_READS, tmp_path / "given"), processes=True)
    child = process.spawn(
        ["sh", "-c", script], reach=reach, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    output, errors = (part.decode() for part in child.communicate())
    assert output == "within reach"
    assert errors.count("ermission denied") == 2
    assert not (tmp_path / "given" / "new").exists()


@pytest.mark.skipif(supported() == 0, reason="needs Landlock, which this kernel lacks")
def test_a_confined_child_cannot_read_the_memory_of_another():
    victim = process.spawn(["sleep", "100"])
    try:
        child = process.spawn(
            ["head", "-c1", f"/proc/{victim.pid}/mem"],
            reach=Reach(read=(*PYTHON_READS, Path("/proc"))),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        output, errors = child.communicate()
        assert child.returncode != 0
        assert output == b""
        assert b"ermission denied" in errors
    finally:
        process.stop(victim)


def test_a_number_used_again_is_not_the_same_process():
    identity = process.identity(os.getpid())
    assert identity is not None
    assert process.alive(identity)
    assert not process.alive(identity.partition("@")[0] + "@1.00")
    assert not process.alive("nonsense")
