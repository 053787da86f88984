"""Wrong words: one line, the right exit status, nothing changed."""

import pytest

from tests.conftest import Cli


@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        (("show", "none"), 2, "there is none of that name"),
        (("start", "none"), 2, "make it with `up none`"),
        (("shell", "none"), 2, "there is no such workstation"),
        (("delete", "none", "--yes"), 2, "there is none of that name"),
        (("show", "../etc"), 2, "choose another name"),
        (("fly",), 2, "fly"),
        (("start", "--warp"), 2, "--warp"),
        (("up", "--edition", "huge"), 2, "huge"),
        (("up", "--accel", "gpu"), 2, "gpu"),
        (("up", "--spec", "/nowhere.toml", "--yes"), 2, "/nowhere.toml"),
        (("up", "--spec", "/dev/zero", "--yes"), 2, "too long"),
        (("up", "--password-file", "/nowhere"), 2, "/nowhere"),
        (("shell", "--fast"), 2, "--fast"),
        (("logs", "--timeout"), 2, "--timeout"),
        (("ssd", "show", "none"), 2, "there is none of that name"),
        (("ssd", "verify", "none"), 2, "there is none of that name"),
        (("erase", "none", "--yes"), 2, "there is none of that name"),
        (("target-disk", "none"), 2, "--socket"),
        (("export", "none"), 2, "FILE"),
        (("import", "none", "/nowhere", "--image-format", "floppy"), 2, "floppy"),
        (("security", "show", "none"), 2, "there is none of that name"),
        (("security", "set", "none"), 2, "no setting was named"),
        (("security", "set", "none", "--policy", "lax"), 2, "lax"),
        (("recovery", "none"), 2, "make it with `up none`"),
        (("update", "none"), 2, "there is none of that name"),
        (("reinstall", "none"), 2, "there is none of that name"),
        (("start", "none", "--from-external"), 2, "--external FILE"),
        (("logs", "none", "--boot", "--follow"), 2, "--boot goes with neither"),
        (("import", "none", "x", "--mirror", "y"), 2, "--mirror belongs to --recovery"),
        ((), 2, "Usage"),
    ],
)
def test_a_wrong_word_is_one_line(cli: Cli, words: tuple[str, ...], status: int, says: str):
    done = cli(*words, check=False)
    assert done.returncode == status, done.stdout + done.stderr
    assert says in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    if words:
        lines = [line for line in done.stderr.splitlines() if line.startswith("spacegray: ")]
        assert len(lines) == 1
    assert not list(cli.home.glob("workstations/*/installed.json"))


def test_a_mirror_that_does_not_answer_is_one_line_and_leaves_nothing(cli: Cli):
    (cli.home / "cache").unlink()
    done = cli(
        "up", "--mirror", "http://127.0.0.1:9/none", "--edition", "tiny", "--yes", check=False
    )
    assert done.returncode == 1
    assert "http://127.0.0.1:9/none" in done.stderr
    assert "Traceback" not in done.stderr
    assert not cli.paths.workstation("pro").folder.exists()


def test_a_spec_from_standard_input_is_checked(cli: Cli):
    done = cli("up", "--spec", "-", "--yes", check=False, stdin=b"cores = 9\n")
    assert done.returncode == 2
    assert "cores is one of 8, 10, 14, 18" in done.stderr


def test_nothing_there_is_said_plainly(cli: Cli):
    assert "no workstation yet" in cli("list").stdout
    assert cli("list", "--format", "json").stdout == "[]\n"
    assert "up" in cli("--help").stdout


def test_doctor_says_what_the_host_has_and_what_that_means(cli: Cli):
    import json

    checks = json.loads(cli("doctor", "--format", "json").stdout)
    by_name = {check["name"]: check for check in checks}
    assert by_name["QEMU"]["status"] == "ok"
    assert all(check["means"] for check in checks)
    assert all(check["remedy"] for check in checks if check["status"] == "missing")
