"""Whoever is locked out is told the way back, and the truth where there is none."""

from pathlib import Path

import pytest

from spacegray.chip import launch as chips
from spacegray.chip.launching import FAILURE_PREFIX
from spacegray.chip.refusal import ChipRefusalError
from spacegray.chip.vault_words import VaultRefusalError
from spacegray.errors import SpacegrayError
from spacegray.paths import Paths, WorkstationPaths
from spacegray.workstation import known, ways_back


@pytest.fixture
def at(tmp_path: Path) -> WorkstationPaths:
    paths = Paths.current({"SPACEGRAY_HOME": str(tmp_path)}).workstation("pro")
    for folder in (paths.folder, paths.state_folder):
        folder.mkdir(parents=True)
    return paths


def refusal(code: str) -> ChipRefusalError:
    return ChipRefusalError("starting", "it is so", "do something", code=code, link="disk")


def test_an_older_disk_can_be_accepted(at: WorkstationPaths):
    error = ways_back.explained(at, refusal("stale"))
    assert "`ssd accept pro`" in str(error)
    assert error.link == "disk"


def test_a_state_put_back_is_accepted_with_the_recovery_key(at: WorkstationPaths):
    error = ways_back.explained(at, refusal("put_back"))
    assert "`ssd accept pro --recovery-key-file FILE`" in error.next_step


@pytest.mark.parametrize("code", [*ways_back.LOST, "put_back", "storage", "locked"])
def test_the_last_line_of_a_chip_is_taken_apart_where_it_was_put_together(code: str):
    said = VaultRefusalError("opening the chip", code, "so; and so")
    match = chips._FAILURE.fullmatch(f"{FAILURE_PREFIX}chip failed ({code}): {said}")
    assert match is not None
    assert match.groups()[2:] == (said.doing, said.stopped_by, said.next_step)


@pytest.mark.parametrize("code", ways_back.LOST)
def test_a_lost_chip_comes_back_from_the_bundle_if_one_was_made(at: WorkstationPaths, code: str):
    without = str(ways_back.explained(at, refusal(code)))
    assert "no recovery bundle was ever made" in without
    assert "import" not in without
    ways_back.note_bundle(at, ecid="0x1", lives=1, file=Path("/safe/bundle"))
    within = str(ways_back.explained(at, refusal(code)))
    assert "`import --recovery pro FILE`" in within
    assert "/safe/bundle" in within
    ways_back.forget_bundle(at)
    assert str(ways_back.explained(at, refusal(code))) == without
    first = "the TPM" if code == "tpm" else str(at.state_folder)
    assert first in without


def test_a_new_chip_without_a_system_gets_one_beside_the_data(at: WorkstationPaths):
    """Where an `import --recovery` was cut off: nobody is sent straight into erasing it."""
    assert "import" not in ways_back.explained(at, refusal("no_ticket")).next_step
    ways_back.note_bundle(at, ecid="0x1", lives=1, file=Path("/safe/bundle"))
    said = ways_back.explained(at, refusal("no_ticket")).next_step
    assert said.index("`import --recovery pro FILE --yes`") < said.index("`restore pro` erases")


def test_other_errors_stay_as_they_are(at: WorkstationPaths):
    for error in (refusal("wrong"), SpacegrayError("a", "b", "c")):
        assert ways_back.explained(at, error) is error


def test_what_the_chip_said_last_is_known_without_it(at: WorkstationPaths):
    assert known.read(at).needs() == []
    shown = {
        "state": "open", "seal": "passphrase", "root": "software", "life": "in use", "lives": 1,
        "password": True, "recovery_key": False, "rollbacks": 0, "policy": "full", "more": 1,
    }  # fmt: skip
    known.note(at, shown)
    assert known.read(at).needs() == ["passphrase", "password"]
    known.note(at, {**shown, "state": "sealed", "password": None})
    assert known.read(at).password is True
    at.chip_facts.write_bytes(b"{")
    assert known.read(at) == known.Known()


def test_a_full_disk_does_not_keep_a_machine_from_starting(
    at: WorkstationPaths, monkeypatch: pytest.MonkeyPatch
):
    def full(*_: object) -> None:
        raise SpacegrayError("writing", "no space left", "make room")

    monkeypatch.setattr(known, "write_atomically", full)
    known.note(at, {"state": "open", "seal": "keyfile"})
