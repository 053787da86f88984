"""The chain: its order for each target, what is told of it, silence, and where to go."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from spacegray.links import TARGETS, Target, chain
from spacegray.paths import Paths
from spacegray.workstation import chain as chains
from spacegray.workstation import state
from spacegray.workstation.chain import Chain, next_step
from spacegray.workstation.journal import Journal
from spacegray.workstation.telling import Telling


class Told:
    """A chip that hears what is told of the links."""

    def __init__(self) -> None:
        self.links: list[tuple[str, str]] = []

    def report(self, link: str, status: str, detail: str) -> None:
        self.links.append((link, status))


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    at = Paths.current({"SPACEGRAY_HOME": str(tmp_path)}).workstation("pro")
    at.folder.mkdir(parents=True)
    found = Journal(at)
    found.begin(accelerator="tcg", reason="", given={})
    return found


def run(journal: Journal, target: Target, act: Callable[[Chain], Any]) -> tuple[Any, Told]:
    told = Told()

    async def inside() -> Any:
        result = act(Chain(target, journal, cast(Telling, told)))
        return await result if asyncio.iscoroutine(result) else result

    return asyncio.run(inside()), told


@pytest.mark.parametrize("target", TARGETS)
def test_every_target_has_its_links_and_is_up_past_the_last(journal: Journal, target: Target):
    links = chain(target)
    ours = links[links.index("machine") :]

    def act(passing: Chain) -> None:
        for link in ours:
            assert passing.next() == link
            assert not passing.up
            passing.go_past(link, "seen")
        assert passing.up
        assert passing.next() == links[-1]

    _, told = run(journal, target, act)
    assert told.links == [(link, "ok") for link in ours]
    assert [each["link"] for each in journal.record.links] == list(ours)


def test_a_link_is_passed_once_and_none_behind_it(journal: Journal):
    def act(passing: Chain) -> None:
        passing.go_past("system", "first")
        passing.go_past("system", "again")
        passing.go_past("kernel", "late")

    _, told = run(journal, "main", act)
    assert told.links == [("system", "ok")]


def test_silence_says_what_was_heard_last(journal: Journal, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(chains.LINK_SECONDS, "recovery", 0.01)

    async def act(passing: Chain) -> str | None:
        passing.go_past("kernel", "seen")
        return await passing.silence(1.0)

    silent, _ = run(journal, "recovery", act)
    assert silent == "nothing more was heard for 0 s after 'kernel'"


def test_there_is_no_silence_once_it_is_up(journal: Journal):
    async def act(passing: Chain) -> str | None:
        passing.go_past("kernel", "the firmware started it")
        return await passing.silence(0.0)

    assert run(journal, "external", act)[0] is None


def test_a_guest_may_cause_so_many_entries(journal: Journal):
    def act(passing: Chain) -> int:
        return sum(passing.may_report() for _ in range(10 * chains.REPORT_LIMIT))

    assert run(journal, "main", act)[0] == chains.REPORT_LIMIT


@pytest.mark.parametrize(
    ("target", "link", "there"),
    [
        ("main", "kernel", "`recovery pro`"),
        ("main", "system", "`recovery pro`"),
        ("main", "firmware", "`restore pro`"),
        ("recovery", "kernel", "`reinstall pro`"),
        ("external", "kernel", "`security show pro`"),
        ("main", "disk", "`logs pro`"),
        ("recovery", "machine", "`logs pro`"),
    ],
)
def test_what_broke_says_where_to_go(target: Target, link: str, there: str):
    assert there in next_step("pro", target, link)


def test_the_record_of_a_start_says_what_it_was_for(journal: Journal):
    journal.begin(accelerator="tcg", reason="", given={}, target="external", external="/d.img")
    journal.judged(slot="a", trying=True, policy="medium")
    journal.change("failed", "it broke; mend it", link="kernel", next_step="mend it")
    record = state.read(journal._paths)
    assert (record.target, record.slot, record.trying, record.policy, record.external) == (
        "external", "a", True, "medium", "/d.img",
    )  # fmt: skip
    assert (record.reason, record.next_step) == ("it broke; mend it", "mend it")


def test_what_was_seen_of_a_link_has_its_moment_in_the_record_and_in_the_log_its_own(
    journal: Journal,
):
    run(journal, "main", lambda passing: passing.go_past("machine", "seen"))
    (seen,) = state.read(journal._paths).links
    assert (seen["link"], seen["status"]) == ("machine", "ok")
    assert seen["at"] >= journal._powered_on
    assert seen["seconds"] == pytest.approx(seen["at"] - journal._powered_on, abs=0.01)
    assert 0 <= seen["seconds"] < 60
