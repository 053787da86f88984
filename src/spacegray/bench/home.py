"""Where measurements happen: a home that goes again, the machine, processor seconds."""

import contextlib
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil

from spacegray.errors import SpacegrayError
from spacegray.files import make_private
from spacegray.host import Host, qemu_version
from spacegray.paths import Paths
from spacegray.workstation.api import Workstation

NAME = "bench"
"""The workstation that is measured."""


def describe_host() -> str:
    """The machine that the figures come from."""
    host = Host.current()
    return (
        f"{host.cpu_model}, {host.cpus} CPUs, "
        f"{host.memory_total_bytes >> 30} GiB, {platform.release()}, QEMU {qemu_version()}"
    )


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and of all below it, the ended ones included."""
    total = 0.0
    root = psutil.Process(pid)
    for each in (root, *root.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = each.cpu_times()
            total += times.user + times.system
            if each.pid == pid:
                total += times.children_user + times.children_system
    return total


@contextlib.contextmanager
def own_home() -> Iterator[Paths]:
    """A home beside the cache, for the supervisor too; removed at the end, come what may."""
    cache = make_private(Paths.current().cache)
    home = Path(tempfile.mkdtemp(prefix="bench-", dir=cache))
    (home / "cache").symlink_to(cache)
    before = os.environ.get("SPACEGRAY_HOME")
    os.environ["SPACEGRAY_HOME"] = str(home)
    paths = Paths.current()
    try:
        yield paths
    finally:
        with contextlib.suppress(SpacegrayError):
            Workstation.find(paths, NAME).stop(timeout_seconds=0)
        if before is None:
            del os.environ["SPACEGRAY_HOME"]
        else:
            os.environ["SPACEGRAY_HOME"] = before
        shutil.rmtree(home, ignore_errors=True)
