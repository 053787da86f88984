"""A workstation for the repair bench with a real chip and a small real disk, and no machine.

It is complete for all who look for one: a spec, a note of what is installed, a chip, a disk with
something on it. Nothing of it would boot.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

from spacegray.chip.client import Provider
from spacegray.nbd import NbdClient
from spacegray.paths import Paths, WorkstationPaths
from spacegray.service import history, record
from spacegray.service.history import History
from spacegray.service.jobs import bench
from spacegray.service.record import Entry
from spacegray.spec import Seal, Spec, dump, load
from spacegray.workstation import create, hold, jobs, under_way
from spacegray.workstation.api import Workstation
from spacegray.workstation.install import System
from spacegray.workstation.unlock import Nobody
from tests.support import ssd
from tests.support.authority import EPOCH, TestAuthority
from tests.support.chip import SYSTEM, born, copy, workstation
from tests.support.work_orders import work_order

SPEC = Spec(edition="tiny")
FILLED_BLOCKS = 64
GENERATION = 1


@dataclass(frozen=True)
class Bench:
    """A workstation in its home."""

    home: Path

    @property
    def paths(self) -> Paths:
        """All of the home."""
        return Paths.current({"SPACEGRAY_HOME": str(self.home)})

    @property
    def at(self) -> WorkstationPaths:
        """The workstation's own."""
        return self.paths.workstation("pro")

    @property
    def workstation(self) -> Workstation:
        """It, as the faces have it."""
        return Workstation.find(self.paths, "pro")

    @property
    def spec(self) -> Spec:
        """What the machine is now."""
        return load(self.at.spec)

    @property
    def ecid(self) -> int:
        """Its chip's number, as it was noted down."""
        return int(self.workstation.installed.ecid, 16)

    def do(self, text: str, order: bytes = b"") -> Entry:
        """Have a job done: with a work order, else by the owner."""
        return bench.perform(self.workstation, jobs.parse(text), Nobody(), order=order)

    def order(self, signer: TestAuthority, text: str, **changed: object) -> bytes:
        """A good work order for this chip, but for what is `changed`."""
        return work_order(signer, self.ecid, text, **changed)

    def history(self) -> History:
        """Its history."""
        return history.history(self.workstation)

    def entries(self) -> int:
        """How many entries the chip has signed; what is under way is settled before."""
        with hold.chip(self.at, "counting", "being counted", wants="chip") as chip:
            return chip.mailbox.service().entries

    def on_file(self) -> list[bytes]:
        """The entries in the record's file."""
        entries, whole = record.split(under_way.content(self.at))
        assert whole
        return entries

    def trust(self, signer: TestAuthority, name: str = "the shop") -> None:
        """Have the owner trust a provider."""
        with hold.chip(self.at, "trusting", "being changed", wants="chip") as chip:
            chip.mailbox.trust_provider(name, signer.ticket_key)

    def distrust(self, provider: Provider) -> None:
        """Have the owner trust it no more."""
        with hold.chip(self.at, "distrusting", "being changed", wants="chip") as chip:
            chip.mailbox.distrust_provider(bytes.fromhex(provider.fingerprint))

    def providers(self) -> tuple[Provider, ...]:
        """Those that are trusted."""
        with hold.chip(self.at, "listing", "being looked at", wants="chip") as chip:
            return chip.mailbox.service().providers

    def holds_its_data(self) -> bool:
        """Whether the disk opens and has what was written; what is under way is settled before."""
        with hold.chip(self.at, "reading", "being read", wants="served") as chip:
            with NbdClient(chip.mailbox.open_disk("nbd")) as disk:
                found = [ssd.read(disk, block) for block in range(FILLED_BLOCKS)]
            chip.mailbox.close_disk()
        return found == [ssd.content(GENERATION, block) for block in range(FILLED_BLOCKS)]

    def copied(self, to: Path) -> "Bench":
        """The whole home copied to the new folder `to`."""
        copy(self.home, to)
        return Bench(to)

    def remove(self) -> None:
        """Remove the whole home."""
        shutil.rmtree(self.home)


def made(home: Path, *, seal: Seal = "keyfile") -> Bench:
    """A new one in the new folder `home`; SPACEGRAY_TPM says where the TPM is for that seal."""
    home.mkdir()
    at = workstation(home)
    at.spec.write_text(dump(SPEC))
    with born(at, seal=seal) as chip, chip.client() as mailbox:
        mailbox.create_disk(ssd.CAPACITY_BYTES)
        with NbdClient(mailbox.open_disk("nbd")) as disk:
            ssd.fill(disk, GENERATION, 0, FILLED_BLOCKS)
        mailbox.close_disk()
        ecid = mailbox.show()["ecid"]
    system = System(edition="tiny", root_hash=SYSTEM.hex(), kernel="6.12", epoch=EPOCH)
    create.finish(at, ecid, SPEC, "a", system)
    return Bench(home)
