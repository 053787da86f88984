"""Promise: a full host disk loses nothing acknowledged, and all goes on when there is room again.

Also where it is the disk under the chip's own folder, in which the newest state is remembered.
"""

from pathlib import Path

from tests.support import small_disk

ANCHOR_SCRIPT = """
at = ssd.make(home)
fill_up(home / "state")
with ssd.served(at) as served:
    for generation in range(1, 4):
        ssd.fill(served.disk, generation, 0, 64)
        ssd.await_anchor()
    status = served.mailbox.disk_health().status
    assert status.anchored_sequence == status.sequence, status
with ssd.served(at, strict=True) as served:
    assert all(ssd.read(served.disk, n) == ssd.content(3, n) for n in range(64))
    ssd.fill(served.disk, 4, 0, 64)
with ssd.checked(at) as mailbox:
    status = mailbox.disk_health().status
    assert (status.power_cuts, status.opens) == (0, 3), status
print("remembered")
"""

MODULES_SCRIPT = """
from spacegray.nbd import NbdError
at = ssd.make(home)
filler = fill_up(home / "workstations", leave_bytes=40 << 20)
kept, refused = 0, ""
with ssd.served(at) as served:
    while kept < ssd.BLOCKS and not refused:
        try:
            ssd.fill(served.disk, 1, kept, 64)
            kept += 64
        except NbdError as error:
            refused = str(error)
    assert 0 < kept < ssd.BLOCKS, kept
    assert "error 28" in refused, refused
    assert all(ssd.read(served.disk, n) == ssd.content(1, n) for n in range(kept))
    filler.unlink()
    ssd.fill(served.disk, 2, kept, 1024)
    assert all(ssd.read(served.disk, n) == ssd.content(2, n) for n in range(kept, kept + 1024))
with ssd.served(at) as served:
    assert all(ssd.read(served.disk, n) == ssd.content(1, n) for n in range(kept))
    assert all(ssd.read(served.disk, n) == ssd.content(2, n) for n in range(kept, kept + 1024))
print(f"{kept} blocks before it was full")
"""

CUT_SCRIPT = """
from spacegray.nbd import NbdError
at = ssd.make(home)
filler = fill_up(home / "workstations", leave_bytes=40 << 20)
kept = 0
with ssd.served(at) as served:
    try:
        while kept < ssd.BLOCKS:
            ssd.fill(served.disk, 1, kept, 64)
            kept += 64
    except NbdError:
        pass
    served.chip.process.kill()
    served.chip.process.wait()
assert 0 < kept < ssd.BLOCKS, kept
filler.unlink()
with ssd.served(at) as served:
    assert all(ssd.read(served.disk, n) == ssd.content(1, n) for n in range(kept))
print("recovered")
"""


def test_the_newest_state_is_remembered_in_a_full_folder(tmp_path: Path) -> None:
    """What the chip remembers has its room set aside: a full state folder stops nothing."""
    printed = small_disk.run(tmp_path, ANCHOR_SCRIPT, modules_mb=80, state_kb=256)
    assert printed.endswith("remembered\n")


def test_a_full_disk_under_the_modules_is_an_error_that_passes(tmp_path: Path) -> None:
    """ENOSPC for what does not fit; everything else is there and goes on once there is room."""
    printed = small_disk.run(tmp_path, MODULES_SCRIPT, modules_mb=96, state_kb=1024)
    assert "blocks before it was full" in printed


def test_a_power_cut_on_a_full_disk_loses_nothing_acknowledged(tmp_path: Path) -> None:
    """Opening may need room; once there is some, everything that was flushed is there."""
    printed = small_disk.run(tmp_path, CUT_SCRIPT, modules_mb=96, state_kb=1024)
    assert printed.endswith("recovered\n")
