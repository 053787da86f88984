"""Attack: a virtio descriptor that points into the memory of the firmware's own mode (SMM).

The disk's back end is outside of QEMU and would write wherever it is told; what keeps it from
TSEG is that QEMU never shares it. Here every table of memory that the real QEMU sends is looked
at, from power-on until the kernel's own driver has the disk. That the back end goes by the table
is `silicon/ssdd/src/virtio/tests/requests.rs::senseless_requests_fail`.
"""

import contextlib
import re
import socket
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from spacegray import host, process
from spacegray.system.image import SystemImage
from tests.support import media
from tests.support.powered import Powered, powered
from tests.support.vhost_user import Region, Tap, tapped

STOP_SECONDS = 10
DRIVER_SECONDS = 120
TSEG, SMBASE = "tseg-blackhole", "smbase-blackhole"
"""QEMU's names for what hides the two places from all but the processor in SMM."""
_VIEW = re.compile(r"FlatView #\d+\n(.*?)(?=\n\nFlatView|\Z)", re.DOTALL)
_ENTRY = re.compile(r"^  ([0-9a-f]{16})-([0-9a-f]{16}) \(prio -?\d+, (\S+)\): (\S+)", re.MULTILINE)


@dataclass(frozen=True)
class Seen:
    """What QEMU shared in the course of one start, and its map of memory at the end of it."""

    tables: list[tuple[Region, ...]]
    map: str

    def entries(self, root: str) -> list[tuple[Region, str, str]]:
        """What is where, in the view of memory with this root: place, kind, name."""
        (view,) = (view for view in _VIEW.findall(self.map) if f"region: {root}\n" in view)
        return [
            (Region(int(first, 16), int(last, 16) + 1 - int(first, 16)), kind, name)
            for first, last, kind, name in _ENTRY.findall(view)
        ]

    def hidden(self, name: str) -> Region:
        """Where devices meet this in place of memory."""
        return next(place for place, _, found in self.entries("system") if found == name)


@contextlib.contextmanager
def served(disk: Path) -> Iterator[socket.socket]:
    """QEMU's own storage daemon as the back end of `disk`: a connection to it."""
    with socket.socket(socket.AF_UNIX) as listener, tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/disk"
        listener.bind(path)
        listener.listen(1)
        number = listener.fileno()
        daemon = process.spawn(
            [
                "qemu-storage-daemon",
                "--blockdev",
                f"driver=raw,node-name=disk,file.driver=file,file.filename={disk}",
                "--export",
                f"type=vhost-user-blk,id=export,node-name=disk,writable=on,num-queues=16,"
                f"addr.type=fd,addr.str={number}",
            ],
            descriptors=(number,),
        )
        try:
            connection = socket.socket(socket.AF_UNIX)
            connection.connect(path)
            yield connection
        finally:
            process.stop(daemon, timeout_seconds=STOP_SECONDS)


@pytest.fixture(scope="module")
def seen(tiny: SystemImage, tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """One start of a kernel of ours, its signature not asked for."""
    files = {media.BOOT_FILE: tiny.kernel.read_bytes()}
    disk = media.disk(tmp_path_factory.mktemp("smram") / "disk", files)
    ovmf = host.ovmf()
    with (
        tempfile.TemporaryFile() as variables,
        ovmf.code.open("rb") as firmware,
        served(disk) as back_end,
        tapped(back_end) as (line, tap),
    ):
        variables.write(ovmf.variables.read_bytes())
        variables.flush()
        with powered(
            firmware=firmware.fileno(), variables=variables.fileno(), disk=line.fileno()
        ) as machine:
            assert machine.wait_for(b"EFI stub") == b"EFI stub"
            await_the_kernels_driver(tap, machine)
            return Seen(list(tap.tables), machine.ask("info mtree -f"))


def await_the_kernels_driver(tap: Tap, machine: Powered) -> None:
    """Return once the disk was taken for the second time: the firmware had it first."""
    deadline = time.monotonic() + DRIVER_SECONDS
    while tap.enabled < 2:
        assert time.monotonic() < deadline, machine.heard
        time.sleep(0.1)


def test_memory_is_shared_at_all(seen: Seen) -> None:
    """The control: up to the very byte before it, all memory is in the last table."""
    assert seen.tables
    shared = seen.tables[-1]
    ram = [place for place, kind, _ in seen.entries("system") if kind == "ram"]
    assert sum(place.size for place in ram) > 256 * media.MIB
    for place in ram:
        assert any(each.start <= place.start and place.end <= each.end for each in shared), place
    assert seen.hidden(TSEG).start in {each.end for each in shared}


@pytest.mark.parametrize("name", [TSEG, SMBASE])
def test_no_table_covers_what_only_smm_may_reach(seen: Seen, name: str) -> None:
    hidden = seen.hidden(name)
    assert hidden.size > 0
    for table in seen.tables:
        assert not [each for each in table if each.overlaps(hidden)], (table, hidden)


@pytest.mark.parametrize("name", [TSEG, SMBASE])
def test_it_is_memory_that_the_processor_in_smm_does_reach(seen: Seen, name: str) -> None:
    """There is something to protect there: the same addresses are memory in that view."""
    hidden = seen.hidden(name)
    inside = [place for place, kind, _ in seen.entries("memory") if kind == "ram"]
    assert any(each.start <= hidden.start and hidden.end <= each.end for each in inside)
