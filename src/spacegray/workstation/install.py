"""The one way by which a system gets into a slot: signed, described by a ticket, written, accepted.

In this order: the files beside the disk, the request for a ticket over what the chip measures,
the disk, and last of all the ticket, which is what makes the slot count. Whatever is cut off
before that leaves the slot in use as it was: nothing of it was touched.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal

import msgspec

from spacegray import authenticode, host
from spacegray.boot import examine
from spacegray.boot.authority import Authority
from spacegray.chip.client import ChipClient
from spacegray.chip.images import copy_firmware
from spacegray.chip.refusal import ChipRefusalError
from spacegray.errors import SpacegrayError
from spacegray.files import make_private, sync_folder, write_atomically
from spacegray.nbd import NbdClient
from spacegray.paths import Slot, WorkstationPaths
from spacegray.progress import Progress
from spacegray.spec import Spec
from spacegray.system import layout
from spacegray.system.image import SystemImage

CHUNK_BYTES: Final = 1 << 20

Lay = Literal["disk", "slot", "repair", "nothing"]
"""What is written to the disk: all of a new one; one slot of one whose table is as we made it; one
slot and the table anew, the data kept; nothing, where it is another system's.
"""


class System(msgspec.Struct, kw_only=True, frozen=True):
    """A system in a slot."""

    edition: str
    root_hash: str
    kernel: str
    """The kernel's release."""
    epoch: int
    """Its security epoch."""


def install(
    at: WorkstationPaths,
    spec: Spec,
    system: SystemImage,
    mailbox: ChipClient,
    authority: Authority,
    *,
    slot: Slot,
    tries: int = 0,
    lay: Lay,
    progress: Progress,
) -> System:
    """Put `system` into `slot`, which is not the one in use; the disk is unlocked and not open.

    Without `tries` it is in use from then on; else it is tried that often at the next starts, and
    comes into use once it was up. Raises SpacegrayError, and then what was in use still is.
    """
    doing = f"installing the system {system.edition}"
    kernel = _signed(system.kernel, authority, doing)
    recovery = _signed(system.recovery, authority, doing)
    if mailbox.show()["trying"]:
        # What is being tried lies where this goes: half of each must never be.
        mailbox.give_up()
    ovmf = host.ovmf()
    files = at.slot(slot)
    make_private(files.folder)
    sync_folder(at.folder)
    copy_firmware(ovmf, files.folder)
    write_atomically(files.recovery, layout.recovery_medium(recovery))
    try:
        with _open_file(kernel) as first, _open_file(recovery) as second:
            request = mailbox.request_ticket(
                first,
                second,
                slot=slot,
                product=system.edition,
                epoch=system.manifest.epoch,
                system=bytes.fromhex(system.root_hash),
            )
        place = layout.esp_place(slot, spec.ssd_bytes)
    except ValueError as error:
        raise SpacegrayError(doing, error, "see what `doctor` says") from None
    ticket = authority.sign_ticket(request)
    if lay != "nothing":
        _write(system, kernel, spec, mailbox, slot, lay, progress)
    esp: dict[str, int | bytes] = {
        "number": place.number,
        "start_sector": place.start_sector,
        "sectors": place.sectors,
        "guid": place.guid,
    }
    try:
        mailbox.accept_ticket(slot, ticket, source=ovmf.source(), esp=esp, tries=tries)
    except ChipRefusalError as refusal:
        raise _explained(refusal, at) from None
    return System(
        edition=system.edition,
        root_hash=system.root_hash,
        kernel=system.manifest.kernel_release,
        epoch=system.manifest.epoch,
    )


def forget(mailbox: ChipClient, slot: Slot, disk_bytes: int) -> None:
    """Have no start take the system volume in `slot` any more: its seal is made void.

    A start takes whichever volume bears its seal's hash: after a reinstallation of the same
    system that must not be the one for whose damage it was done.
    """
    _, _, verity = layout.slot_partitions(slot, disk_bytes)
    with opened(mailbox) as disk:
        disk.write(verity.start, bytes(len(layout.DATA_MARKER)))
        disk.flush()


def is_ours(mailbox: ChipClient) -> bool:
    """Whether the disk is one that was laid out here, by its partition table."""
    with opened(mailbox) as disk:
        return examine.disk_identity(disk.read) == layout.DISK_ID


def is_anothers(mailbox: ChipClient) -> bool:
    """Whether another system has a partition table on the disk; without any it is nobody's."""
    with opened(mailbox) as disk:
        return examine.is_anothers(disk.read, layout.DISK_ID)


@contextlib.contextmanager
def opened(mailbox: ChipClient) -> Iterator[NbdClient]:
    """The plain disk, to read and write; closed at the end."""
    try:
        with NbdClient(mailbox.open_disk("nbd")) as disk:
            yield disk
    except BaseException:
        with contextlib.suppress(SpacegrayError):
            mailbox.close_disk()
        raise
    mailbox.close_disk()


def _write(
    system: SystemImage,
    kernel: bytes,
    spec: Spec,
    mailbox: ChipClient,
    slot: Slot,
    lay: Lay,
    progress: Progress,
) -> None:
    """Write what belongs into the slot, and what else `lay` says, durably."""
    extents = layout.extents(system, kernel, spec.ssd_bytes, slot, lay == "disk")
    head, tail = layout.partition_table(spec.ssd_bytes)
    with opened(mailbox) as disk:
        if lay != "disk":
            _check_table(disk, head, lay)
        if lay == "repair":
            at_end = layout.Extent(disk.size_bytes - len(tail), tail)
            extents = [layout.Extent(0, head), *extents, at_end]
        total, done = sum(extent.size for extent in extents), 0
        for extent in extents:
            for offset, data in _chunks(extent):
                disk.write(offset, data)
                done += len(data)
                progress.step("restoring the system onto the disk", done, total)
        disk.flush()


def _check_table(disk: NbdClient, head: bytes, lay: Lay) -> None:
    """Nothing of what somebody else laid out is written over."""
    doing = "installing a system beside what is on the disk"
    if examine.is_anothers(disk.read, layout.DISK_ID):
        raise SpacegrayError(
            doing,
            "its partition table is another system's",
            "`restore` erases the disk and makes a new system",
        )
    if lay == "slot" and disk.read(0, len(head)) != head:
        raise SpacegrayError(
            doing,
            "its partition table is not as it was made",
            "`reinstall` makes it anew and keeps the data, where partitions were not moved",
        )


def _explained(refusal: ChipRefusalError, at: WorkstationPaths) -> ChipRefusalError:
    """The same with the way out where the authority is not the one that the chip trusts."""
    if refusal.code != "ticket":
        return refusal
    return ChipRefusalError(
        refusal.doing,
        "it was signed by another authority than the one this chip trusts",
        f"put that authority's folder back from a backup, or `restore {at.name}`, which erases "
        "the disk and trusts the one of this host",
        code=refusal.code,
        link=refusal.link,
    )


def _signed(path: Path, authority: Authority, doing: str) -> bytes:
    """The image in a file, with the authority's signature."""
    try:
        image = authenticode.parse(path.read_bytes())
    except (OSError, authenticode.NotSignableError) as error:
        raise SpacegrayError(doing, f"{path.name}: {error}", "remove the cache's image") from None
    return image.signed(authority.sign_image(image.digest()))


@contextlib.contextmanager
def _open_file(content: bytes) -> Iterator[int]:
    """A descriptor of a file in memory with this content."""
    descriptor = os.memfd_create("image", os.MFD_CLOEXEC)
    with open(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        yield descriptor


def _chunks(extent: layout.Extent) -> Iterator[tuple[int, bytes]]:
    if isinstance(extent.source, bytes):
        yield extent.offset, extent.source
        return
    with Path(extent.source).open("rb") as file:
        offset = extent.offset
        while data := file.read(CHUNK_BYTES):
            yield offset, data
            offset += len(data)
