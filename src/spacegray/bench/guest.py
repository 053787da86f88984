"""The disk as a guest sees it: ours over vhost-user-blk beside a raw file on QEMU's virtio-blk.

Two small machines boot the kernel of the `tiny` system directly, without firmware and without
a system, and copy with busybox's dd past the guest's page cache, one request at a time. They run in
turns and differ in nothing but their disk. Both disks lie on tmpfs.
"""

import re
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

import pefile

from spacegray import host, process
from spacegray.bench import servers
from spacegray.bench.load import MIB
from spacegray.bench.servers import OURS
from spacegray.errors import SpacegrayError
from spacegray.host import QEMU
from spacegray.machine.accelerator import choose, cpu
from spacegray.machine.arguments import channel
from spacegray.paths import Paths
from spacegray.progress import Progress
from spacegray.system.build import build
from spacegray.system.inside import cpio

PLAIN: Final = "virtio_blk_raw"
EDITION: Final = "tiny"
MEMORY_MB: Final = 512
BOOT_SECONDS: Final = 300.0
POLL_SECONDS: Final = 0.1
ARCHIVE_ALIGNMENT: Final = 4
"""Between two archives of an initramfs, in bytes."""

COLUMNS: Final = {
    "seq_write": "seq write, 1 MiB",
    "seq_read": "seq read, 1 MiB",
    "block_write": "4 KiB writes",
    "block_read": "4 KiB reads",
}
DONE: Final = "bench done"
_LINE: Final = re.compile(r"bench (\w+) (\d+) bytes, ([0-9.]+) to ([0-9.]+)")

INIT: Final = """#!/bin/sh
export PATH=/usr/sbin:/usr/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
while read -r module; do insmod "/modules/$module" 2> /dev/null; done < /modules/order
until [ -b /dev/vda ]; do usleep 20000; done
now() { cut -d' ' -f1 /proc/uptime; }
copy() { # NAME BYTES WORDS OF dd...
    name=$1 bytes=$2
    shift 2
    began=$(now)
    dd "$@" 2> /dev/null && echo "bench $name $bytes bytes, $began to $(now)" > /dev/console
}
writing="if=/dev/zero of=/dev/vda oflag=direct"
reading="if=/dev/vda of=/dev/null iflag=direct"
large="$((LARGE << 20)) bs=1M count=LARGE"
small="$((SMALL << 12)) bs=4k count=SMALL"
copy fill $large $writing conv=fsync
copy seq_write $large $writing
copy seq_read $large $reading
copy block_write $small $writing
copy block_read $small $reading
echo "bench done" > /dev/console
poweroff -f
"""


@dataclass(frozen=True)
class Guest:
    """MB/s by machine and column, boot by boot."""

    accelerator: str
    speeds: dict[str, dict[str, list[float]]]

    def ratio(self) -> dict[str, float]:
        """Ours over QEMU's own, by column."""
        ours, plain = self.speeds[OURS], self.speeds[PLAIN]
        return {key: round(median(ours[key]) / median(plain[key]), 3) for key in COLUMNS}

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "accelerator": self.accelerator,
            "unit": "MB/s",
            "ratio": self.ratio(),
            **{
                name: {key: median(values) for key, values in found.items()}
                for name, found in self.speeds.items()
            },
        }


def guest(work: Path, *, runs: int, image_bytes: int, progress: Progress) -> Guest:
    """Boot each machine `runs` times, in turns, in the folder `work`."""
    paths = Paths.current()
    system = build(EDITION, mirror=host.mirror(), cache=paths.cache, progress=progress)
    accelerator = choose(paths, None)
    initrd = _prepare(work, system.kernel, image_bytes)
    machine = _command(work, initrd, accelerator.name)
    limit = BOOT_SECONDS * accelerator.timeout_factor
    raw = work / "plain.raw"
    with raw.open("wb") as file:
        file.truncate(image_bytes)
    plain = f"driver=raw,node-name=disk,discard=unmap,file.driver=file,file.filename={raw}"
    with servers.chip(work, image_bytes) as (_, mailbox):

        def ours() -> dict[str, float]:
            with mailbox.open_disk("vhost-user-blk") as disk:
                device = "vhost-user-blk-pci,chardev=disk,num-queues=1,disable-legacy=on"
                words = [*channel("disk", disk.fileno()), "-device", device]
                found = _boot([*machine, *words], work, (disk.fileno(),), limit)
            mailbox.close_disk()
            return found

        def theirs() -> dict[str, float]:
            device = "virtio-blk-pci,drive=disk,num-queues=1,disable-legacy=on"
            return _boot([*machine, "-blockdev", plain, "-device", device], work, (), limit)

        turns: tuple[tuple[str, Callable[[], dict[str, float]]], ...] = (
            (OURS, ours),
            (PLAIN, theirs),
        )
        speeds: dict[str, dict[str, list[float]]] = {
            name: {key: [] for key in COLUMNS} for name, _ in turns
        }
        for number in range(runs):
            progress.step("measuring in a guest", number, runs)
            for name, boot in turns if number % 2 == 0 else turns[::-1]:
                found = boot()
                for key in COLUMNS:
                    speeds[name][key].append(found[key])
        progress.step("measuring in a guest", runs, runs)
    return Guest(accelerator.name, speeds)


def speeds_in(console: str) -> dict[str, float]:
    """MB/s by column in what a guest said on its console."""
    found = {}
    for name, count, began, ended in _LINE.findall(console):
        if (seconds := float(ended) - float(began)) > 0:
            found[name] = round(int(count) / 1e6 / seconds, 1)
    return found


def _prepare(work: Path, kernel_image: Path, image_bytes: int) -> Path:
    """Kernel and initramfs out of a unified kernel image, its `init` replaced by ours."""
    with pefile.PE(str(kernel_image), fast_load=True) as image:
        parts = {
            section.Name.rstrip(b"\0"): section.get_data()[: section.Misc_VirtualSize]
            for section in image.sections
        }
    (work / "kernel").write_bytes(parts[b".linux"])
    init = work / "tree" / "init"
    init.parent.mkdir()
    # All of the image in large requests, an eighth of it in small ones.
    large = image_bytes // MIB
    init.write_text(INIT.replace("LARGE", str(large)).replace("SMALL", str(large * 32)))
    init.chmod(0o755)
    archive = parts[b".initrd"]
    initrd = work / "initramfs"
    # What comes later in the file replaces what came before.
    initrd.write_bytes(archive + bytes(-len(archive) % ARCHIVE_ALIGNMENT) + cpio.pack(init.parent))
    return initrd


def _command(work: Path, initrd: Path, accelerator: Any) -> list[str]:
    return [
        *(QEMU, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
        *("-machine", "q35,memory-backend=memory", "-accel", accelerator),
        *("-cpu", cpu(accelerator), "-smp", "1", "-m", f"{MEMORY_MB}M"),
        *("-object", f"memory-backend-memfd,id=memory,size={MEMORY_MB}M,share=on"),
        *("-kernel", str(work / "kernel"), "-initrd", str(initrd)),
        *("-append", "console=ttyS0 quiet panic=-1"),
        *("-serial", f"file:{work / 'console'}"),
    ]


def _boot(
    command: Sequence[str], work: Path, descriptors: Sequence[int], limit_seconds: float
) -> dict[str, float]:
    """One boot, from power-on to power-off; raises SpacegrayError when it does not get there."""
    console, words = work / "console", work / "qemu.log"
    console.write_text("")
    with words.open("wb") as log:
        child = process.spawn(
            command, descriptors=descriptors, stdout=subprocess.DEVNULL, stderr=log.fileno()
        )
    try:
        deadline = time.monotonic() + limit_seconds
        while child.poll() is None and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
    finally:
        process.stop(child, timeout_seconds=0)
    said = console.read_text(errors="replace")
    found = speeds_in(said)
    if DONE not in said or not COLUMNS.keys() <= found.keys():
        last = (words.read_text(errors="replace").strip() or said.strip()).splitlines()
        raise SpacegrayError(
            "measuring in a guest",
            last[-1] if last else "it said nothing",
            "see that QEMU works (`./run doctor`)",
        )
    return found
