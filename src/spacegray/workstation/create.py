"""Making a workstation: its system, its chip, its disk, and the one restored onto the other.

The long part, building the system, touches only the cache. The rest takes seconds; it is
complete when `installed.json` stands, and until then it is marked as unfinished: what an
interrupted attempt left, the next one removes. Without that mark nothing is removed to make room:
it may be a good chip whose workstation's folder is not there just now.
"""

import shutil
import subprocess
import time
from pathlib import Path
from typing import Any, Final

import msgspec

from spacegray.boot.authority import embedded
from spacegray.chip import launch as chips
from spacegray.errors import SpacegrayError
from spacegray.files import locked, make_private, sync_folder, write_atomically
from spacegray.paths import Paths, Slot, WorkstationPaths
from spacegray.progress import Progress
from spacegray.spec import Seal, Spec, dump, load
from spacegray.system import layout
from spacegray.system.build import SystemImage, build
from spacegray.workstation import known, ssh
from spacegray.workstation.install import System, install

BUSY_SECONDS = 1800.0
"""How long to wait for somebody else who creates the same workstation."""
TURN_SECONDS = 1.0
BESIDE: Final = ("new", "old")
"""State folders beside a chip's own, while another chip takes its place."""


class Installed(msgspec.Struct, kw_only=True, frozen=True):
    """What was put onto the disk; its file is the proof that creation was completed.

    No more than a note: what may start, the chip's tickets say.
    """

    ecid: str
    edition: str
    slot: Slot = "a"
    """The slot in use, as of the last start or installation."""
    systems: dict[Slot, System] = {}
    """What was put into each slot last."""
    disk_bytes: int
    empty: bool = False
    """The disk was erased, or is being imported: there is nothing to start on it."""
    other: bool = False
    """What is on the disk was laid out by another system than ours."""
    partitions: list[dict[str, Any]] = []

    @property
    def root_hash(self) -> str:
        """The root of the seal over the system in use; empty where none is known."""
        return self.systems[self.slot].root_hash if self.slot in self.systems else ""

    @property
    def kernel(self) -> str:
        """The release of the kernel in use; empty where none is known."""
        return self.systems[self.slot].kernel if self.slot in self.systems else ""


def installed(at: WorkstationPaths) -> Installed | None:
    """What is on the disk; None when there is no complete workstation."""
    try:
        return msgspec.json.decode(at.installed.read_bytes(), type=Installed)
    except (OSError, msgspec.DecodeError):
        return None


def note_empty(
    at: WorkstationPaths, record: Installed, *, empty: bool, other: bool | None = None
) -> None:
    """Remember, durably, whether there is anything on the disk, and whether it is another's.

    `record` is what was noted when somebody looked; all else stays as it is noted now.
    """
    record = installed(at) or record
    kept = record.other if other is None else other
    _note(at, msgspec.structs.replace(record, empty=empty, other=kept))


def note_chip(at: WorkstationPaths, ecid: str) -> None:
    """Remember, durably, that this is the chip now."""
    record = installed(at)
    if record is not None and record.ecid != ecid:
        _note(at, msgspec.structs.replace(record, ecid=ecid))


def note_slot(at: WorkstationPaths, slot: Slot) -> None:
    """Remember which slot came into use."""
    record = installed(at)
    if record is not None and record.slot != slot:
        _note(at, msgspec.structs.replace(record, slot=slot))


def note_system(
    at: WorkstationPaths, slot: Slot, system: System, *, in_use: bool, ecid: str | None = None
) -> None:
    """Remember what was put into a slot, and with `in_use` that this is the one; `ecid`: whose."""
    record = installed(at)
    if record is not None:
        changed = msgspec.structs.replace(
            record,
            ecid=ecid or record.ecid,
            slot=slot if in_use else record.slot,
            systems={**record.systems, slot: system},
        )
        _note(at, changed)


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
                at.unfinished.unlink(missing_ok=True)
                return False
            if held:
                if (damaged := damage(at)) is not None:
                    raise damaged
                system = build(spec.edition, mirror=mirror, cache=paths.cache, progress=progress)
                remove(at)
                try:
                    _create(paths, at, spec, system, password_hash, passphrase, progress)
                except BaseException:
                    remove(at)
                    raise
                return True
        if not waiting:
            progress.note(f"somebody else is creating {name}; waiting for them")
            waiting = True
        if time.monotonic() > deadline:
            raise SpacegrayError(f"creating {name}", "somebody else is at it", "try again later")


def remains(at: WorkstationPaths) -> bool:
    """Whether there is something of a workstation, complete or not: of its chip, or of its disk."""
    found = (each for folder in (at.state_folder, at.folder) for each in _entries(folder))
    return any(found)


def damage(at: WorkstationPaths) -> SpacegrayError | None:
    """What is wrong with a workstation of which there is something of value, but no whole note."""
    if at.unfinished.exists() or not remains(at):
        return None
    what = "is damaged" if at.installed.exists() else "is not there"
    return SpacegrayError(
        f"looking for the workstation {at.name!r}",
        f"{at.installed} {what}",
        f"put {at.folder} and {at.state_folder} back as they were; `delete {at.name}` removes what "
        "is left, and then nobody reads that disk again",
    )


def remove(at: WorkstationPaths) -> bool:
    """Remove all of a workstation, the proof that it was complete first, then what its chip has.

    Returns whether the chip is destroyed; if not, something of it may be left in a TPM.
    """
    if at.state_folder.is_dir():
        _mark_unfinished(at)
    at.installed.unlink(missing_ok=True)
    seal = seal_of(at)
    destroyed = destroy_chip(at, seal)
    # Left there by the exchange of a chip that was cut off.
    besides = [at.beside(word) for word in BESIDE if at.beside(word).state_folder.exists()]
    for each in besides:
        destroy_chip(each, known.read(each).seal or seal)
    for folder in (at.folder, *(each.state_folder for each in besides), at.state_folder):
        if folder.exists():
            try:
                shutil.rmtree(folder)
            except OSError as error:
                raise SpacegrayError(
                    f"removing {folder}", error.strerror or str(error), "remove it by hand"
                ) from None
    return destroyed


def _mark_unfinished(at: WorkstationPaths) -> None:
    write_atomically(at.unfinished, b"")


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


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


def finish(at: WorkstationPaths, ecid: str, spec: Spec, slot: Slot, system: System) -> None:
    """Note, last of all and durably, what is on a new disk."""
    record = Installed(
        ecid=ecid,
        edition=spec.edition,
        slot=slot,
        systems={slot: system},
        disk_bytes=spec.ssd_bytes,
        partitions=[
            {"number": p.number, "name": p.name, "start_bytes": p.start, "size_bytes": p.size}
            for p in layout.partitions(spec.ssd_bytes)
        ],
    )
    for folder in (at.folder, at.state_folder):
        sync_folder(folder)
    _note(at, record)


def _note(at: WorkstationPaths, record: Installed) -> None:
    write_atomically(at.installed, msgspec.json.encode(record))


def seal_of(at: WorkstationPaths) -> Seal:
    """What the chip's keys are sealed with, as far as its folders say."""
    if (noted := known.read(at).seal) is not None:
        return noted
    try:
        return load(at.spec).seal
    except SpacegrayError:
        return Spec().seal


def _create(
    paths: Paths,
    at: WorkstationPaths,
    spec: Spec,
    system: SystemImage,
    password_hash: str,
    passphrase: int | None,
    progress: Progress,
) -> None:
    make_private(at.state_folder)
    _mark_unfinished(at)
    for folder in (at.folder, at.logs):
        make_private(folder)
    write_atomically(at.spec, dump(spec).encode())
    write_provision(at, spec, password_hash)
    with (
        embedded(paths.authority) as authority,
        chips.launch(at, new=True, seal=spec.seal, log=at.logs / "chip.log") as chip,
        chip.client() as mailbox,
    ):
        identity = authority.identity()
        ecid = mailbox.birth(
            authority=identity.ticket_key,
            vendor=identity.vendor,
            seal=spec.seal,
            passphrase=passphrase,
        )
        known.note(at, mailbox.show())
        progress.note(f"the chip is born, ECID {ecid}")
        mailbox.create_disk(spec.ssd_bytes)
        placed = install(
            at, spec, system, mailbox, authority, slot="a", lay="disk", progress=progress
        )
        known.note(at, mailbox.show())
    finish(at, ecid, spec, "a", placed)
    at.unfinished.unlink()
