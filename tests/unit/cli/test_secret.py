"""Secrets move into pipes: bounded, silent, the terminal as it was; Python never reads them."""

import os
import signal
import sys
import textwrap
from pathlib import Path

import pytest

from spacegray.cli import secret
from spacegray.cli.secret import SECRET_LIMIT_BYTES, Secret
from spacegray.errors import UsageError
from tests.support.terminal import Terminal


def held(content: bytes) -> Secret:
    """A secret of these bytes."""
    reader, writer = os.pipe()
    os.write(writer, content)
    os.close(writer)
    return Secret(reader)


def content(given: Secret) -> bytes:
    """What is in it; tests may look."""
    with open(given.copy(), "rb") as pipe:
        return pipe.read()


@pytest.mark.parametrize(
    ("written", "first"),
    [
        (b"word\nrest", b"word"),
        (b"without an end", b"without an end"),
        ("pässword\n".encode(), "pässword".encode()),
        (b"x" * SECRET_LIMIT_BYTES + b"\n", b"x" * SECRET_LIMIT_BYTES),
        (b" kept as it is \t\n", b" kept as it is \t"),
    ],
)
def test_a_file_gives_its_first_line(tmp_path: Path, written: bytes, first: bytes):
    path = tmp_path / "file"
    path.write_bytes(written)
    with secret.read(str(path), "password") as given:
        assert given.length_bytes == len(first)
        assert content(given) == first
        assert content(given) == first, "a copy took it away"


@pytest.mark.parametrize("written", [b"", b"\nsecond", b"a\0b", b"x" * (SECRET_LIMIT_BYTES + 1)])
def test_a_file_without_a_secret_is_refused(tmp_path: Path, written: bytes):
    path = tmp_path / "file"
    path.write_bytes(written)
    with pytest.raises(UsageError, match="reading the passphrase from"):
        secret.read(str(path), "passphrase")


def test_an_endless_line_is_refused():
    with pytest.raises(UsageError, match="1 to 1024 bytes"):
        secret.read("/dev/zero", "password")


def test_what_cannot_be_read_is_named(tmp_path: Path):
    for path, says in ((tmp_path / "none", "No such file"), (tmp_path, "it is a folder")):
        with pytest.raises(UsageError, match=says):
            secret.read(str(path), "password")
    if os.getuid() != 0:
        path = tmp_path / "closed"
        path.touch(mode=0)
        with pytest.raises(UsageError, match="may not read it"):
            secret.read(str(path), "password")


def test_two_are_compared_without_being_read():
    with held(b"one") as one, held(b"one") as same, held(b"two") as other, held(b"on") as shorter:
        assert one.same_as(same)
        assert not one.same_as(other)
        assert not one.same_as(shorter)
        assert content(one) == b"one"


def test_what_the_chip_wrote_is_shown(capfd: pytest.CaptureFixture[str]):
    reader, writer = os.pipe()
    os.write(writer, b"KEY\n")
    os.close(writer)
    assert secret.show(reader)
    os.close(reader)
    assert capfd.readouterr().out == "KEY\n"


def test_what_nobody_would_see_is_refused_beforehand(monkeypatch: pytest.MonkeyPatch):
    reader, writer = os.pipe()
    with open(writer, "w") as pipe, open(os.devnull, "w") as nowhere:
        monkeypatch.setattr("sys.stdout", pipe)
        secret.must_be_seen("making a key")
        monkeypatch.setattr("sys.stdout", nowhere)
        with pytest.raises(UsageError, match="making a key: nobody would see it"):
            secret.must_be_seen("making a key")
    os.close(reader)


def test_a_full_disk_does_not_take_what_is_shown(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    reader, writer = os.pipe()
    os.write(writer, b"KEY\n")
    os.close(writer)
    with open("/dev/full", "w") as full:
        monkeypatch.setattr("sys.stdout", full)
        assert not secret.show(reader)
    os.close(reader)
    assert capfd.readouterr().err == ""


ASKING = """
from spacegray.cli import secret
try:
    {body}
except KeyboardInterrupt:
    print("interrupted")
except Exception as error:
    print(error)
"""


def terminal(body: str) -> Terminal:
    """A program that does `body`, at a terminal."""
    program = ASKING.format(body=textwrap.indent(body, "    ").strip())
    return Terminal([sys.executable, "-B", "-c", program], os.environ)


ONE = 'given = secret.ask("Password: ")\nprint("length", given.length_bytes)'
NEW = 'given = secret.ask_new("setting", "password")\nprint("length", given.length_bytes)'


def test_the_terminal_does_not_show_what_is_typed():
    with terminal(ONE) as screen:
        screen.until("Password: ")
        screen.type("hidden word\n")
        said = screen.end()[1]
    assert "length 11" in said
    assert "hidden" not in said


@pytest.mark.parametrize("how", ["key", "signal"])
def test_ctrl_c_leaves_the_terminal_as_it_was_and_nobody_reading(how: str):
    with terminal(ONE) as screen:
        screen.until("Password: ")
        if how == "key":
            screen.type(b"half\x03")
        else:
            screen.child.send_signal(signal.SIGINT)
        assert "interrupted" in screen.end()[1]
        assert screen.others() == []


@pytest.mark.parametrize(("second", "says"), [("first", "length 5"), ("other", "the two differ")])
def test_a_new_one_is_asked_twice(second: str, says: str):
    with terminal(NEW) as screen:
        screen.until("New password: ")
        screen.type("first\n")
        screen.until("Once more: ")
        screen.type(f"{second}\n")
        assert says in screen.end()[1]


def test_the_secret_is_in_no_memory_of_python():
    """The planted control, the same bytes made in Python, is found."""
    body = """\
given = secret.ask("Password: ")
planted = "".join(("pla", "nted-", str(given.length_bytes)))
memory = open("/proc/self/mem", "rb", 0)
found = b""
for line in open("/proc/self/maps"):
    place, modes = line.split()[:2]
    if not modes.startswith("rw") or "[v" in line:
        continue
    start, end = (int(each, 16) for each in place.split("-"))
    memory.seek(start)
    try:
        found += memory.read(end - start)
    except OSError:
        pass
hidden = bytes(each ^ 1 for each in bytes.fromhex("72646273647564646c"))
print("control", planted.encode() in found, "secret", found.count(hidden))"""
    # In the program the word is only in disguise, until its memory has been read.
    word = bytes(each ^ 1 for each in bytes.fromhex("72646273647564646c"))
    with terminal(body) as screen:
        screen.until("Password: ")
        screen.type(word + b"\n")
        assert "control True secret 0" in screen.end()[1]
