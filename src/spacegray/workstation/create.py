"""Making a workstation: its system, its chip, its disk, and the one restored onto the other.

The long part, building the system, touches only the cache. The rest takes seconds; it is
complete when `installed.json` stands, and whatever an interrupted attempt left before that
holds nothing of value and is removed by the next.
"""

import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from spacegray import host
from spacegray.chip import launch as chips
from spacegray.chip.client import ChipClient
from spacegray.chip.images import copy_firmware
from spacegray.errors import SpacegrayError
from spacegray.files import locked, make_private, sync_folder, write_atomically
from spacegray.nbd import NbdClient
from spacegray.paths import Paths, WorkstationPaths
from spacegray.progress import Progress
from spacegray.spec import Seal, Spec, dump, load
from spacegray.system import layout
from spacegray.system.build import SystemImage, build
from spacegray.workstation import known, ssh

BUSY_SECONDS = 1800.0
"""How long to wait for somebody else who creates the same workstation."""
TURN_SECONDS = 1.0
CHUNK_BYTES = 1 << 20


class Installed(msgspec.Struct, kw_only=True, frozen=True):
    """What was restored onto the disk; its file is the proof that creation was completed."""

    ecid: str
    edition: str
    root_hash: str
    kernel: str
    disk_bytes: int
    empty: bool = False
    """The disk was erased, or is being imported: there is nothing to start on it."""
    partitions: list[dict[str, Any]]


def installed(at: WorkstationPaths) -> Installed | None:
    """What is on the disk; None when there is no complete workstation."""
    try:
        return msgspec.json.decode(at.installed.read_bytes(), type=Installed)
    except (OSError, msgspec.DecodeError):
        return None


def note_empty(at: WorkstationPaths, record: Installed, *, empty: bool) -> None:
    """Remember, durably, whether there is anything on the disk."""
    changed = msgspec.structs.replace(record, empty=empty)
    write_atomically(at.installed, msgspec.json.encode(changed))


def create(
    paths: Paths,
    name: str,
    spec: Spec,
    *,
    mirror: str,
    password_hash: str,
    progress: Progress,
    passphrase: int | None = None,
) -> bool:
    """Create the workstation `name`; returns False where it was created meanwhile.

    `password_hash` is the first user's, in crypt(5) form; `passphrase` a descriptor of that one,
    if the chip is to be sealed so. Raises SpacegrayError, and then leaves nothing that the next
    attempt stumbles over.
    """
    at = paths.workstation(name)
    make_private(at.run)
    deadline = time.monotonic() + BUSY_SECONDS
    waiting = False
    while True:
        with locked(at.lock, timeout_seconds=TURN_SECONDS if waiting else 0) as held:
            # Whoever held the lock may have created it and be running it by now.
            if installed(at) is not None:
                return False
            if held:
                system = build(spec.edition, mirror=mirror, cache=paths.cache, progress=progress)
                remove(at)
                try:
                    _create(at, spec, system, password_hash, passphrase, progress)
                except BaseException:
                    remove(at)
                    raise
                return True
        if not waiting:
            progress.note(f"somebody else is creating {name}; waiting for them")
            waiting = True
        if time.monotonic() > deadline:
            raise SpacegrayError(f"creating {name}", "somebody else is at it", "try again later")


def remove(at: WorkstationPaths) -> bool:
    """Remove all of a workstation, the proof that it was complete first, then what its chip has.

    Returns whether the chip is destroyed; if not, something of it may be left in a TPM.
    """
    at.installed.unlink(missing_ok=True)
    destroyed = destroy_chip(at, known.read(at).seal or _ordered_seal(at))
    for folder in (at.folder, at.state_folder):
        if folder.exists():
            try:
                shutil.rmtree(folder)
            except OSError as error:
                raise SpacegrayError(
                    f"removing {folder}", error.strerror, "remove it by hand"
                ) from None
    return destroyed


def destroy_chip(at: WorkstationPaths, seal: Seal) -> bool:
    """Have the chip destroy what it has, also in the host's TPM; returns whether that was done."""
    if not at.state_folder.is_dir():
        return True
    try:
        with chips.launch(at, new=True, seal=seal) as chip, chip.client() as mailbox:
            mailbox.destroy()
    except SpacegrayError:
        return False
    return True


def hash_password(password: int) -> str:
    """The crypt(5) hash of the password behind a descriptor, by openssl (SHA-512, random salt)."""
    try:
        done = subprocess.run(
            ["openssl", "passwd", "-6", "-stdin"],
            stdin=password,
            capture_output=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError) as error:
        raise SpacegrayError("hashing the password", error, "install openssl") from None
    return done.stdout.decode().strip()


def write_provision(at: WorkstationPaths, spec: Spec, password_hash: str | None) -> None:
    """Have the next start tell the guest its first user, who keeps the password without a hash.

    The owner's SSH key is made where there is none.
    """
    provision = {"user": spec.user, "authorized_key": ssh.make_key(at), "hostname": at.name}
    if password_hash is not None:
        provision["password_hash"] = password_hash
    text = "".join(f"{key}={value}\n" for key, value in provision.items())
    write_atomically(at.provision, text.encode())


def lay(spec: Spec, system: SystemImage, chip: ChipClient, progress: Progress) -> None:
    """Write the system, its kernel image signed by the chip, onto the chip's disk."""
    kernel = chip.sign_bytes(system.kernel.read_bytes())
    extents = layout.extents(system, kernel, spec.ssd_bytes)
    total, done = sum(extent.size for extent in extents), 0
    with NbdClient(chip.open_disk("nbd")) as disk:
        for extent in extents:
            for offset, data in _chunks(extent):
                disk.write(offset, data)
                done += len(data)
                progress.step("restoring the system onto the disk", done, total)
        disk.flush()
    chip.close_disk()


def finish(at: WorkstationPaths, ecid: str, spec: Spec, system: SystemImage) -> None:
    """Note, last of all and durably, what is on the disk."""
    record = Installed(
        ecid=ecid,
        edition=spec.edition,
        root_hash=system.root_hash,
        kernel=system.manifest.kernel_release,
        disk_bytes=spec.ssd_bytes,
        partitions=[
            {"number": p.number, "name": p.name, "start_bytes": p.start, "size_bytes": p.size}
            for p in layout.partitions(spec.ssd_bytes)
        ],
    )
    for folder in (at.folder, at.state_folder):
        sync_folder(folder)
    write_atomically(at.installed, msgspec.json.encode(record))


def _ordered_seal(at: WorkstationPaths) -> Seal:
    try:
        return load(at.spec).seal
    except SpacegrayError:
        return Spec().seal


def _create(
    at: WorkstationPaths,
    spec: Spec,
    system: SystemImage,
    password_hash: str,
    passphrase: int | None,
    progress: Progress,
) -> None:
    for folder in (at.folder, at.state_folder, at.logs):
        make_private(folder)
    write_atomically(at.spec, dump(spec).encode())
    ovmf = host.ovmf()
    copy_firmware(ovmf, at.folder)
    write_provision(at, spec, password_hash)
    with (
        chips.launch(at, new=True, seal=spec.seal, log=at.logs / "chip.log") as chip,
        chip.client() as mailbox,
    ):
        ecid = mailbox.birth(ovmf.source(), spec.seal, passphrase)
        known.note(at, mailbox.show())
        progress.note(f"the chip is born, ECID {ecid}")
        mailbox.create_disk(spec.ssd_bytes)
        lay(spec, system, mailbox, progress)
    finish(at, ecid, spec, system)


def _chunks(extent: layout.Extent) -> Iterator[tuple[int, bytes]]:
    if isinstance(extent.source, bytes):
        yield extent.offset, extent.source
        return
    with Path(extent.source).open("rb") as file:
        offset = extent.offset
        while data := file.read(CHUNK_BYTES):
            yield offset, data
            offset += len(data)
