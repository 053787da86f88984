"""What wears the SSD's speed down: a disk full of old overwrites, an index beyond its cache.

Aged: the disk is filled to 80 % and the filled part overwritten at random twice, and once more
before each further round; the same loads on the filled part of it and of a new disk that was only
filled are compared, in turns.

Beyond: the index cache of 64 MiB holds the leaves of 16 GiB, and the newest changes are in memory
as well. One 4 KiB block is written in each 64 KiB of a thin disk: a leaf covers a MiB, so that
64 GiB of addresses make an index of four times the cache, and more changes than are kept, out of
4 GiB of data; within the cache the same is done in 8 GiB.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

from spacegray.bench import load, servers
from spacegray.bench.load import COLUMNS, GIB, KIB, MIB, Figure
from spacegray.bench.servers import OURS, RAW
from spacegray.progress import Progress

FILLED_PERCENT: Final = 80
OVERWRITTEN: Final = 2
WITHIN_BYTES: Final = 8 * GIB
BEYOND_BYTES: Final = 64 * GIB
STRIDE_BYTES: Final = 64 * KIB
QUICK_STRIDE_BYTES: Final = MIB
"""One block for each leaf: quickly written, but all of it is found among the newest changes."""
BEYOND_ROOM_BYTES: Final = 12 * GIB
QUICK_ROOM_BYTES: Final = 2 * GIB

_ORDER: Final = ("seq_read", "rand_read", "rand_write", "flush_write", "seq_write")
"""Sequential writing last: it would make an old disk young again."""
_RANDOM: Final = tuple(each for each in COLUMNS if each.key in ("rand_read", "rand_write"))


@dataclass(frozen=True)
class Aged:
    """Speeds by column, round by round, of new disks and of the old one.

    `write_amplification`: what was written to the modules over what was written to the old disk,
    while it was overwritten at random.
    """

    disk_bytes: int
    write_amplification: float
    fresh: dict[str, list[Figure]]
    aged: dict[str, list[Figure]]

    def ratio(self) -> dict[str, float]:
        """The old disk's median over that of the new ones."""
        return {
            key: round(_speed(self.aged[key]) / _speed(self.fresh[key]), 3) for key in self.fresh
        }

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "disk_bytes": self.disk_bytes,
            "write_amplification": self.write_amplification,
            "ratio": self.ratio(),
            "fresh": {key: _speed(figures) for key, figures in self.fresh.items()},
            "aged": {key: _speed(figures) for key, figures in self.aged.items()},
        }


@dataclass(frozen=True)
class Beyond:
    """IOPS by column, round by round, within the index cache and beyond it: ours and raw."""

    within: dict[str, dict[str, list[Figure]]]
    beyond: dict[str, dict[str, list[Figure]]]
    missed: tuple[float, float]
    """The share of leaves that were not in the cache: within it, beyond it."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON; `ratio` is ours over raw."""
        return {
            name: {
                "missed": share,
                **{
                    server: {key: _speed(figures) for key, figures in found.items()}
                    for server, found in by_server.items()
                },
                "ratio": {
                    key: round(_speed(by_server[OURS][key]) / _speed(by_server[RAW][key]), 3)
                    for key in by_server[OURS]
                },
            }
            for name, by_server, share in (
                ("within", self.within, self.missed[0]),
                ("beyond", self.beyond, self.missed[1]),
            )
        }


def aged(work: Path, *, runs: int, seconds: float, disk_bytes: int, progress: Progress) -> Aged:
    """Measure a new disk and an old one in turns, in the folder `work`."""
    filled = disk_bytes * FILLED_PERCENT // 100 // MIB * MIB
    columns = {column.key: column for column in COLUMNS}
    young: dict[str, list[Figure]] = {key: [] for key in _ORDER}
    old: dict[str, list[Figure]] = {key: [] for key in _ORDER}

    def rounds(server: servers.Server, results: dict[str, list[Figure]], number: int) -> None:
        for key in _ORDER:
            results[key].append(
                load.measure(
                    server, columns[key], size_bytes=filled, seconds=seconds, seed=number + 1
                )
            )

    (work / "old").mkdir()
    with servers.ours(work / "old", disk_bytes) as server:
        progress.note(f"ageing a disk of {disk_bytes / GIB:.2g} GiB")
        load.fill(server, filled)
        sealed = written = 0
        for number in range(runs):
            progress.step("measuring a disk new and old", number, runs)
            before = server.status()
            load.overwrite(server, filled, times=1 if number else OVERWRITTEN, seed=100 + number)
            after = server.status()
            sealed += after.slots_written - before.slots_written
            written += after.host_written_blocks - before.host_written_blocks
            with (
                tempfile.TemporaryDirectory(dir=work) as folder,
                servers.ours(Path(folder), disk_bytes) as new,
            ):
                load.fill(new, filled)
                rounds(new, young, number)
            rounds(server, old, number)
        progress.step("measuring a disk new and old", runs, runs)
    return Aged(disk_bytes, round(sealed / written, 3), young, old)


def beyond(
    work: Path, *, runs: int, seconds: float, stride_bytes: int, progress: Progress
) -> Beyond:
    """Measure random reads and writes within the index cache and beyond it, in `work`.

    One block is written, and read, in each `stride_bytes`.
    """
    found: list[dict[str, dict[str, list[Figure]]]] = []
    missed: list[float] = []
    for size in (WITHIN_BYTES, BEYOND_BYTES):
        figures: dict[str, dict[str, list[Figure]]] = {
            key: {column.key: [] for column in _RANDOM} for key in (OURS, RAW)
        }
        label = f"random blocks in {size // GIB} GiB"
        with (
            tempfile.TemporaryDirectory(dir=work) as folder,
            servers.ours(Path(folder), size) as ours,
            servers.raw(Path(folder), size) as raw,
        ):
            for server in (ours, raw):
                load.fill_sparsely(server, size, stride_bytes)
            before = ours.status()
            for number in range(runs):
                progress.step(label, number, runs)
                for column in _RANDOM:
                    for server in (ours, raw) if number % 2 else (raw, ours):
                        figures[server.key][column.key].append(
                            load.measure(
                                server,
                                column,
                                size_bytes=size,
                                seconds=seconds,
                                seed=number + 1,
                                align_bytes=stride_bytes,
                            )
                        )
            progress.step(label, runs, runs)
            after = ours.status()
        misses = after.cache_misses - before.cache_misses
        asked = misses + after.cache_hits - before.cache_hits
        missed.append(round(misses / max(1, asked), 3))
        found.append(figures)
    return Beyond(found[0], found[1], (missed[0], missed[1]))


def _speed(figures: list[Figure]) -> float:
    return median(each.speed for each in figures)
