"""What can be done to a machine on the repair bench: the names of the jobs, and the doing of each.

A job's text, such as `memory 64`, is what a work order names and what the chip signs. Doing a job
twice is the same as doing it once, so that one which was cut off can be done again. The logic
board's is elsewhere (`board`): it brings another chip.
"""

from typing import Any, Final, Literal

import cbor2
import msgspec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_public_key,
)

from spacegray import spec as specs
from spacegray.chip.modules import NAMES, fresh_module
from spacegray.files import sync_folder, write_atomically
from spacegray.paths import WorkstationPaths
from spacegray.spec import Spec

Kind = Literal["memory", "processor", "ssd", "logic-board", "vesa-mount", "stand"]

BOTH: Final = "both"
_MODULES: Final[dict[str, tuple[int, ...]]] = {"0": (0,), "1": (1,), BOTH: (0, 1)}
VALUES: Final[dict[Kind, tuple[str, ...]]] = {
    "memory": tuple(map(str, specs.MEMORY_GB)),
    "processor": tuple(map(str, specs.CORES)),
    "ssd": tuple(_MODULES),
    "logic-board": ("",),
    "vesa-mount": ("",),
    "stand": ("",),
}
"""What each job can be for: gigabytes, cores, modules; the empty text where there is no choice."""

HARDWARE: Final = ("cores", "memory_gb", "graphics", "ssd_tb", "mount")
"""What of a spec is hardware: what the service record keeps of a machine."""
EXCHANGED: Final = ("cores", "memory_gb", "mount")
"""What of it the jobs change: a machine may differ in it from the order that it was made by."""


class Job(msgspec.Struct, frozen=True):
    """One job."""

    kind: Kind
    value: str = ""
    """What for; empty where there is no choice."""

    @property
    def text(self) -> str:
        """Its name."""
        return f"{self.kind} {self.value}".rstrip()

    @property
    def modules(self) -> tuple[int, ...]:
        """Which of the SSD's modules it replaces."""
        return _MODULES[self.value] if self.kind == "ssd" else ()


def parse(text: str) -> Job:
    """The job of this name; raises ValueError, saying which there are, where there is none."""
    kind, _, value = text.partition(" ")
    for known, values in VALUES.items():
        if kind == known and value in values:
            job = Job(known, value)
            if job.text == text:
                return job
    names = ", ".join(f"{known} {'|'.join(values)}".rstrip() for known, values in VALUES.items())
    raise ValueError(f"{text!r} is none of the jobs: {names}")


def changed(spec: Spec, job: Job) -> Spec:
    """The spec of a machine on which the job was done."""
    match job.kind:
        case "memory":
            return specs.replace(spec, {"memory_gb": int(job.value)})
        case "processor":
            return specs.replace(spec, {"cores": int(job.value)})
        case "vesa-mount":
            return specs.replace(spec, {"mount": "vesa"})
        case "stand":
            return specs.replace(spec, {"mount": "stand"})
        case _:
            return spec


def carry_out(at: WorkstationPaths, job: Job, *, of_its_day: bool = True) -> None:
    """Change the machine, which is off, as the job says; raises SpacegrayError.

    A module that comes in is new: empty, and paired with no chip. A machine that is not
    `of_its_day` any more bears no day of an order from now on.
    """
    spec = specs.load(at.spec)
    wanted = changed(spec, job)
    if not of_its_day:
        wanted = specs.replace(wanted, {"ordered": ""})
    if wanted != spec:
        write_atomically(at.spec, specs.dump(wanted).encode())
    for number in job.modules:
        fresh_module(at.folder / NAMES[number])
    if job.modules:
        sync_folder(at.folder)


def hardware(spec: Spec) -> dict[str, Any]:
    """What the service record keeps of a machine with this spec."""
    fields = msgspec.structs.asdict(spec)
    return {name: fields[name] for name in HARDWARE}


def detail(
    spec: Spec,
    job: Job,
    *,
    identity_key: str | None = None,
    new_chip: str | None = None,
    of_its_day: bool = True,
) -> bytes:
    """What a chip is to sign besides the job's name: a CBOR map, as docs/service.md has it.

    `identity_key` (PEM) is the chip's own, for its first entry; `new_chip` the ECID of the chip
    that a new logic board brings; `of_its_day` whether the machine, if it bears the day of its
    order, is one that could be had on it when the job is done.
    """
    said: dict[str, Any] = {
        "before": hardware(spec),
        "after": hardware(changed(spec, job)),
    }
    if identity_key is not None:
        key = load_pem_public_key(identity_key.encode())
        said["key"] = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if new_chip is not None:
        said["new chip"] = new_chip
    if not of_its_day:
        said["ordered"] = ""
    return cbor2.dumps(said, canonical=True)
