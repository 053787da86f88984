"""What is said of a job: what it is, what will happen, what stands against it, what was done."""

from typing import Any, Final

from spacegray.errors import UsageError
from spacegray.spec import Spec
from spacegray.workstation import jobs
from spacegray.workstation.jobs import Job

OWNERS: Final = ("vesa-mount", "stand")
"""What is outside of the machine, and the owner's to change."""

_MOUNTS: Final = {"stand": "its stand", "vesa": "the VESA mount"}


def doing(name: str, job: Job) -> str:
    """What is being done, as errors begin."""
    match job.kind:
        case "memory":
            return f"changing the memory of {name} to {job.value} GB"
        case "processor":
            return f"changing the processor of {name} to one of {job.value} cores"
        case "ssd":
            return f"exchanging {_modules(job)} of {name}"
        case "logic-board":
            return f"exchanging the logic board of {name}"
        case "vesa-mount":
            return f"fitting the VESA mount to {name}"
        case "stand":
            return f"fitting the stand to {name}"


def announced(name: str, spec: Spec, job: Job) -> str:
    """What will happen, before it does."""
    match job.kind:
        case "memory":
            what = f"{name} gets {job.value} GB of memory in place of {spec.memory_gb} GB"
            return f"{what}; what is on its disk stays"
        case "processor":
            what = f"{name} gets a processor of {job.value} cores in place of {spec.cores}"
            return f"{what}; what is on its disk stays"
        case "ssd":
            are = "is" if len(job.modules) == 1 else "are"
            return (
                f"{_modules(job)} of {name} {are} replaced by new ones, paired with no chip: ALL "
                f"that is on its disk is lost, for it lies across both, and nothing starts until "
                f"`restore {name}`"
            )
        case "logic-board":
            return (
                f"{name} gets a new logic board, and with it a new chip: ALL that is on its disk "
                "is lost, since no other chip can read it; a new system is put onto the empty "
                "disk. `--backup FILE` keeps a plain copy of the disk"
            )
        case "vesa-mount":
            return (
                f"{name} comes off its stand and onto the VESA mount; the real one's zinc screws "
                "may shear"
            )
        case "stand":
            return f"{name} comes off the VESA mount and onto its stand"


def must_change(name: str, spec: Spec, job: Job) -> None:
    """Raise UsageError where the machine is already as the job would make it."""
    if job.kind in ("ssd", "logic-board") or jobs.changed(spec, job) != spec:
        return
    has = {
        "memory": f"it has {spec.memory_gb} GB",
        "processor": f"it has {spec.cores} cores",
        "vesa-mount": "it is on the VESA mount",
        "stand": "it is on its stand",
    }[job.kind]
    raise UsageError(doing(name, job), f"{has} already", f"see `show {name}`")


def left(name: str, job: Job) -> str:
    """What to do where it was cut off while the chip may have signed it."""
    asked = f"`service history {name}` says"
    match job.kind:
        case "logic-board":
            return (
                f"{asked} which chip is in place; where it is the new one, `restore {name}` puts a "
                "system onto its empty disk"
            )
        case "ssd":
            return (
                f"{asked} whether it was done; if so, ALL that was on its disk is lost, and "
                f"`restore {name}` comes next"
            )
        case _:
            return f"{asked} whether it was done"


def done(job: str, before: dict[str, Any], after: dict[str, Any]) -> str:
    """What an entry of the record says was done, as a sentence; the job's name if it is strange."""
    try:
        known = jobs.parse(job)
    except ValueError:
        return job
    match known.kind:
        case "memory":
            return f"memory: {before.get('memory_gb')} GB out, {after.get('memory_gb')} GB in"
        case "processor":
            return f"processor: {before.get('cores')} cores out, {after.get('cores')} cores in"
        case "ssd":
            return f"{_modules(known)} out, new in"
        case "logic-board":
            return "logic board exchanged"
        case "vesa-mount" | "stand":
            return f"put on {_MOUNTS['vesa' if known.kind == 'vesa-mount' else 'stand']}"


def _modules(job: Job) -> str:
    return {1: f"SSD module {job.value}", 2: "both SSD modules"}[len(job.modules)]
