"""The SSD as its owner sees it: what it says of itself, whether all of it is sound, its end."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from spacegray.chip.client import ChipClient
from spacegray.chip.messages import DISK_BLOCK_BYTES
from spacegray.chip.ssd import Health
from spacegray.errors import SpacegrayError
from spacegray.progress import Progress
from spacegray.workstation import create, hold, ways_back
from spacegray.workstation.api import Workstation
from spacegray.workstation.unlock import Owner

SPARE_LEAST_PERCENT: Final = 1
"""With less of its capacity left to write to, the disk is about to refuse writes."""
BAD_LIMIT: Final = 65536
"""How many bad blocks are remembered by number; all are counted."""


@dataclass(frozen=True)
class Range:
    """Bad blocks in a row, where they lie on the disk, and in which partition."""

    block: int
    count: int
    partition: str | None

    def as_dict(self) -> dict[str, Any]:
        """For JSON; offset and length in bytes."""
        return {
            "block": self.block,
            "count": self.count,
            "offset_bytes": self.block * DISK_BLOCK_BYTES,
            "length_bytes": self.count * DISK_BLOCK_BYTES,
            "partition": self.partition,
        }


@dataclass
class Verification:
    """What reading everything found: blocks in use that were checked, and those that are bad."""

    checked_blocks: int = 0
    bad_blocks: int = 0
    bad: list[Range] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "checked_blocks": self.checked_blocks,
            "bad_blocks": self.bad_blocks,
            "bad": [each.as_dict() for each in self.bad],
        }


def report(workstation: Workstation, owner: Owner | None = None) -> dict[str, Any]:
    """What the disk says of itself; docs/show.md lists the keys.

    `owner` gives what the chip needs to open the disk of a machine that is off. A disk that does
    not open is reported as failing, with the reason; its numbers are then null. Raises
    SpacegrayError where the chip itself cannot be asked.
    """
    health, reason, erased = _health(workstation, owner)
    status = health.status
    numbers = {"used_bytes": 0} if erased else {}
    numbers |= {} if status is None else msgspec.to_builtins(status)
    numbers |= {"capacity_bytes": numbers.get("capacity_bytes", workstation.installed.disk_bytes)}
    written = numbers.get("host_written_blocks")
    reason = reason or _trouble(health)
    return {
        "name": workstation.name,
        "capacity_bytes": numbers["capacity_bytes"],
        **{key: numbers.get(key) for key in ("used_bytes", "spare_bytes", "physical_bytes")},
        "write_amplification": (round(numbers["slots_written"] / written, 3) if written else None),
        **{key: numbers.get(key) for key in _COUNTERS},
        "errors": numbers.get("read_errors"),
        "health": "erased" if erased else "failing" if reason else "good",
        "reason": reason,
        "strict": workstation.spec.strict,
        "modules": msgspec.to_builtins(health.modules),
    }


def verify(
    workstation: Workstation, progress: Progress, owner: Owner | None = None
) -> Verification:
    """Read and authenticate every block in use; `owner` as for `report`.

    Raises SpacegrayError where it does not open.
    """
    doing = f"verifying the disk of {workstation.name}"
    found, bad = Verification(), list[int]()
    with _open_disk(workstation, doing, "being verified", owner) as mailbox:
        status = mailbox.disk_health().status
        if status is None:
            raise SpacegrayError(doing, "its disk is not open yet", "try again when it is up")
        total, block = status.capacity_bytes // DISK_BLOCK_BYTES, 0
        while block < total:
            progress.step(f"verifying the disk of {workstation.name}", block, total)
            part = mailbox.verify_disk(block, total - block)
            block = part.next
            found.checked_blocks += part.checked
            found.bad_blocks += len(part.bad)
            bad += part.bad[: BAD_LIMIT - len(bad)]
        progress.step(f"verifying the disk of {workstation.name}", total, total)
    found.bad = list(_ranges(bad, workstation.installed.partitions))
    return found


def format_with(workstation: Workstation, mailbox: ChipClient) -> None:
    """Make a new empty disk, under a new key, in place of whatever there is.

    From its first moment on the disk counts as empty, and no bundle made so far opens it.
    """
    create.note_empty(workstation.at, workstation.installed, empty=True)
    ways_back.forget_bundle(workstation.at)
    mailbox.erase_disk(workstation.installed.disk_bytes)


def is_erased(mailbox: ChipClient) -> bool:
    """Whether the chip was erased and nothing was begun since: there is no disk at all."""
    return bool(mailbox.show()["life"] == "erased")


_COUNTERS: Final = (
    "host_written_blocks",
    "slots_written",
    "blocks_cleaned",
    "segments_cleaned",
    "trimmed_blocks",
    "power_cuts",
    "opens",
)


def _health(workstation: Workstation, owner: Owner | None) -> tuple[Health, str, bool]:
    """The disk's health; why it does not open, if so; whether it was erased."""
    doing = f"looking at the disk of {workstation.name}"
    with hold.any_chip(workstation, doing, "being looked at", owner, wants="disk") as (
        mailbox,
        off,
    ):
        reason, erased = "", is_erased(mailbox)
        if erased:
            reason = "there is no disk; `import` and `restore` make one"
        elif off:
            try:
                mailbox.check_disk()
            except SpacegrayError as error:
                if error.link != "disk":
                    raise
                reason = error.stopped_by
        health = mailbox.disk_health()
        if off:
            mailbox.close_disk()
        return health, reason, erased


def _trouble(health: Health) -> str:
    """Why an open disk is not in order; empty where it is."""
    status = health.status
    if status is None:
        return health.detail
    if status.stopped:
        return (
            "the host's disk failed to keep what was written; nothing is served until it is "
            "opened anew"
        )
    if status.read_errors:
        return f"{status.read_errors} reads failed; `ssd verify` says where"
    free = status.capacity_bytes - status.used_bytes
    if status.spare_bytes < min(free, status.capacity_bytes * SPARE_LEAST_PERCENT // 100):
        return f"only {status.spare_bytes} bytes are left to write to"
    return ""


@contextlib.contextmanager
def _open_disk(
    workstation: Workstation, doing: str, purpose: str, owner: Owner | None
) -> Iterator[ChipClient]:
    with hold.any_chip(workstation, doing, purpose, owner, wants="disk") as (mailbox, off):
        ways_back.must_have_disk(workstation.at, doing, mailbox.show())
        if off:
            mailbox.check_disk()
        yield mailbox
        if off:
            mailbox.close_disk()


def _ranges(blocks: list[int], partitions: list[dict[str, Any]]) -> Iterator[Range]:
    """Blocks, in ascending order, as ranges that do not cross a partition's edge."""
    start, count, where = 0, 0, None
    for block in blocks:
        partition = _partition(block, partitions)
        if count and block == start + count and partition == where:
            count += 1
            continue
        if count:
            yield Range(start, count, where)
        start, count, where = block, 1, partition
    if count:
        yield Range(start, count, where)


def _partition(block: int, partitions: list[dict[str, Any]]) -> str | None:
    offset = block * DISK_BLOCK_BYTES
    for part in partitions:
        if part["start_bytes"] <= offset < part["start_bytes"] + part["size_bytes"]:
            return str(part["name"])
    return None
