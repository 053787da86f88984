"""Orders and passwords: what the command line makes of its words before anything is done."""

import io
import re
import subprocess
from types import SimpleNamespace
from typing import cast

import pytest

from spacegray.cli import everyday
from spacegray.cli.everyday import Order
from spacegray.errors import UsageError
from spacegray.spec import Spec
from spacegray.workstation.api import Workstation


def order(**fields):
    defaults = {"edition": None, "seal": None, "spec": None, "mirror": None, "ask": False}
    return Order(**{**defaults, **fields})


def test_single_options_go_over_the_specs(tmp_path):
    path = tmp_path / "spec.toml"
    path.write_text('cores = 18\nedition = "base"\nseal = "passphrase"\n')
    assert order(spec=str(path), edition="tiny").resolve() == Spec(
        cores=18, edition="tiny", seal="passphrase"
    )
    assert order(spec=str(path), seal="keyfile").resolve().seal == "keyfile"
    assert order().resolve() == Spec()


def existing(**fields):
    return cast(Workstation, SimpleNamespace(name="old", spec=Spec(edition="tiny", **fields)))


def test_a_machine_is_started_by_its_order_whatever_was_exchanged_since(tmp_path, capsys):
    path = tmp_path / "spec.toml"
    path.write_text('memory_gb = 32\nedition = "tiny"\nordered = "2017-12-14"\nmount = "vesa"\n')
    made = {"ordered": "2017-12-14", "mount": "vesa"}
    everyday._must_match(existing(**made), order(spec=str(path)))
    assert not capsys.readouterr().out
    everyday._must_match(existing(memory_gb=256, cores=18), order(spec=str(path)))
    said = capsys.readouterr().out
    for each in ("cores is 18, not 8", "memory_gb is 256, not 32", "mount is stand, not vesa"):
        assert each in said
    assert "ordered" not in said


def test_an_order_for_another_machine_is_refused_with_all_that_differs(tmp_path):
    path = tmp_path / "spec.toml"
    path.write_text('memory_gb = 64\ngraphics = "vega-64"\nssd_tb = 2\nedition = "tiny"\n')
    with pytest.raises(UsageError) as caught:
        everyday._must_match(existing(ssd_tb=4), order(spec=str(path), seal="tpm2"))
    assert caught.value.stopped_by == (
        "it exists with another spec: graphics is vega-56, not vega-64; ssd_tb is 4, not 2; "
        "seal is keyfile, not tpm2"
    )


def test_options_are_held_to_the_machine_too():
    everyday._must_match(existing(memory_gb=64), order(edition="tiny", seal="keyfile"))
    with pytest.raises(UsageError, match="another spec: edition is tiny, not base;"):
        everyday._must_match(existing(), order(edition="base"))


def test_a_spec_comes_from_standard_input(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("ssd_tb = 4"))
    assert order(spec="-").resolve().ssd_tb == 4


def test_a_spec_that_bears_a_day_is_held_to_it(tmp_path, monkeypatch):
    path = tmp_path / "spec.toml"
    path.write_text('memory_gb = 256\nordered = "2019-03-19"\n')
    assert order(spec=str(path)).resolve() == Spec(memory_gb=256, ordered="2019-03-19")
    path.write_text('memory_gb = 256\nordered = "2019-03-18"\n')
    with pytest.raises(UsageError, match=r"256 GB .* was sold from 2019-03-19 to 2021-03-04"):
        order(spec=str(path)).resolve()
    monkeypatch.setattr("sys.stdin", io.StringIO('ordered = "2021-03-19"'))
    with pytest.raises(UsageError, match=r"standard input, .* sold from 2017-12-14 to 2021-03-18"):
        order(spec="-").resolve()


def test_generated_passwords_differ_and_can_be_typed():
    made = {everyday.generated() for _ in range(50)}
    assert len(made) == 50
    for password in made:
        assert re.fullmatch(r"([a-z2-9]{4}-){3}[a-z2-9]{4}", password)
        assert not set(password) & set("il01o")


def test_the_first_users_password_is_hashed_without_being_read(tmp_path):
    path = tmp_path / "password"
    path.write_bytes("pässword\nrest".encode())
    made, shown = everyday.first_user(str(path), "owner", ask=False)
    assert made == openssl("pässword", salt=made.split("$")[2])
    assert shown is None


def test_a_password_that_was_made_is_shown_and_is_the_one_that_counts():
    made, shown = everyday.first_user(None, "owner", ask=False)
    assert shown is not None
    password = shown.removeprefix("User owner, password ").removesuffix(" (shown this once)")
    assert made == openssl(password, salt=made.split("$")[2])


def openssl(password: str, *, salt: str) -> str:
    """The same hash, made from the password in clear."""
    return subprocess.run(
        ["openssl", "passwd", "-6", "-salt", salt, "-stdin"],
        input=password, capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip


@pytest.mark.parametrize("content", [b"", b"\nsecond", b"a\0b", b"x" * 2000])
def test_a_password_file_without_a_password_is_refused(tmp_path, content):
    path = tmp_path / "password"
    path.write_bytes(content)
    with pytest.raises(UsageError, match="reading the password"):
        everyday.first_user(str(path), "owner", ask=False)
