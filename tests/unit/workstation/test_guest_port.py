"""`running` takes an answer of this very start's guest: the nonce is in it or it is nothing."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spacegray.workstation.guest_port import GuestError, greeting, new_nonce, parse_ready

NONCE = "00112233445566778899aabbccddeeff"
KEY = "AAAAC3NzaC1lZDI1NTE5" + "A" * 48
BOOT_ID = "01234567-89ab-cdef-0123-456789abcdef"
ANSWER = (
    f"ready {NONCE} boot_id={BOOT_ID} secure_boot=1 setup_mode=0 kernel=6.12.48+deb13-amd64 "
    f"hostkey={KEY} provisioned=1"
)


def test_an_answer_with_the_nonce_is_taken():
    ready = parse_ready(ANSWER.encode(), NONCE)
    assert ready is not None
    assert ready.secure_boot
    assert not ready.setup_mode
    assert ready.host_key == KEY
    assert ready.boot_id == BOOT_ID


def test_yesterdays_answer_is_not_believed():
    with pytest.raises(GuestError, match="nonce"):
        parse_ready(ANSWER.encode(), new_nonce())


@pytest.mark.parametrize(
    "line",
    [
        "ready",
        f"ready {NONCE}",
        ANSWER.replace("secure_boot=1", "secure_boot=yes"),
        ANSWER.replace(KEY, "AAAA"),
        ANSWER.replace(KEY, KEY + "evil"),
        ANSWER.replace(BOOT_ID, "x"),
        ANSWER.replace("6.12.48", "$(reboot)"),
        ANSWER + " " * 5000,
    ],
)
def test_a_malformed_answer_is_not_believed(line):
    with pytest.raises(GuestError):
        parse_ready(line.encode(), NONCE)


@given(st.binary(max_size=500))
def test_any_other_line_is_nothing_or_refused(line):
    try:
        assert parse_ready(line, NONCE) is None
    except GuestError:
        pass


def test_the_greeting_carries_what_the_first_start_must_know():
    lines = greeting(NONCE, b"user=owner\n").decode().split("\n")
    assert lines[0] == f"hello {NONCE}"
    assert base64.b64decode(lines[1].removeprefix("provision ")) == b"user=owner\n"
    assert lines[2:] == ["go", ""]
    assert greeting(NONCE, None) == f"hello {NONCE}\ngo\n".encode()


def test_nonces_differ():
    assert len({new_nonce() for _ in range(100)}) == 100
