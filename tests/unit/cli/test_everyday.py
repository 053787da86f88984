"""Orders and passwords: what the command line makes of its words before anything is done."""

import io
import re

import pytest

from spacegray.cli import everyday
from spacegray.cli.everyday import Order
from spacegray.errors import UsageError
from spacegray.spec import Spec


def order(**fields):
    defaults = {"edition": None, "spec": None, "mirror": None, "password_file": None, "ask": False}
    return Order(**{**defaults, **fields})


def test_an_edition_goes_over_the_specs(tmp_path):
    path = tmp_path / "spec.toml"
    path.write_text('cores = 18\nedition = "base"\n')
    assert order(spec=str(path), edition="tiny").resolve() == Spec(cores=18, edition="tiny")
    assert order().resolve() == Spec()


def test_a_spec_comes_from_standard_input(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("ssd_tb = 4"))
    assert order(spec="-").resolve().ssd_tb == 4


def test_generated_passwords_differ_and_can_be_typed():
    made = {everyday._password(order(), "owner")[0] for _ in range(50)}
    assert len(made) == 50
    for password in made:
        assert re.fullmatch(r"([a-z2-9]{4}-){3}[a-z2-9]{4}", password.decode())
        assert not set(password.decode()) & set("il01o")


def test_a_password_file_gives_its_first_line(tmp_path):
    path = tmp_path / "password"
    path.write_bytes("pässword\nrest".encode())
    assert everyday._password(order(password_file=str(path)), "owner") == (
        "pässword".encode(),
        False,
    )


@pytest.mark.parametrize("content", [b"", b"\nsecond", b"a\0b", b"x" * 2000])
def test_a_password_file_without_a_password_is_refused(tmp_path, content):
    path = tmp_path / "password"
    path.write_bytes(content)
    with pytest.raises(UsageError, match="reading the password"):
        everyday._password(order(password_file=str(path)), "owner")
