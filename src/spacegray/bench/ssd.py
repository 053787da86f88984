"""`bench ssd`: what protection costs, against servers without and servers with less of it.

Every round measures each column on each server, the servers directly one after the other and
in another order each time, so that whatever else happens on the machine happens to all. Figures
are medians over the rounds; a ratio is one median over another.
"""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Final

import psutil

from spacegray import host
from spacegray.bench import aging, load, servers
from spacegray.bench import guest as guests
from spacegray.bench.home import describe_host
from spacegray.bench.load import COLUMNS, GIB, MIB, Column, Figure
from spacegray.bench.servers import OURS, RAW, UNPROTECTED, Server
from spacegray.errors import SpacegrayError
from spacegray.paths import Paths
from spacegray.progress import Progress

TMPFS: Final = Path("/dev/shm")
RUNS: Final = 5
IMAGES_AT_ONCE: Final = 4
"""Ours with its spare, a raw file, a LUKS file: so much room is asked for, in images."""


@dataclass(frozen=True)
class Extent:
    """How much is measured: seconds of each load, bytes of each image."""

    seconds: float
    image_bytes: int


FULL: Final = Extent(2.0, GIB)
QUICK: Final = Extent(0.3, 64 * MIB)

Figures = dict[str, dict[str, list[Figure]]]
"""By server and column, round by round."""


@dataclass(frozen=True)
class Medium:
    """All rounds on one medium."""

    folder: Path
    kind: str
    figures: Figures

    def ratio(self) -> dict[str, float]:
        """Ours over QEMU's storage daemon with a raw file, by column."""
        return {
            each.key: round(self._speed(OURS, each) / self._speed(RAW, each), 3) for each in COLUMNS
        }

    def ratio_fastest(self) -> dict[str, float]:
        """Ours over the fastest server without protection in each column."""
        return {
            each.key: round(
                self._speed(OURS, each) / max(self._speed(name, each) for name in UNPROTECTED), 3
            )
            for each in COLUMNS
        }

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "folder": str(self.folder),
            "ratio": self.ratio(),
            "ratio_fastest": self.ratio_fastest(),
            "servers": {
                server: {
                    column.key: summary(figures[column.key], column.unit) for column in COLUMNS
                }
                for server, figures in self.figures.items()
            },
        }

    def _speed(self, server: str, column: Column) -> float:
        return median(figure.speed for figure in self.figures[server][column.key])


@dataclass
class Result:
    """What was measured, medium by medium; the parts that were not asked for are empty."""

    host: str
    runs: int
    extent: Extent
    media: list[Medium] = field(default_factory=list)
    aged: aging.Aged | None = None
    beyond: aging.Beyond | None = None
    guest: guests.Guest | None = None

    def as_dict(self) -> dict[str, Any]:
        """For JSON; the ratios at the top are the first medium's."""
        first = self.media[0].as_dict()
        return {
            "ratio": first["ratio"],
            "ratio_fastest": first["ratio_fastest"],
            "servers": first["servers"],
            "host": self.host,
            "runs": self.runs,
            "seconds": self.extent.seconds,
            "image_bytes": self.extent.image_bytes,
            "columns": {
                each.key: {
                    "unit": each.unit,
                    "block_bytes": each.block_bytes,
                    "depth": each.depth,
                }
                for each in COLUMNS
            },
            "media": {medium.kind: medium.as_dict() for medium in self.media},
            **({"aged": self.aged.as_dict()} if self.aged else {}),
            **({"beyond": self.beyond.as_dict()} if self.beyond else {}),
            **({"guest": self.guest.as_dict()} if self.guest else {}),
        }


def summary(figures: list[Figure], unit: str) -> dict[str, Any]:
    """The medians of several runs of one load, and each run's speed."""
    return {
        "unit": unit,
        "median": median(each.speed for each in figures),
        "mean_us": median(each.mean_us for each in figures),
        "p99_us": median(each.p99_us for each in figures),
        "cpu_seconds_per_gib": median(each.cpu_seconds_per_gib for each in figures),
        "runs": [each.speed for each in figures],
    }


def ssd(
    *,
    runs: int,
    extent: Extent,
    folders: tuple[Path, ...],
    aged: bool,
    beyond: bool,
    guest: bool,
    progress: Progress,
) -> Result:
    """Measure `runs` rounds in each of `folders`, or on tmpfs and the state folder's disk."""
    servers.check_tools()
    result = Result(describe_host(), runs, extent)
    for folder in folders or (TMPFS, _state_folder()):
        kind = medium_kind(folder)
        if any(medium.kind == kind for medium in result.media):
            kind = str(folder)
        with work_folder(folder, IMAGES_AT_ONCE * extent.image_bytes) as work:
            figures = _rounds(work, kind, runs, extent, progress)
        result.media.append(Medium(folder, kind, figures))
    if aged:
        with work_folder(TMPFS, 2 * IMAGES_AT_ONCE * extent.image_bytes) as work:
            result.aged = aging.aged(
                work,
                runs=runs,
                seconds=extent.seconds,
                disk_bytes=extent.image_bytes,
                progress=progress,
            )
    if beyond:
        quick = extent == QUICK
        room = aging.QUICK_ROOM_BYTES if quick else aging.BEYOND_ROOM_BYTES
        with work_folder(TMPFS, room) as work:
            result.beyond = aging.beyond(
                work,
                runs=runs,
                seconds=extent.seconds,
                stride_bytes=aging.QUICK_STRIDE_BYTES if quick else aging.STRIDE_BYTES,
                progress=progress,
            )
    if guest:
        with work_folder(TMPFS, IMAGES_AT_ONCE * extent.image_bytes) as work:
            result.guest = guests.guest(
                work, runs=runs, image_bytes=extent.image_bytes, progress=progress
            )
    return result


def medium_kind(folder: Path) -> str:
    """`tmpfs` or `disk`: what `folder` lies on."""
    path = folder.resolve()
    mounts = {Path(part.mountpoint): part.fstype for part in psutil.disk_partitions(all=True)}
    found = next((mounts[each] for each in (path, *path.parents) if each in mounts), "")
    return "tmpfs" if found in ("tmpfs", "ramfs") else "disk"


@contextlib.contextmanager
def work_folder(folder: Path, room_bytes: int) -> Iterator[Path]:
    """A folder of its own in `folder`, which is removed again.

    Raises SpacegrayError where there is no room for `room_bytes`.
    """
    doing = f"measuring in {folder}"
    try:
        free = host.free_bytes(folder)
        if medium_kind(folder) == "tmpfs":
            free = min(free, psutil.virtual_memory().available)
        if free < room_bytes:
            raise SpacegrayError(
                doing,
                f"{free / GIB:.1f} GiB free, and it takes {room_bytes / GIB:.1f}",
                "give --folder a larger one, or measure with --quick",
            )
        work = Path(tempfile.mkdtemp(prefix="spacegray-bench-", dir=folder))
    except OSError as error:
        raise SpacegrayError(doing, error.strerror, "give another --folder") from None
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def order(names: list[Server], number: int) -> list[Server]:
    """The servers in the order of round `number`: each comes first in turn."""
    start = number % len(names)
    return names[start:] + names[:start]


def _rounds(work: Path, kind: str, runs: int, extent: Extent, progress: Progress) -> Figures:
    with servers.all_servers(work, extent.image_bytes) as running:
        label = f"measuring on {kind}"
        total = runs * len(COLUMNS) * len(running)
        for number, server in enumerate(running):
            progress.step(f"filling the images on {kind}", number, len(running))
            load.fill(server, extent.image_bytes)
        progress.step(f"filling the images on {kind}", len(running), len(running))
        figures: Figures = {
            server.key: {column.key: [] for column in COLUMNS} for server in running
        }
        done = 0
        for number in range(runs):
            for column in COLUMNS:
                for server in order(running, number):
                    progress.step(label, done, total)
                    if column is COLUMNS[0]:
                        # Each round on fresh images; what random writes leave is `--aged`'s.
                        load.fill(server, extent.image_bytes)
                    figures[server.key][column.key].append(
                        load.measure(
                            server,
                            column,
                            size_bytes=extent.image_bytes,
                            seconds=extent.seconds,
                            seed=number + 1,
                        )
                    )
                    done += 1
        progress.step(label, done, total)
    return figures


def _state_folder() -> Path:
    folder = Paths.current().state
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder
