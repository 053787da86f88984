"""`bench boot`: what the chip costs from power-on to login.

Two machines of the same board boot the same system image in turns, one after the other:

- chip: the product, from the moment its supervisor powers on (chip, vault, firmware check,
  encrypted disk over vhost-user, Secure Boot) to the guest's answer;
- plain: QEMU with the distribution's firmware without Secure Boot and the same image in a raw
  file on virtio-blk, from the start of QEMU to the guest's answer.

The first start of each formats its data volume and is not counted. CPU seconds are those of
all processes of a machine up to that answer.
"""

import asyncio
import contextlib
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from spacegray import process
from spacegray import spec as specs
from spacegray.bench.home import NAME, cpu_seconds, describe_host, own_home
from spacegray.errors import SpacegrayError
from spacegray.host import Host, ovmf
from spacegray.machine import board as boards
from spacegray.machine.accelerator import choose
from spacegray.paths import Paths
from spacegray.progress import Progress
from spacegray.spec import Spec
from spacegray.system import layout
from spacegray.system.build import SystemImage, build
from spacegray.workstation import create, guest_port
from spacegray.workstation.api import Workstation
from spacegray.workstation.serial import SerialWatch
from spacegray.workstation.streams import Pair

READY_SECONDS = 300.0
"""How long a plain machine may take to answer."""
PASSWORD_HASH = "!"


@dataclass(frozen=True)
class Run:
    """One start: seconds of the clock and of the processors."""

    wall_seconds: float
    cpu_seconds: float


@dataclass(frozen=True)
class Result:
    """All runs of both machines, in their order."""

    edition: str
    accelerator: str
    host: str
    chip: list[Run]
    plain: list[Run]

    def ratios(self) -> tuple[float, float]:
        """Median of the chip's over median of the plain machine's: wall, processor."""
        return (
            median(run.wall_seconds for run in self.chip)
            / median(run.wall_seconds for run in self.plain),
            median(run.cpu_seconds for run in self.chip)
            / median(run.cpu_seconds for run in self.plain),
        )

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        wall, cpu = self.ratios()
        return {
            "edition": self.edition,
            "accelerator": self.accelerator,
            "host": self.host,
            "chip": [vars(run) for run in self.chip],
            "plain": [vars(run) for run in self.plain],
            "wall_ratio": round(wall, 3),
            "cpu_ratio": round(cpu, 3),
        }


def boot(edition: str, *, runs: int, mirror: str, accel: str | None, progress: Progress) -> Result:
    """Measure `runs` starts of each machine, in turns, in a home of its own that goes again."""
    system = build(edition, mirror=mirror, cache=Paths.current().cache, progress=progress)
    spec = specs.build({"edition": edition}, source="of the command line")
    with own_home() as paths:
        accelerator = choose(paths, accel)
        board = boards.scale(spec, Host.current(), accelerator)
        create.create(
            paths, NAME, spec, mirror=mirror, password_hash=PASSWORD_HASH, progress=progress
        )
        workstation = Workstation.find(paths, NAME)
        plain = _PlainDisk(paths.workstations, system, spec, workstation)
        results: tuple[list[Run], list[Run]] = ([], [])
        for number in range(runs + 1):
            for kind, kept in enumerate(results):
                run = plain.start(board) if kind else _chip_start(workstation, accel)
                if number:
                    kept.append(run)
                    name = "plain" if kind else "chip"
                    progress.note(
                        f"{name} {number}: {run.wall_seconds:.1f} s, {run.cpu_seconds:.1f} CPU s"
                    )
    return Result(edition, accelerator.name, describe_host(), *results)


def _chip_start(workstation: Workstation, accel: str | None) -> Run:
    cpu = 0.0

    def seen(event: dict[str, Any]) -> None:
        nonlocal cpu
        if event["kind"] == "link" and event["link"] == "login":
            record = workstation.record()
            assert record.supervisor is not None
            cpu = cpu_seconds(process.pid_of(record.supervisor))

    workstation.start(accelerator=accel, on_event=seen)
    login = next(link for link in workstation.record().links if link["link"] == "login")
    workstation.stop()
    return Run(round(login["seconds"], 3), round(cpu, 3))


class _PlainDisk:
    """The same image in a raw file, as an unprotected machine would have it."""

    def __init__(
        self, folder: Path, system: SystemImage, spec: Spec, workstation: Workstation
    ) -> None:
        self._path = folder / "plain.raw"
        self._identity = boards.Identity(NAME, int(workstation.installed.ecid, 16))
        with self._path.open("wb") as disk:
            disk.truncate(spec.ssd_bytes)
            for extent in layout.extents(system, system.kernel.read_bytes(), spec.ssd_bytes):
                disk.seek(extent.offset)
                source = extent.source
                disk.write(source if isinstance(source, bytes) else source.read_bytes())

    def start(self, board: boards.Board) -> Run:
        """One start; raises SpacegrayError when the guest does not answer."""
        return asyncio.run(self._start(board))

    async def _start(self, board: boards.Board) -> Run:
        image, template = plain_firmware(), ovmf().variables.read_bytes()
        began = time.monotonic()
        with contextlib.ExitStack() as stack:
            firmware = stack.enter_context(image.open("rb"))
            variables = stack.enter_context(tempfile.TemporaryFile())
            variables.write(template)
            variables.flush()
            disk = stack.enter_context(self._path.open("r+b"))
            pairs = [Pair() for _ in range(3)]
            for pair in pairs:
                stack.callback(pair.close)
            monitor, serial, guest = pairs
            descriptors = boards.Descriptors(
                firmware=firmware.fileno(),
                variables=variables.fileno(),
                disk=disk.fileno(),
                monitor=monitor.theirs.fileno(),
                serial=serial.theirs.fileno(),
                guest_port=guest.theirs.fileno(),
            )
            qemu = process.spawn(
                boards.plain_command(board, descriptors, self._identity),
                descriptors=descriptors.all(),
            )
            # Ours to close: the end of what the machine says is seen only without these copies.
            for pair in pairs:
                pair.theirs.close()
            try:
                async with asyncio.timeout(READY_SECONDS):
                    nonce = guest_port.new_nonce()
                    drain = asyncio.create_task(_greet_and_drain(serial, guest, nonce))
                    await _ready(guest, nonce)
                run = Run(round(time.monotonic() - began, 3), round(cpu_seconds(qemu.pid), 3))
                await guest.send(b"poweroff\n")
                async with asyncio.timeout(READY_SECONDS):
                    await drain
                return run
            except TimeoutError:
                raise SpacegrayError(
                    "booting the plain machine", "its guest did not answer", "try again"
                ) from None
            finally:
                process.stop(qemu)


def plain_firmware() -> Path:
    """OVMF as machines without Secure Boot use it; raises SpacegrayError when it is missing."""
    path = ovmf().code.with_name("OVMF_CODE_4M.fd")
    if not path.exists():
        raise SpacegrayError("measuring", f"there is no {path}", "install ovmf")
    return path


async def _ready(guest: Pair, nonce: str) -> None:
    rest = b""
    async for data in guest.receive():
        *lines, rest = (rest + data).split(b"\n")
        # The plain machine has no Secure Boot variables to tell of: the nonce is the answer.
        if any(line.startswith(b"ready " + nonce.encode()) for line in lines):
            return
    raise SpacegrayError("booting the plain machine", "it ended", "see that QEMU works")


async def _greet_and_drain(serial: Pair, guest: Pair, nonce: str) -> None:
    """Greet once the kernel runs: firmware would read the guest's port as a console."""
    watch, greeted = SerialWatch(), False
    async for data in serial.receive():
        if not greeted and any(seen.status == "ok" for seen in watch.feed(data)):
            greeted = True
            await guest.send(guest_port.greeting(nonce, None))
