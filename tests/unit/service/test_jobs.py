"""The jobs by their names: all that there are, and no others; what is said of each."""

from pathlib import Path

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spacegray import spec as specs
from spacegray.chip.modules import NAMES, NEW_MAGIC
from spacegray.errors import UsageError
from spacegray.paths import Paths, WorkstationPaths
from spacegray.service.jobs import words
from spacegray.spec import Spec
from spacegray.workstation import jobs, under_way
from spacegray.workstation.jobs import Job
from tests.support.service_entries import Signer

ROOT = Path(__file__).parents[3]
ALL = [Job(kind, value) for kind, values in jobs.VALUES.items() for value in values]


@pytest.fixture
def at(tmp_path: Path) -> WorkstationPaths:
    """The folder of a machine with two modules."""
    paths = Paths.current({"SPACEGRAY_HOME": str(tmp_path)}).workstation("pro")
    paths.folder.mkdir(parents=True)
    paths.spec.write_text(specs.dump(Spec()))
    for name in NAMES:
        (paths.folder / name).write_bytes(b"data")
    return paths


@pytest.mark.parametrize("job", ALL, ids=lambda job: job.text)
def test_each_has_a_name_that_a_work_order_can_bear(job: Job):
    assert jobs.parse(job.text) == job
    assert 1 <= len(job.text) <= 64
    assert set(job.text) <= set("abcdefghijklmnopqrstuvwxyz0123456789 -")


@given(st.one_of(st.text(), st.sampled_from([job.text for job in ALL]).map(lambda t: t + " ")))
def test_there_are_no_others(text: str):
    if text in [job.text for job in ALL]:
        return
    with pytest.raises(ValueError, match="none of the jobs: memory 32"):
        jobs.parse(text)


@pytest.mark.parametrize("job", ALL, ids=lambda job: job.text)
def test_each_changes_what_it_names_and_nothing_else(at: WorkstationPaths, job: Job):
    before = specs.load(at.spec)
    for _ in range(2):
        # Twice: one that was cut off is done again.
        jobs.carry_out(at, job)
    after = specs.load(at.spec)
    assert after == jobs.changed(before, job)
    fields = {
        name for name in after.__struct_fields__ if getattr(after, name) != getattr(before, name)
    }
    assert fields <= {"memory": {"memory_gb"}, "processor": {"cores"}}.get(job.kind, {"mount"})
    assert fields <= set(jobs.EXCHANGED) <= set(jobs.HARDWARE)
    new = [number for number, name in enumerate(NAMES)
           if (at.folder / name).read_bytes().startswith(NEW_MAGIC)]  # fmt: skip
    assert new == list(job.modules)


def test_the_order_is_for_nothing_that_no_job_changes():
    other = Spec(cores=18, memory_gb=256, mount="vesa")
    seen = {
        name
        for spec in (Spec(), other)
        for job in ALL
        for name in jobs.EXCHANGED
        if getattr(jobs.changed(spec, job), name) != getattr(spec, name)
    }
    assert seen == set(jobs.EXCHANGED)


def test_a_machine_that_is_of_no_day_any_more_bears_none(at: WorkstationPaths):
    """Twice: one that was cut off is done again."""
    at.spec.write_text(specs.dump(Spec(ordered="2017-12-14")))
    jobs.carry_out(at, Job("memory", "64"))
    assert specs.load(at.spec) == Spec(memory_gb=64, ordered="2017-12-14")
    for _ in range(2):
        jobs.carry_out(at, Job("memory", "256"), of_its_day=False)
        assert specs.load(at.spec) == Spec(memory_gb=256)


@pytest.mark.parametrize("job", ALL, ids=lambda job: job.text)
def test_what_a_chip_signs_of_it_fits_and_says_the_machine(job: Job):
    chip = Signer()
    detail = jobs.detail(Spec(), job, identity_key=chip.pem, new_chip=chip.ecid, of_its_day=False)
    assert len(detail) <= 512
    said = cbor2.loads(detail)
    assert said["before"] == jobs.hardware(Spec())
    assert said["after"] == jobs.hardware(jobs.changed(Spec(), job))
    assert len(said["key"]) == 91


@pytest.mark.parametrize("job", ALL, ids=lambda job: job.text)
def test_what_it_will_do_is_said_before_and_what_it_did_after(job: Job):
    spec = specs.replace(Spec(), {"cores": 14, "memory_gb": 128})
    announced = words.announced("pro", spec, job)
    assert "pro" in announced
    lost = job.kind in ("ssd", "logic-board")
    assert ("ALL that is on its disk is lost" in announced) == lost
    changed = jobs.changed(spec, job)
    done = words.done(job.text, jobs.hardware(spec), jobs.hardware(changed))
    assert "None" not in done
    assert job.value in ("", "both") or job.value in done


def test_the_bench_does_not_change_what_is_so_already():
    for text in ("memory 32", "processor 8", "stand"):
        with pytest.raises(UsageError, match="already"):
            words.must_change("pro", Spec(), jobs.parse(text))
    words.must_change("pro", Spec(), jobs.parse("vesa-mount"))
    words.must_change("pro", Spec(), jobs.parse("ssd 1"))


def test_a_strange_job_in_a_record_is_shown_by_its_name():
    assert words.done("power-supply", {}, {}) == "power-supply"


def test_the_document_names_every_job_and_all_that_is_signed():
    text = (ROOT / "docs" / "service.md").read_text()
    for job in ALL:
        assert f"`{job.text}`" in text
    said = cbor2.loads(
        jobs.detail(Spec(), ALL[0], identity_key=Signer().pem, new_chip="0x1", of_its_day=False)
    )
    for name in (*said, *jobs.HARDWARE):
        assert f"`{name}`" in text
    assert f"({under_way.LENGTH_BYTES} bytes, big-endian)" in text
