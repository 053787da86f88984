"""Confining a process of ours to what it needs: its files (Landlock), its calls (seccomp).

A process that was taken over (QEMU by its guest, the console by a page) is still the same user.
What keeps it from the chip and from everything else of that user's is here. None of it can be
undone, and all of it holds for whatever the process starts.
"""

from dataclasses import dataclass
from pathlib import Path

from spacegray import landlock, seccomp


@dataclass(frozen=True)
class Reach:
    """What a confined process still has beside its descriptors.

    Folders and files to `read`, and to `write` too; address families of `sockets` that it may
    make; whether it may start `processes` and change `modes` of files.
    """

    read: tuple[Path, ...] = ()
    write: tuple[Path, ...] = ()
    sockets: tuple[int, ...] = ()
    processes: bool = False
    modes: bool = False


def confine(reach: Reach) -> None:
    """Confine the calling process, for good, to `reach`; paths that do not exist are left out.

    Call it while there is one thread. Raises OSError when the kernel refuses; a kernel without
    Landlock does not (`doctor` reports it).
    """
    landlock.restrict(reach.read, reach.write)
    seccomp.restrict(families=reach.sockets, processes=reach.processes, modes=reach.modes)
