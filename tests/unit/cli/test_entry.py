"""The entry: whatever standard output is, no verb ends in a traceback."""

import subprocess
import sys

import pytest

COMMAND = (sys.executable, "-P", "-m", "spacegray.cli")
NARROW = ("catalog", "list", "--kind", "graphics")
SMALL = ("order", "--date", "2018-01-01", "--yes", "--output", "-")
WAIT_SECONDS = 10


def piped(words: tuple[str, ...], shell: str) -> "subprocess.CompletedProcess[str]":
    """The command in a line of shell, where it is "$@"."""
    line = ("bash", "-o", "pipefail", "-c", shell, "bash", *COMMAND, *words)
    return subprocess.run(line, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("words", [NARROW, SMALL, ("catalog", "export", "--format", "csv")])
@pytest.mark.parametrize(
    ("shell", "status", "says"),
    [
        ('"$@" | true', 1, ""),
        ('"$@" > /dev/full', 1, "spacegray: writing: no space left on that disk; "),
        ('"$@" >&-', 0, ""),
        ('"$@" <&- > /dev/null', 0, ""),
        ('PYTHONIOENCODING=ascii "$@" > /dev/null', 0, ""),
    ],
)
def test_what_reads_the_output_does_not_matter(words, shell, status, says):
    done = piped(words, shell)
    assert done.returncode == status, done.stderr
    assert done.stderr.startswith(says)
    assert len(done.stderr.splitlines()) == bool(says)


@pytest.mark.parametrize(
    "words",
    [
        ("create", "lab", "--yes", "--password-file", "-"),
        ("delete", "none"),
        ("shell", "none"),
    ],
)
@pytest.mark.parametrize("shell", ['"$@" <&-', '"$@" <&- >&-'])
def test_closed_streams_are_as_if_nothing_came_or_went(
    tmp_path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], shell: str
):
    monkeypatch.setenv("SPACEGRAY_HOME", str(tmp_path))
    done = piped(words, shell)
    assert done.returncode in (1, 2)
    assert done.stderr.startswith("spacegray: ")
    assert len(done.stderr.splitlines()) == 1


def test_no_file_of_ours_gets_the_number_of_a_closed_stream(tmp_path):
    """Else what is said of an error would be written into it."""
    script = f"""
import os, sys
from spacegray.cli import __main__ as entry
entry._settle_streams()
assert os.open({str(tmp_path / "x")!r}, os.O_CREAT | os.O_WRONLY) > 2
print("said")
print("said", file=sys.stderr)
assert sys.stdin.read() == ""
"""
    line = ("bash", "-c", '"$@" <&- >&- 2>&-', "bash", sys.executable, "-P", "-c", script)
    assert subprocess.run(line, timeout=60).returncode == 0
    assert (tmp_path / "x").read_bytes() == b""


def test_what_the_output_has_no_character_for_is_escaped(tmp_path):
    at = str(tmp_path / "plän.toml")
    words = ("order", "--date", "2018-01-01", "--yes", "--output", at)
    done = piped(words, 'PYTHONIOENCODING=ascii "$@"')
    assert done.returncode == 0, done.stderr
    assert r"pl\xe4n.toml is written" in done.stdout


@pytest.mark.parametrize(
    "place",
    [
        "os.register_at_fork(before=interrupted)\nsubprocess.run(['true'], preexec_fn=int)",
        "type('Gone', (), {'__del__': interrupted})()",
    ],
    ids=["fork", "finalizer"],
)
def test_ctrl_c_is_not_lost_where_python_passes_over_errors(place: str):
    """In a hook at a fork (`logging` has some) and in a finalizer."""
    script = f"""
import os, signal, subprocess, sys, time
from spacegray.cli import __main__ as entry

def interrupted(*_):
    signal.raise_signal(signal.SIGINT)

def dispatch(words):
    {place.replace(chr(10), chr(10) + "    ")}
    time.sleep({WAIT_SECONDS})
    return 0

entry._dispatch = dispatch
sys.exit(entry.main())
"""
    done = subprocess.run(
        (sys.executable, "-P", "-c", script),
        capture_output=True, text=True, timeout=4 * WAIT_SECONDS, check=False,
    )  # fmt: skip
    assert done.returncode == 130, done.stderr
    assert done.stderr.startswith("spacegray: interrupted")
    assert len(done.stderr.splitlines()) == 1
