"""Attack: have work done with a work order that is not good for it, or twice with one that is.

Promise: an order is one job, on one machine, within its days, once, by a provider whom the owner
trusts now. Wherever a job is cut off, the machine is the old one or the new one, and the order was
spent at most once, with an entry for it.
"""

import functools
import os
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from spacegray import spec as specs
from spacegray.boot.authority import embedded
from spacegray.chip.client import ChipClient
from spacegray.chip.refusal import ChipRefusalError
from spacegray.errors import SpacegrayError, StoppedError, UsageError
from spacegray.progress import Silent
from spacegray.service import providers
from spacegray.service.jobs import logic_board
from spacegray.workstation import board, create, hold, jobs, life, under_way
from spacegray.workstation.unlock import Nobody
from tests.support.authority import another_authority, the_authority
from tests.support.bench import Bench, made
from tests.support.cut import Steps, cut
from tests.support.tpm import emulated_tpm
from tests.support.vaultd import Vaultd, vaultd
from tests.support.work_orders import DAY_SECONDS, work_order

JOB = "memory 64"
NOW = int(time.time())
SPENT_LIMIT = 64


@pytest.fixture(scope="module")
def trusting(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """A machine whose owner trusts a provider, and never had it serviced."""
    it = made(tmp_path_factory.mktemp("orders") / "home")
    it.trust(the_authority())
    return it


@pytest.fixture
def it(trusting: Bench, tmp_path: Path) -> Bench:
    """A copy of it to attack."""
    return trusting.copied(tmp_path / "home")


def refused(it: Bench, order: bytes, text: str = JOB) -> str | None:
    """The word of the refusal; nothing must have changed."""
    before, entries = it.spec, it.entries()
    with pytest.raises(ChipRefusalError) as caught:
        it.do(text, order)
    assert (it.spec, it.entries()) == (before, entries)
    assert not it.at.under_way.exists()
    return caught.value.code


def test_a_good_order_is_taken_once(it: Bench) -> None:
    """The second time also after the owner undid it, and after a restart of the chip."""
    order = it.order(the_authority(), JOB)
    entry = it.do(JOB, order)
    assert (entry.by, it.spec.memory_gb) == ("provider", 64)
    it.do("memory 32")
    assert refused(it, order) == "replayed"
    assert [each.by for each in it.history().entries] == ["provider", "owner"]
    it.do(JOB, it.order(the_authority(), JOB))
    assert it.history().verified


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"ecid": 1}, "other_chip"),
        ({"job": "memory 128"}, "job"),
        ({"job": "memory 6"}, "job"),
        ({"not_before": NOW - 2 * DAY_SECONDS, "not_after": NOW - 60}, "validity"),
        ({"not_before": NOW + 3600, "not_after": NOW + DAY_SECONDS}, "validity"),
        ({"version": 2}, "order"),
        ({"type": "ticket"}, "order"),
        ({"not_before": 0, "not_after": 2**63}, "order"),
        ({"not_before": NOW + 60, "not_after": NOW}, "order"),
    ],
    ids=str,
)
def test_an_order_for_something_else_is_refused(
    it: Bench, changed: dict[str, Any], code: str
) -> None:
    assert refused(it, it.order(the_authority(), JOB, **changed)) == code


def test_an_order_is_for_the_job_it_names(it: Bench) -> None:
    order = it.order(the_authority(), JOB)
    for text in ("memory 128", "processor 18", "ssd 0", "ssd both"):
        assert refused(it, order, text) == "job"
    it.do(JOB, order)


def test_only_who_is_trusted_now_gives_orders(it: Bench) -> None:
    """Neither a stranger, nor one who was trusted, nor the authority that the chip pinned."""
    assert refused(it, it.order(another_authority(), JOB)) == "order"
    (shop,) = it.providers()
    order = it.order(the_authority(), JOB)
    it.distrust(shop)
    # `the_authority` is also who signs this chip's tickets: that gives it no say here.
    assert refused(it, order) == "order"
    assert it.providers() == ()
    it.trust(the_authority())
    it.do(JOB, order)


@pytest.mark.parametrize("name", ["", "x" * 65, "Müller", "the\nshop"])
def test_a_provider_whose_name_is_none_is_refused_in_words(it: Bench, name: str) -> None:
    with pytest.raises(UsageError, match="1 to 64 printable characters of ASCII"):
        providers.trust(it.workstation, name, the_authority().ticket_key, Nobody())


def test_a_ticket_is_no_work_order(it: Bench) -> None:
    ticket = the_authority().sign_payload(b"\xa0")
    assert refused(it, ticket) == "order"


def test_a_real_providers_orders_are_taken(it: Bench, tmp_path: Path) -> None:
    """With keys that no Python has: the control for all that is signed here."""
    with embedded(tmp_path / "provider") as provider:
        key = provider.order_key()
        order = provider.sign_order(it.ecid, JOB, NOW, NOW + DAY_SECONDS)
    assert refused(it, order) == "order"
    with hold.chip(it.at, "trusting", "being changed", wants="chip") as chip:
        chip.mailbox.trust_provider("another shop", key)
    assert it.do(JOB, order).by == "provider"


# At the vault itself, which is told any order and any time, as often as one likes.


@pytest.fixture
def vault(tmp_path: Path):
    """A vault that trusts the provider, and its number."""
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    with vaultd(state) as running:
        running.birth()
        key = the_authority().ticket_key
        assert running.give("trust_provider", name="the shop", key=key)["ok"]
        yield running


def record(vault: Vaultd, order: bytes, when: int) -> str:
    """Have a job recorded at some time; `ok` or the refusal."""
    fields = {"job": JOB, "detail": b"", "time": when, "order": order, "continues": b""}
    reply = vault.give("record_service", **fields)
    return "ok" if reply["ok"] else str(reply["error"])


def test_a_changed_or_cut_off_order_is_none(vault: Vaultd) -> None:
    """Any bit of it, any length of it; afterwards it is as good as ever, and good once."""
    order = work_order(the_authority(), int(vault.ask("status")["ecid"]), JOB)
    for bit in range(8 * len(order)):
        changed = bytearray(order)
        changed[bit // 8] ^= 1 << bit % 8
        assert record(vault, bytes(changed), NOW) == "order"
    for end in range(1, len(order)):
        assert record(vault, order[:end], NOW) == "order"
    for more in (order + b"\0", order + order):
        assert record(vault, more, NOW) == "order"
    assert record(vault, order, NOW) == "ok"
    assert record(vault, order, NOW) == "replayed"


def test_a_clock_set_back_makes_no_spent_order_good(vault: Vaultd) -> None:
    ecid = int(vault.ask("status")["ecid"])
    order = work_order(the_authority(), ecid, JOB)
    assert record(vault, order, NOW + 2 * DAY_SECONDS) == "validity"
    assert record(vault, order, NOW) == "ok"
    for when in (NOW, NOW - 3600, NOW + 3600, 0):
        assert record(vault, order, when) in ("replayed", "validity")


def test_what_is_forgotten_of_spent_orders_is_not_good_again(vault: Vaultd) -> None:
    """More orders than the vault remembers, each expiring a second later than the one before."""
    ecid = int(vault.ask("status")["ecid"])
    orders = [
        work_order(the_authority(), ecid, JOB, not_after=NOW + 3600 + number)
        for number in range(SPENT_LIMIT + 4)
    ]
    for order in orders:
        assert record(vault, order, NOW) == "ok"
    assert {record(vault, order, NOW) for order in orders} == {"replayed", "validity"}
    early = work_order(the_authority(), ecid, JOB, not_after=NOW + 60)
    assert record(vault, early, NOW) == "validity", "below the floor"
    assert record(vault, work_order(the_authority(), ecid, JOB), NOW) == "ok", "the control"


# Cut off in the middle.

STEPS: Steps = ((os, "rename"), (os, "unlink"), (ChipClient, "record_service"))
"""What changes something of the workstation, or makes it last."""


def cut_everywhere(
    begin: Bench, folder: Path, act: Callable[[Bench], None], judge: Callable[[Bench], str]
) -> Counter[str]:
    """What is found after a kill before each step of `act`, each time on a copy of its own."""
    whole = begin.copied(folder / "whole")
    steps = cut(functools.partial(act, whole), STEPS, None)
    assert judge(whole) == "new"
    seen = Counter[str]()
    for number in range(1, steps + 1):
        it = begin.copied(folder / str(number))
        cut(functools.partial(act, it), STEPS, number)
        seen[judge(it)] += 1
        it.remove()
    return seen


def new_memory(it: Bench, order: bytes = b"") -> None:
    it.do(JOB, order)


def new_board(it: Bench, order: bytes = b"") -> None:
    """All but the new system, in a process of its own: that is `restore`'s matter, tested there."""
    for place, name in ((life, "lay_anew"), (logic_board, "build")):
        setattr(place, name, lambda *_, **__: None)
    logic_board.perform(
        it.paths, it.workstation, Nobody(), order=order,
        mirror="none", password_hash="none", progress=Silent(),
    )  # fmt: skip


def spent_at_most_once(it: Bench, text: str, order: bytes, entries: int) -> None:
    """An order that was spent has its entry; one that was not is good still, and then no more."""
    if entries == 0:
        it.do(text, order)
        assert it.entries() == 1
    else:
        assert refused(it, order, text) == "replayed"


def test_wherever_new_memory_is_cut_off_it_is_there_with_its_entry_or_neither(
    trusting: Bench, tmp_path: Path
) -> None:
    order = trusting.order(the_authority(), JOB)

    def judge(it: Bench) -> str:
        entries = it.entries()
        found = it.history()
        assert found.verified, found.wrong
        assert len(found.entries) == entries
        assert it.spec.memory_gb == (64 if entries else 32)
        assert it.holds_its_data()
        if entries:
            it.do("memory 32")
        spent_at_most_once(it, JOB, order, entries)
        return "new" if entries else "old"

    act = functools.partial(new_memory, order=order)
    assert cut_everywhere(trusting, tmp_path, act, judge).keys() == {"old", "new"}


def test_wherever_new_modules_are_cut_off_they_are_there_with_their_entry_or_neither(
    trusting: Bench, tmp_path: Path
) -> None:
    def judge(it: Bench) -> str:
        entries = it.entries()
        assert it.history().verified
        assert len(it.on_file()) == entries
        if not entries:
            assert it.holds_its_data()
            return "old"
        with pytest.raises(ChipRefusalError, match="new and paired with no chip") as caught:
            it.holds_its_data()
        assert caught.value.code == "unpaired"
        return "new"

    def act(it: Bench) -> None:
        it.do("ssd both")

    assert cut_everywhere(trusting, tmp_path, act, judge).keys() == {"old", "new"}


def test_wherever_a_new_logic_board_is_cut_off_one_chip_or_the_other_is_there(
    trusting: Bench, tmp_path: Path
) -> None:
    text = logic_board.JOB.text
    order = trusting.order(the_authority(), text)
    before = trusting.workstation.installed.ecid

    def judge(it: Bench) -> str:
        entries = it.entries()
        found = it.history()
        assert found.verified, found.wrong
        assert found.ecid == it.workstation.installed.ecid
        assert not it.at.continues.exists()
        if found.ecid == before:
            assert (entries, found.entries) == (0, [])
            assert it.holds_its_data()
            return "old"
        assert entries == 1
        assert [each.ecid for each in found.entries] == [before, found.ecid]
        assert [each.by for each in found.entries] == ["provider", "owner"]
        assert it.workstation.empty
        assert not it.at.beside("old").state_folder.exists()
        assert refused(it, order, "ssd 0") in ("order", "other_chip")
        return "new"

    act = functools.partial(new_board, order=order)
    assert cut_everywhere(trusting, tmp_path, act, judge).keys() == {"old", "new"}


@pytest.mark.parametrize("step", [(under_way, "append"), (board, "decide")], ids=["file", "board"])
def test_a_full_disk_after_the_signature_does_not_lose_the_new_chip(
    trusting: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: tuple[Any, str]
) -> None:
    """No kill: an error that is caught. The order is spent, so the board has to come."""
    it = trusting.copied(tmp_path / "home")
    old = it.ecid

    def full(*_: object) -> None:
        raise SpacegrayError("writing", "No space left on device", "make room")

    monkeypatch.setattr(life, "lay_anew", lambda *_, **__: None)
    monkeypatch.setattr(logic_board, "build", lambda *_, **__: None)
    with monkeypatch.context() as while_full:
        while_full.setattr(*step, full)
        with pytest.raises(SpacegrayError, match="No space left"):
            new_board(it, it.order(the_authority(), "logic-board"))
    assert it.entries() == 1, "the new chip's own, the job finished"
    assert it.ecid != old
    assert it.history().verified


def test_an_interruption_while_the_chip_signs_does_not_lose_the_new_chip(
    trusting: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C, with the answer under way: the connection is of no use any more."""
    it = trusting.copied(tmp_path / "home")
    old = it.ecid
    sign = ChipClient.record_service

    def interrupted(mailbox: ChipClient, *words: Any, **named: Any) -> None:
        sign(mailbox, *words, **named)
        mailbox.close()
        raise KeyboardInterrupt

    monkeypatch.setattr(life, "lay_anew", lambda *_, **__: None)
    monkeypatch.setattr(logic_board, "build", lambda *_, **__: None)
    with monkeypatch.context() as at_the_keyboard:
        at_the_keyboard.setattr(ChipClient, "record_service", interrupted)
        with pytest.raises(StoppedError, match="`restore pro` puts a system"):
            new_board(it)
    assert it.entries() == 1
    assert it.ecid != old
    assert it.history().verified


def test_a_new_board_has_the_seal_of_the_chip_whatever_the_folder_says(
    trusting: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever wrote to the workstation's folder would have the next chip sealed otherwise."""
    it = trusting.copied(tmp_path / "home")
    it.at.spec.write_text(specs.dump(specs.replace(it.spec, {"seal": "tpm2"})))
    monkeypatch.setattr(life, "lay_anew", lambda *_, **__: None)
    monkeypatch.setattr(logic_board, "build", lambda *_, **__: None)
    new_board(it)
    with hold.chip(it.at, "looking", "being looked at", wants="chip") as chip:
        assert chip.mailbox.show()["seal"] == "keyfile"


def test_a_board_in_a_tpm_is_exchanged_and_the_old_chip_is_gone_from_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever kept a copy of all that was on the host's disk opens nothing with it."""
    monkeypatch.setattr(life, "lay_anew", lambda *_, **__: None)
    monkeypatch.setattr(logic_board, "build", lambda *_, **__: None)
    with emulated_tpm() as tpm:
        monkeypatch.setenv("SPACEGRAY_TPM", str(tpm.socket))
        it = made(tmp_path / "home", seal="tpm2")
        assert it.holds_its_data()
        kept, old, before = it.copied(tmp_path / "kept"), it.ecid, len(tpm.indices())
        new_board(it)
        assert (it.entries(), it.history().verified) == (1, True)
        assert it.ecid != old
        assert len(tpm.indices()) == before
        with hold.chip(it.at, "looking", "being looked at", wants="chip") as chip:
            assert chip.mailbox.show()["seal"] == "tpm2"
        with pytest.raises(SpacegrayError):
            kept.holds_its_data()


def test_a_full_disk_stops_no_erasing_between_two_chips(
    trusting: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old chip has signed that it goes, and the note that its disk counts as empty fails."""
    it = trusting.copied(tmp_path / "home")
    cut(functools.partial(new_board, it), ((board, "exchange"),), 3)
    assert board.fresh(it.at).continues.exists()

    def full(*_: object, **__: object) -> None:
        raise SpacegrayError("writing", "No space left on device", "make room")

    with monkeypatch.context() as while_full:
        while_full.setattr(create, "note_empty", full)
        life.erase(it.workstation)
    with pytest.raises(SpacegrayError):
        it.holds_its_data()


def test_a_start_finishes_what_was_cut_off(
    trusting: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed right after the chip signed: new memory first, then a new logic board."""
    it = trusting.copied(tmp_path / "home")
    old = it.ecid
    # A start is another process, which looks for the machine by itself.
    monkeypatch.setenv("SPACEGRAY_HOME", str(it.home))

    cut(functools.partial(new_memory, it), ((jobs, "carry_out"),), 1)
    assert jobs.hardware(it.spec)["memory_gb"] == 32
    # The chip lets it start; what lies in the slot is no kernel that would.
    with pytest.raises(SpacegrayError, match="starting pro"):
        it.workstation.start()
    assert jobs.hardware(it.spec)["memory_gb"] == 64
    assert not it.at.under_way.exists()
    cut(functools.partial(new_board, it), ((board, "decide"),), 1)
    assert it.ecid == old
    with pytest.raises(SpacegrayError, match="`restore` installs one"):
        it.workstation.start()
    assert it.ecid != old
    assert it.history().verified
    assert [each.job for each in it.history().entries] == [JOB, "logic-board", "logic-board"]
