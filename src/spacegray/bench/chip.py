"""What the chip costs a power-on, seal by seal: from its start to the machine's consent.

What is deliberate (a passphrase or password is computed with Argon2) and what is a TPM's own
time is told apart. Each round takes every kind once, on a disk of the base model's size.
"""

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, Final

from spacegray import host
from spacegray.bench.home import NAME, describe_host, own_home
from spacegray.boot.authority import embedded
from spacegray.chip.launch import ChipProcess, launch, tpm_place
from spacegray.chip.messages import Seal
from spacegray.paths import Paths, WorkstationPaths
from spacegray.progress import Progress
from spacegray.spec import Spec
from spacegray.system.build import SystemImage, build
from spacegray.workstation.install import install

EDITION: Final = "tiny"
"""Whose ticket is judged; nothing of it is started."""
_SECRET: Final = b"of the measurement alone\n"
"""No secret: the workstation it opens is gone when the measurement ends."""


@dataclass(frozen=True)
class PowerOn:
    """One power-on of a chip, in milliseconds."""

    ready: float
    """From its start until it answers."""
    secrets: float
    """Computing passphrase and password, where there are any: deliberate."""
    prepare: float
    """Judging the firmware, and opening and serving the disk."""

    @property
    def own(self) -> float:
        """What is not deliberate."""
        return self.ready + self.prepare


@dataclass
class Kind:
    """A chip under one seal, with a password or without."""

    seal: Seal
    password: bool
    power_ons: list[PowerOn]
    erases: list[float]
    """Erasing the disk while it is served, in the chip."""

    @property
    def label(self) -> str:
        return f"{self.seal}, password" if self.password else self.seal

    def typical(self) -> PowerOn:
        """The medians."""
        return PowerOn(
            *(
                median(getattr(each, name) for each in self.power_ons)
                for name in ("ready", "secrets", "prepare")
            )
        )


@dataclass(frozen=True)
class Result:
    """All kinds, on one host."""

    host: str
    runs: int
    kinds: list[Kind]

    def tpm_milliseconds(self) -> float | None:
        """What the TPM adds to a power-on; None where there is none."""
        own = {kind.seal: kind.typical().own for kind in self.kinds if not kind.password}
        return own["tpm2"] - own["keyfile"] if "tpm2" in own else None

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON; times in milliseconds."""
        return asdict(self) | {"tpm_milliseconds": self.tpm_milliseconds()}


def chip(*, runs: int, progress: Progress) -> Result:
    """Measure `runs` rounds of all kinds; those with a TPM where the host has one."""
    seals: tuple[Seal, ...] = ("keyfile", "passphrase", "tpm2")
    if not tpm_place().exists():
        seals = seals[:-1]
    kinds = [Kind(seal, password, [], []) for seal in seals for password in (False, True)]
    cache = Paths.current().cache
    system = build(EDITION, mirror=host.mirror(), cache=cache, progress=progress)
    for number in range(runs):
        for kind in kinds:
            progress.step("rounds", number, runs)
            with own_home() as paths:
                _measure(paths, kind, system, progress)
    progress.step("rounds", runs, runs)
    return Result(describe_host(), runs, kinds)


def _measure(paths: Paths, kind: Kind, system: SystemImage, progress: Progress) -> None:
    at, spec = paths.workstation(NAME), Spec()
    at.folder.mkdir(parents=True)
    with (
        embedded(paths.authority) as authority,
        launch(at, new=True, seal=kind.seal) as running,
        running.client() as mailbox,
    ):
        identity = authority.identity()
        with _secret() as passphrase:
            mailbox.birth(
                authority=identity.ticket_key,
                vendor=identity.vendor,
                seal=kind.seal,
                passphrase=passphrase if kind.seal == "passphrase" else None,
            )
        mailbox.create_disk(spec.ssd_bytes)
        install(at, spec, system, mailbox, authority, slot="a", lay="nothing", progress=progress)
        if kind.password:
            with _secret() as password:
                mailbox.set_password(password)
    kind.power_ons.append(_power_on(at, kind))


def _power_on(at: WorkstationPaths, kind: Kind) -> PowerOn:
    begin = time.perf_counter()
    with launch(at) as running, running.client() as mailbox:
        ready = time.perf_counter()
        with _secret() as passphrase, _secret() as password:
            if kind.seal == "passphrase":
                mailbox.unseal(passphrase)
            if kind.password:
                mailbox.unlock(password)
        computed = time.perf_counter()
        with mailbox.prepare_start():
            prepared = time.perf_counter()
        kind.erases.append(_erase(running))
    milliseconds = (1000 * each for each in (ready - begin, computed - ready, prepared - computed))
    return PowerOn(*milliseconds)


def _erase(running: ChipProcess) -> float:
    with running.client() as mailbox:
        return mailbox.erase().milliseconds


@contextlib.contextmanager
def _secret() -> Iterator[int]:
    reading, writing = os.pipe()
    try:
        with open(writing, "wb") as writer:
            writer.write(_SECRET)
        yield reading
    finally:
        os.close(reading)
