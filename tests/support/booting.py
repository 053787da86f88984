"""A real chip with a system in its slot, and machines that it starts: what does start, seen.

No supervisor is above them; each is watched until its firmware, a loader or a kernel has said
what became of it, which is sooner than a system is up.
"""

import contextlib
import os
import socket
import tempfile
from base64 import b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from spacegray import authenticode, host
from spacegray.chip import store
from spacegray.chip.client import ChipClient, Start
from spacegray.errors import SpacegrayError
from spacegray.links import Target
from spacegray.nbd import NbdClient
from spacegray.paths import WorkstationPaths
from spacegray.system import layout
from tests.support import media
from tests.support.authority import EPOCH, PRODUCT, TestAuthority, the_authority
from tests.support.chip import born, image_file, workstation
from tests.support.powered import Powered, powered
from tests.support.vaultd import secret

DISK_BYTES = layout.SMALLEST_DISK_BYTES
PASSWORD = b"correct-horse-7"
SYSTEM = bytes(range(32))
CHUNK_BYTES = 1 << 20
OURS_STARTED = b"EFI stub: "
"""What the kernel in our image says, on behalf of the firmware still."""
REFUSED = (b"BdsDxe: failed to load", b"BdsDxe: failed to start", b"BdsDxe: No bootable option")
REFUSED_BY_SHIM = b"Security Policy Violation"

Policy = Literal["full", "medium", "none"]
Verdict = Literal["starts", "refused by the firmware", "refused by shim", "refused by the chip"]


def signed(image: bytes, authority: TestAuthority | None = None) -> bytes:
    """A kernel image with an authority's signature."""
    unsigned = authenticode.parse(image)
    return unsigned.signed((authority or the_authority()).sign_image(unsigned.digest()))


@dataclass
class Bench:
    """A workstation's chip and what is done with it; its owner's password is PASSWORD."""

    at: WorkstationPaths
    mailbox: ChipClient

    def install(self, kernel: bytes, recovery: bytes) -> None:
        """Put a system into slot a: its files and its ticket; nothing is written to the disk."""
        self.at.slot("a").recovery.write_bytes(layout.recovery_medium(recovery))
        with image_file(kernel) as one, image_file(recovery) as two:
            request = self.mailbox.request_ticket(
                one, two, slot="a", product=PRODUCT, epoch=EPOCH, system=SYSTEM
            )
        place = layout.esp_place("a", DISK_BYTES)
        self.mailbox.accept_ticket(
            "a",
            the_authority().sign_ticket(request),
            source=host.ovmf().source(),
            esp={
                "number": place.number,
                "start_sector": place.start_sector,
                "sectors": place.sectors,
                "guid": place.guid,
            },
        )

    @contextlib.contextmanager
    def disk(self) -> Iterator[NbdClient]:
        """The plain disk of the machine that is off."""
        with NbdClient(self.mailbox.open_disk("nbd")) as disk:
            yield disk
            disk.flush()
        self.mailbox.close_disk()

    def lay(self, kernel: bytes) -> None:
        """Lay the disk out as ours, with this kernel image on slot a's boot partition."""
        esp, _, _ = layout.slot_partitions("a", DISK_BYTES)
        head, tail = layout.partition_table(DISK_BYTES)
        with self.disk() as disk:
            disk.write(0, head)
            disk.write(DISK_BYTES - len(tail), tail)
            _write(disk, esp.start, layout.boot_file_system(kernel, esp.size))

    def copy_onto_disk(self, image: Path) -> None:
        """Write another disk's image over the beginning of this one."""
        with self.disk() as disk:
            _write(disk, 0, image.read_bytes())

    def choose(self, **settings: str) -> None:
        """Change what may start, as the recovery system does: `policy`, `external_boot` …"""
        words = [f"{name}={value}" for name, value in settings.items()]
        with self.mailbox.prepare_start("recovery") as start:
            port = socket.socket(fileno=os.dup(start.port))
            with port, port.makefile("rw", newline="\n") as lines:
                session = _exchange(lines, "hello").split()[1]
                proof = b64encode(PASSWORD).decode()
                said = _exchange(lines, f"{session} 1 authenticate password {proof}")
                assert said.startswith("1 ok"), said
                said = _exchange(lines, f"{session} 2 set {' '.join(words)}")
                assert said.startswith("2 ok"), said
        self.mailbox.close_disk()

    def leave(self, change: Callable[[list[store.Variable]], list[store.Variable]]) -> None:
        """Start our system and switch off at once, with its variables changed meanwhile."""
        with self.mailbox.prepare_start() as start:
            content = os.pread(start.variables, os.fstat(start.variables).st_size, 0)
            os.pwrite(start.variables, store.write(content, change(store.read(content))), 0)
        self.mailbox.close_disk()

    @contextlib.contextmanager
    def started(self, target: Target = "main", external: Path | None = None) -> Iterator[Powered]:
        """A machine that this chip has let start; raises SpacegrayError where it does not."""
        with self.mailbox.prepare_start(target) as start, contextlib.ExitStack() as opened:
            try:
                yield opened.enter_context(_powered(start, external, opened))
            finally:
                opened.close()
                start.close()
                self.mailbox.close_disk()

    def verdict(
        self,
        target: Target = "main",
        external: Path | None = None,
        *,
        success: bytes = OURS_STARTED,
    ) -> Verdict:
        """What becomes of a start; `success` is what is said by what has started."""
        try:
            with self.started(target, external) as machine:
                said = machine.wait_for(success, *REFUSED, REFUSED_BY_SHIM)
        except SpacegrayError as refusal:
            # The chip's own link for an external disk, and for another recovery system.
            if getattr(refusal, "code", "") != "external_boot" and refusal.link != "kernel":
                raise
            return "refused by the chip"
        if said == success:
            return "starts"
        assert said, "it ended without a word"
        return "refused by shim" if said == REFUSED_BY_SHIM else "refused by the firmware"


@contextlib.contextmanager
def bench(kernel: bytes, recovery: bytes) -> Iterator[Bench]:
    """A new workstation whose system consists of these two signed images; removed at the end."""
    with tempfile.TemporaryDirectory(prefix="spacegray-bench-") as home:
        at = workstation(Path(home))
        with born(at, system=False) as chip, chip.client() as mailbox:
            mailbox.create_disk(DISK_BYTES)
            with secret(PASSWORD) as given:
                mailbox.set_password(given)
            made = Bench(at, mailbox)
            made.install(kernel, recovery)
            yield made


@contextlib.contextmanager
def _powered(
    start: Start, external: Path | None, opened: contextlib.ExitStack
) -> Iterator[Powered]:
    stick = None if external is None else opened.enter_context(external.open("r+b")).fileno()
    with powered(
        firmware=start.firmware,
        variables=start.variables,
        disk=_given(start.disk),
        medium=_given(start.medium),
        recovery_port=_given(start.port),
        external=stick,
    ) as machine:
        yield machine


def _given(descriptor: int) -> int | None:
    return None if descriptor < 0 else descriptor


def _write(disk: NbdClient, offset: int, content: bytes) -> None:
    for at in range(0, len(content), CHUNK_BYTES):
        piece = content[at : at + CHUNK_BYTES]
        disk.write(offset + at, piece + bytes(-len(piece) % media.SECTOR_BYTES))


def _exchange(lines: IO[str], line: str) -> str:
    lines.write(line + "\n")
    lines.flush()
    return lines.readline()
