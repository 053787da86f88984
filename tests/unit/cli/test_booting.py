"""The last start told link by link; recovery, update and reinstall in words."""

import json
from types import SimpleNamespace
from typing import Any

import pytest

from spacegray.cli import booting
from spacegray.cli.app import run
from spacegray.errors import SpacegrayError, UsageError
from spacegray.links import Target, chain
from spacegray.workstation import hold
from spacegray.workstation import update as updates
from spacegray.workstation.api import Workstation
from spacegray.workstation.state import Record
from spacegray.workstation.update import Outcome

EXPECTED, FOUND = "ab" * 32, "cd" * 32


def link(name: str, status: str = "ok", detail: str = "") -> dict[str, Any]:
    return {"link": name, "status": status, "detail": detail, "at": 1000.0, "seconds": 1.5}


REFUSED = Record(
    state="failed",
    reason=f"expected SHA-256 {EXPECTED}, found SHA-256 {FOUND}; `recovery lab` reinstalls it",
    next_step="`recovery lab` reinstalls it",
    link="kernel",
    boot=7,
    slot="b",
    policy="full",
    links=[
        *(link(each) for each in ("chip", "firmware", "disk", "machine")),
        link("kernel", "failed", f"expected SHA-256 {EXPECTED}, found SHA-256 {FOUND}"),
    ],
)


class Fake:
    """A workstation that is as a test says, and notes what it is asked for."""

    def __init__(self, record: Record) -> None:
        self.now = record
        self.started: list[dict[str, Any]] = []
        self.at = SimpleNamespace(name="lab")

    def record(self) -> Record:
        return self.now

    def start(self, **how: Any) -> None:
        self.started.append(how)
        target: Target = how["target"] or "main"
        self.now = Record(state="recovery" if target == "recovery" else "running", target=target)


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch) -> Fake:
    fake = Fake(Record())
    monkeypatch.setattr(Workstation, "find", lambda *_: fake)
    monkeypatch.setattr(hold, "needs", lambda _: [])
    return fake


def test_every_link_of_the_last_start_is_told_with_expected_and_found(lab, capsys):
    lab.now = REFUSED
    run(["logs", "lab", "--boot"])
    out = capsys.readouterr().out
    assert "start 7 of lab: its system (b), policy full, failed" in out
    for text in (f"expected: SHA-256 {EXPECTED}", f"found: SHA-256 {FOUND}", "not reached"):
        assert text in out
    assert out.splitlines()[-1] == "next: `recovery lab` reinstalls it"


def test_as_json_it_is_the_whole_chain_in_order(lab, capsys):
    lab.now = REFUSED
    run(["logs", "lab", "--boot", "--format", "json"])
    told = json.loads(capsys.readouterr().out)
    assert [each["link"] for each in told["links"]] == list(chain())
    statuses = [each["status"] for each in told["links"]]
    assert statuses == ["ok"] * 4 + ["failed"] + ["not reached"] * 3
    kernel = told["links"][4]
    assert (kernel["expected"], kernel["found"]) == (f"SHA-256 {EXPECTED}", f"SHA-256 {FOUND}")
    assert (told["target"], told["slot"], told["policy"]) == ("main", "b", "full")


def test_recoverys_start_has_its_own_chain(lab, capsys):
    lab.now = Record(state="off", target="recovery", boot=1, links=[link("chip")])
    run(["logs", "lab", "--boot", "--format", "json"])
    told = json.loads(capsys.readouterr().out)
    assert [each["link"] for each in told["links"]] == list(chain("recovery"))


def test_a_link_that_held_and_broke_later_is_told_as_broken():
    seen = [link("system"), link("system", "failed", "a changed file was read")]
    system = booting.passed("main", seen)[5]
    assert (system["status"], system["detail"]) == ("failed", "a changed file was read")


def test_one_that_was_never_started_is_said_so(lab, capsys):
    run(["logs", "lab", "--boot"])
    assert "never started" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["--follow"], ["--kind", "serial"]])
def test_the_chain_is_no_log_to_follow(lab, words):
    with pytest.raises(UsageError, match="--boot goes with neither"):
        run(["logs", "lab", "--boot", *words])


def test_recovery_is_started_and_said_where_there_is_no_terminal(lab, capsys):
    run(["recovery", "lab", "--firmware-password-file", "/nowhere"])
    assert [each["target"] for each in lab.started] == ["recovery"]
    assert "lab is in recovery" in capsys.readouterr().out
    run(["recovery", "lab", "--headless"])
    assert len(lab.started) == 1, "one that is there is not started again"


def test_a_running_machine_is_not_taken_away(lab):
    lab.now = Record(state="running")
    with pytest.raises(SpacegrayError, match="it is running; `stop lab` first"):
        run(["recovery", "lab"])
    lab.now = Record(state="recovery", target="recovery")
    with pytest.raises(SpacegrayError, match="`restart lab` leaves it"):
        run(["start", "lab"])


def test_an_external_disk_is_plugged_in_or_started_from(lab, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="--from-external needs --external"):
        run(["start", "lab", "--from-external"])
    run(["start", "lab", "--external", "disk.img", "--from-external"])
    assert (lab.started[0]["target"], lab.started[0]["external"]) == (
        "external",
        tmp_path / "disk.img",
    )
    assert "is running from" in capsys.readouterr().out
    lab.now = Record()
    run(["start", "lab", "--external", "disk.img"])
    assert (lab.started[1]["target"], lab.started[1]["external"]) == (None, tmp_path / "disk.img")
    with pytest.raises(SpacegrayError, match="it is running"):
        run(["start", "lab", "--external", "disk.img"])


@pytest.mark.parametrize(("kind", "says"), [("current", "up to date"), ("updated", "is updated")])
def test_what_came_of_an_update_is_said(lab, capsys, monkeypatch, kind, says):
    done = Outcome(kind=kind, epoch=2, before=1)
    monkeypatch.setattr(updates, "update", lambda *_, **__: done)
    run(["update", "lab", "--mirror", "http://deb.test"])
    assert says in capsys.readouterr().out


def test_an_update_that_fell_back_is_an_error_that_says_why(lab, monkeypatch):
    done = Outcome(kind="fell_back", epoch=2, before=1, reason="no login within 240 s")
    monkeypatch.setattr(updates, "update", lambda *_, **__: done)
    with pytest.raises(SpacegrayError, match=r"did not come up \(no login within 240 s\)"):
        run(["update", "lab", "--mirror", "http://deb.test"])


def test_what_an_update_will_ask_for_is_known_beforehand(lab, monkeypatch):
    monkeypatch.setattr(hold, "needs", lambda _: ["password"])
    with pytest.raises(UsageError, match="updating lab: its chip needs the password"):
        run(["update", "lab", "--mirror", "http://deb.test"])
