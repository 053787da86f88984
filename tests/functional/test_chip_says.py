"""What the chip says of itself, plainly and signed, the machine off; wrong words are one line."""

import json
from pathlib import Path

import pytest

from spacegray.chip.promises import TABLE
from tests.conftest import Running
from tests.support.secrets import line

NONCE = "00112233445566778899aabbccddeeff"


def test_it_says_what_it_holds_against_whom(powered_off: Running):
    cli = powered_off.cli
    shown = json.loads(cli("chip", "show", "--format", "json").stdout)
    assert shown["ecid"] == cli.show()["ecid"]
    assert (shown["seal"], shown["root"], shown["life"]) == ("keyfile", "software", "in use")
    assert [each["holds"] for each in shown["holds"]] == [each.keyfile for each in TABLE]
    budgets = {"password", "recovery", "recovery_key", "firmware_password"}
    assert set(shown["attempts"]) == budgets
    table = cli("chip", "show").stdout
    for each in TABLE:
        assert each.against in table
        assert each.keyfile in table
    assert shown["identity_key"] in table
    assert "system a" in table, "what it has a ticket for"
    chip = cli.show()["chip"]
    assert {key: chip[key] for key in ("seal", "root", "life", "password", "recovery_key")} == {
        key: shown[key] for key in ("seal", "root", "life", "password", "recovery_key")
    }


def test_a_statement_is_made_and_checked(powered_off: Running, tmp_path: Path):
    cli = powered_off.cli
    out, key = tmp_path / "statement", tmp_path / "key.pem"
    key.write_text(json.loads(cli("chip", "show", "--format", "json").stdout)["identity_key"])
    words = ("chip", "attest", "--nonce", NONCE)
    said = json.loads(cli(*words, "--out", str(out), "--format", "json").stdout)
    assert bytes.fromhex(said["statement"]) == out.read_bytes()
    assert (said["nonce"], said["ecid"]) == (NONCE, cli.show()["ecid"])
    assert "software" in cli(*words).stdout
    verify = ("chip", "attest", "--verify", str(out))
    known = json.loads(cli(*verify, "--key", str(key), "--nonce", NONCE, "--format", "json").stdout)
    assert known["key_is_known"] is True
    assert "whose key that is" in cli(*verify).stdout
    assert "another nonce" in line(cli(*verify, "--nonce", NONCE[::-1], check=False))
    changed = bytearray(out.read_bytes())
    changed[-1] ^= 1
    out.write_bytes(changed)
    line(cli(*verify, "--key", str(key), check=False))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("chip", "attest"), "--nonce is missing"),
        (("chip", "attest", "--nonce", "0011"), "8 to 64 bytes"),
        (("chip", "attest", "--nonce", "not hexadecimal!"), "hexadecimal"),
        (("chip", "attest", "--verify", "/nowhere"), "No such file"),
        (("chip", "attest", "--verify", "/dev/null", "--out", "x"), "--out does not belong"),
        (("chip", "attest", "--nonce", NONCE, "--key", "x"), "--key belongs to --verify"),
        (("chip", "attest", "--nonce", NONCE, "--out", "-"), "it is not text"),
        (("chip", "attest", "--nonce", NONCE, "--out", "/etc/passwd"), "something of that name"),
        (("password",), "Usage"),
        (("password", "set", "--password-file", "/nowhere"), "/nowhere"),
        (("password", "set"), "--new-password-file"),
        (("export", "--recovery", "pro", "x", "--image-format", "raw"), "does not belong"),
        (("import", "pro", "x", "--seal", "tpm2"), "--seal belongs to --recovery"),
        (("ssd", "accept", "none"), "there is none of that name"),
        (("create", "other", "--seal", "wax"), "wax"),
    ],
)
def test_a_wrong_word_is_one_line(powered_off: Running, words: tuple[str, ...], says: str):
    done = powered_off.cli(*words, check=False)
    assert done.returncode == 2, done.stdout + done.stderr
    assert says in done.stdout + done.stderr
    assert len(done.stderr.strip().splitlines()) <= 1, done.stderr
