"""Who is asked for what: files first, the terminal where there is one, else one line that says."""

import os
from pathlib import Path

import pytest

from spacegray.cli.asking import UNCOUNTED_TRIES, Asker, Files, files_of
from spacegray.errors import SpacegrayError, UsageError
from spacegray.workstation.unlock import Answer, Budget, Given, Standing

PASSWORD = Standing(
    needs=("password",),
    attempts={
        "password": Budget(failures=0, left=10, wait_seconds=0),
        "recovery": Budget(failures=4, left=6, wait_seconds=60),
        "recovery_key": Budget(failures=10, left=0, wait_seconds=0),
    },
)


def file(folder: Path, name: str) -> str:
    """A file whose first line is its name."""
    path = folder / name
    path.write_text(f"{name}\n")
    return str(path)


def content(given: Given) -> str:
    """What was given."""
    with given, open(os.dup(given.descriptor)) as pipe:
        return pipe.read()


def wrong(standing: Standing) -> Answer:
    """The chip's answer to a wrong secret."""
    return Answer(
        right=False, code="wrong", stopped_by="wrong", next_step="again", standing=standing
    )


def test_files_answer_and_answer_again(tmp_path: Path):
    files = files_of({"password_file": file(tmp_path, "one"), "passphrase_file": None})
    asker = Asker("pro", files)
    for _ in range(2):
        given = asker.give("starting", "password", PASSWORD, None)
        assert (given.kind, given.proof, given.mode) == ("password", "password", "normal")
        assert content(given) == "one"


def test_a_recovery_key_stands_for_a_password(tmp_path: Path):
    asker = Asker("pro", Files(recovery_key=file(tmp_path, "key")))
    given = asker.give("starting", "password", Standing(needs=("password",)), None)
    assert (given.kind, content(given)) == ("recovery_key", "key")


def test_a_wrong_file_is_not_tried_again(tmp_path: Path):
    asker = Asker("pro", Files(password=file(tmp_path, "one")))
    asker.give("starting", "password", PASSWORD, None)
    with pytest.raises(SpacegrayError, match="starting: wrong; again") as caught:
        asker.give("starting", "password", PASSWORD, wrong(PASSWORD))
    assert caught.value.exit_status == 1


def test_a_chip_that_was_put_back_names_the_command(tmp_path: Path):
    asker = Asker("pro", Files(password=file(tmp_path, "one")))
    asker.give("verifying", "password", PASSWORD, None).__exit__()
    last = Answer(
        right=False, code="put_back", stopped_by="older", next_step="see", standing=PASSWORD
    )
    with pytest.raises(SpacegrayError, match="`ssd accept pro --recovery-key-file FILE`"):
        asker.give("verifying", "password", PASSWORD, last)


@pytest.mark.parametrize(
    ("kind", "option"),
    [
        ("password", "--password-file FILE (- for standard input) or --recovery-key-file FILE"),
        ("passphrase", "--passphrase-file FILE"),
        ("recovery_key", "--recovery-key-file FILE"),
    ],
)
def test_where_nobody_is_there_the_option_is_named(kind, option: str):
    asker = Asker("pro")
    with pytest.raises(UsageError) as caught:
        asker.give("starting pro", kind, Standing(), None)
    assert option in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_the_chip_would_not_look_at_is_not_asked_for(tmp_path: Path):
    """Nor is a file read for it."""
    in_recovery = Asker("pro", Files(password="/none"), mode="recovery")
    with pytest.raises(SpacegrayError, match="in 60 s; wait that long; 6 tries are left"):
        in_recovery.give("starting", "password", PASSWORD, None)
    with pytest.raises(SpacegrayError, match="the tries for the recovery key are used up"):
        Asker("pro", Files(recovery_key="/none")).give("starting", "password", PASSWORD, None)


def test_at_a_terminal_it_is_asked_again_while_tries_are_free(monkeypatch: pytest.MonkeyPatch):
    asked = typed(monkeypatch)
    asker = Asker("pro")
    assert content(asker.give("starting", "password", PASSWORD, None)) == "0"
    assert content(asker.give("starting", "password", PASSWORD, wrong(PASSWORD))) == "1"
    waits = Standing(
        needs=("password",),
        attempts={"password": Budget(failures=3, left=7, wait_seconds=60)},
    )
    with pytest.raises(SpacegrayError, match="wrong; again"):
        asker.give("starting", "password", waits, wrong(waits))
    assert asked == ["Password of pro: "] * 2


def test_what_nothing_counts_is_asked_a_few_times(monkeypatch: pytest.MonkeyPatch):
    asked = typed(monkeypatch)
    asker, sealed = Asker("pro"), Standing(needs=("passphrase",))
    asker.give("starting", "passphrase", sealed, None)
    for _ in range(UNCOUNTED_TRIES - 1):
        asker.give("starting", "passphrase", sealed, wrong(sealed))
    with pytest.raises(SpacegrayError, match="wrong; again"):
        asker.give("starting", "passphrase", sealed, wrong(sealed))
    assert len(asked) == UNCOUNTED_TRIES


def typed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Somebody at a terminal, who types numbers; the prompts, as they come."""
    prompts: list[str] = []

    def ask(prompt: str):
        from spacegray.cli.secret import Secret

        reader, writer = os.pipe()
        os.write(writer, str(len(prompts)).encode())
        os.close(writer)
        prompts.append(prompt)
        return Secret(reader)

    monkeypatch.setattr("spacegray.cli.secret.ask", ask)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    return prompts


def test_ask_nothing_means_nothing(monkeypatch: pytest.MonkeyPatch):
    typed(monkeypatch)
    with pytest.raises(UsageError, match="nobody is there"):
        Asker("pro", ask=False).give("starting", "password", PASSWORD, None)


def test_a_new_passphrase_need_not_be_given_again(tmp_path: Path):
    asker = Asker("pro", Files(passphrase=file(tmp_path, "phrase")))
    assert content(asker.new("creating", "passphrase")) == "phrase"
    (tmp_path / "phrase").unlink()
    sealed = Standing(needs=("passphrase",))
    assert content(asker.give("starting", "passphrase", sealed, None)) == "phrase"


def test_only_one_secret_comes_from_standard_input():
    with pytest.raises(UsageError, match="only one secret can come from standard input"):
        Files(password="-", new_password="-")


def test_what_will_be_needed_is_known_beforehand(tmp_path: Path):
    Asker("pro").must_have("restarting", [])
    Asker("pro", Files(recovery_key="-")).must_have("restarting", ["password"])
    with pytest.raises(UsageError, match="--password-file"):
        Asker("pro", Files(passphrase="-")).must_have("restarting", ["passphrase", "password"])
