"""What is said of a record: each way of changing it is noticed, and named."""

import itertools
import random

import pytest

from spacegray import spec as specs
from spacegray.service import history, record
from spacegray.service.history import Judged
from spacegray.spec import Spec
from spacegray.workstation import jobs
from tests.support.service_entries import Signer, filed

BASE = Spec()
STEPS = ("memory 64", "ssd 1", "processor 18", "memory 128")
FLIPS = 400
SEED = 6


def serviced(signer: Signer, *texts: str, spec: Spec = BASE) -> Spec:
    """Have a chip record these jobs one after the other; the machine afterwards."""
    for text in texts:
        signer.record(text, spec)
        spec = jobs.changed(spec, jobs.parse(text))
    return spec


def judged(found: bytes, signer: Signer, spec: Spec) -> Judged:
    return history.judge(found, signer.kept(), signer.ecid, record.identity_key(signer.pem), spec)


@pytest.fixture
def chip() -> Signer:
    return Signer()


@pytest.fixture
def spec(chip: Signer) -> Spec:
    """The machine after four jobs, which `chip` has signed."""
    return serviced(chip, *STEPS)


def test_a_whole_record_is_true(chip: Signer, spec: Spec):
    found = judged(filed(*chip.entries), chip, spec)
    assert found.wrong == []
    assert found.verified == [True] * 4
    assert [each.job for each in found.entries] == list(STEPS)


def test_a_machine_that_never_was_on_the_bench_has_an_empty_one(chip: Signer):
    found = judged(b"", chip, BASE)
    assert (found.wrong, found.entries) == ([], [])


def test_every_choice_and_order_of_entries_but_the_right_one_is_noticed(chip: Signer, spec: Spec):
    for count in range(len(STEPS) + 1):
        for chosen in itertools.permutations(chip.entries, count):
            if list(chosen) != chip.entries:
                assert judged(filed(*chosen), chip, spec).wrong, chosen


def test_what_was_dropped_or_moved_is_named(chip: Signer, spec: Spec):
    one, two, three, four = chip.entries
    assert "entry 2 does not follow entry 0" in judged(filed(one, three, four), chip, spec).wrong[0]
    found = judged(filed(one, three, two, four), chip, spec)
    assert any("entry 1 does not follow entry 2" in each for each in found.wrong)
    first = judged(filed(two, three, four), chip, spec)
    assert "begins with entry 1" in first.wrong[0]
    assert first.verified == [True] * 3, "what is there still hangs on the chip"
    assert any("none is here" in each for each in judged(b"", chip, spec).wrong)


def test_yesterdays_record_is_older_than_what_the_chip_remembers(chip: Signer, spec: Spec):
    found = judged(filed(*chip.entries[:-1]), chip, spec)
    assert any("it ends with entry 2" in each for each in found.wrong)
    assert found.verified == [False] * 3


def test_every_changed_byte_is_noticed(chip: Signer, spec: Spec):
    whole = filed(*chip.entries)
    dice = random.Random(SEED)
    for _ in range(FLIPS):
        changed = bytearray(whole)
        changed[dice.randrange(len(whole))] ^= 1 << dice.randrange(8)
        assert judged(bytes(changed), chip, spec).wrong


def test_every_cut_is_noticed(chip: Signer, spec: Spec):
    whole = filed(*chip.entries)
    for end in range(len(whole)):
        assert judged(whole[:end], chip, spec).wrong, end


def test_bytes_after_the_end_are_noticed(chip: Signer, spec: Spec):
    whole = filed(*chip.entries)
    for more in (b"\0", b"\0\0", b"\xff\xff", whole, filed(chip.entries[-1])):
        assert judged(whole + more, chip, spec).wrong


def test_entries_signed_by_another_key_are_not_believed(chip: Signer, spec: Spec):
    """The same words, the same number of the chip, another key; and all the rest by that key."""
    forger = Signer(chip.number)
    serviced(forger, "memory 256", *STEPS[1:])
    found = judged(filed(*forger.entries), chip, spec)
    assert any("was not signed by it" in each for each in found.wrong)
    assert found.verified == [False] * 4
    mixed = judged(filed(forger.entries[0], *chip.entries[1:]), chip, spec)
    assert mixed.verified == [False, True, True, True]


def test_another_machines_record_is_none_of_this_one(chip: Signer, spec: Spec):
    other = Signer(chip.number + 1)
    serviced(other, *STEPS)
    found = judged(filed(*other.entries), chip, spec)
    assert any("belongs to another machine" in each for each in found.wrong)
    assert not any(found.verified)


def test_of_a_record_that_is_all_wrong_not_all_is_said(chip: Signer, spec: Spec):
    found = judged(filed(*[b"\xff" * 300] * 5000), chip, spec)
    assert len(found.wrong) <= history.WRONG_LIMIT + 1
    assert "more" in found.wrong[-1]


def test_a_chip_that_signed_that_it_goes_and_is_still_there_is_noticed(chip: Signer, spec: Spec):
    chip.record("logic-board", spec, new_chip="0x0000000000000001")
    assert any("still" in each for each in judged(filed(*chip.entries), chip, spec).wrong)
    chip.record("vesa-mount", spec)
    changed = jobs.changed(spec, jobs.parse("vesa-mount"))
    assert any("still" in each for each in judged(filed(*chip.entries), chip, changed).wrong)


def test_a_machine_changed_behind_the_record_is_noticed(chip: Signer, spec: Spec):
    more = specs.replace(spec, {"memory_gb": 256})
    (wrong,) = judged(filed(*chip.entries), chip, more).wrong
    assert "since entry 3" in wrong
    assert "without a record: memory_gb was 128 and is 256" in wrong
    chip.record("stand", more)
    found = judged(filed(*chip.entries), chip, more)
    (wrong,) = found.wrong
    assert "between entry 3 and entry 4" in wrong
    assert all(found.verified), "the entries are true, the machine is not"


def handed_on() -> tuple[Signer, Signer, Spec]:
    """A machine whose logic board was exchanged, with jobs before and after."""
    old, new = Signer(1), Signer(2)
    spec = serviced(old, "memory 64")
    old.record("logic-board", spec, new_chip=new.ecid)
    new.head = old.head
    new.record("logic-board", spec, new_chip=new.ecid)
    return old, new, serviced(new, "processor 10", spec=spec)


def test_the_record_goes_on_with_the_next_chip():
    old, new, spec = handed_on()
    found = judged(filed(*old.entries, *new.entries), new, spec)
    assert found.wrong == []
    assert found.verified == [True] * 4
    assert [each.ecid for each in found.entries] == [old.ecid, old.ecid, new.ecid, new.ecid]


def test_what_the_chip_before_signed_cannot_be_changed_after_it_is_gone():
    old, new, spec = handed_on()
    forged = Signer(old.number)
    forged.record("memory 256", BASE)
    forged.record("logic-board", spec, new_chip=new.ecid)
    for entries in (forged.entries, old.entries[1:], [old.entries[0]], []):
        assert judged(filed(*entries, *new.entries), new, spec).wrong
    found = judged(filed(*forged.entries, *new.entries), new, spec)
    assert found.verified == [False, False, True, True]


def test_a_chip_that_was_not_handed_the_record_does_not_go_on_with_it():
    old, new = Signer(1), Signer(2)
    spec = serviced(old, "memory 64")
    new.head = old.head
    new.record("memory 128", spec)
    after = specs.replace(spec, {"memory_gb": 128})
    assert judged(filed(*old.entries, *new.entries), new, after).wrong
