"""A workstation with a chip under any seal and something on its disk, to be copied and put back."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from spacegray.chip.client import ChipClient
from spacegray.chip.launch import ChipProcess, launch
from spacegray.chip.messages import Seal
from spacegray.chip.refusal import ChipRefusalError
from spacegray.errors import SpacegrayError
from spacegray.nbd import NbdClient
from spacegray.paths import WorkstationPaths
from tests.support import ssd
from tests.support.chip import born, copy, workstation
from tests.support.tpm import EmulatedTpm, emulated_tpm
from tests.support.vaultd import secret

SEALS: tuple[Seal, ...] = ("keyfile", "passphrase", "tpm2")
PASSPHRASE = b"a passphrase of some length"
FILLED_BLOCKS = 64


@dataclass(frozen=True)
class Owned:
    """A workstation in its `home`, which is all that its owner has on the host's disk."""

    seal: Seal
    home: Path
    at: WorkstationPaths
    tpm: EmulatedTpm | None = field(default=None, compare=False)

    def copied(self, to: Path) -> "Owned":
        """The whole home copied to the new folder `to`; the TPM is the same one."""
        return replace(self, home=to, at=copy(self.home, to))

    @contextlib.contextmanager
    def chip(self, passphrase: bytes = PASSPHRASE) -> Iterator[ChipProcess]:
        """Its running chip, open."""
        socket = None if self.tpm is None else self.tpm.socket
        with launch(self.at, tpm=socket) as chip:
            if self.seal == "passphrase":
                with chip.client() as client, secret(passphrase) as given:
                    client.unseal(given)
            yield chip

    @contextlib.contextmanager
    def mailbox(self) -> Iterator[ChipClient]:
        """A connection to its chip, which is started for that."""
        with self.chip() as chip, chip.client() as client:
            yield client

    def generation(self) -> int:
        """What is on the disk when its chip opens it: all of it of one generation."""
        with self.mailbox() as client:
            found = on_disk(client)
            client.close_disk()
        return found

    def refusal(self) -> SpacegrayError:
        """How opening the disk is refused; it must be."""
        try:
            generation = self.generation()
        except SpacegrayError as error:
            return error
        raise AssertionError(f"it opened, with generation {generation}")

    def refused(self, *codes: str) -> None:
        """Opening the disk must be refused, with one of `codes`."""
        refusal = self.refusal()
        assert isinstance(refusal, ChipRefusalError), refusal
        assert refusal.code in codes, refusal

    def fill(self, generation: int) -> None:
        """Write all of the disk's part that is used."""
        with self.mailbox() as client:
            with NbdClient(client.open_disk("nbd")) as disk:
                ssd.fill(disk, generation, 0, FILLED_BLOCKS)
            client.close_disk()


def on_disk(client: ChipClient) -> int:
    """Open the disk and read it; returns its generation."""
    with NbdClient(client.open_disk("nbd")) as disk:
        blocks = [disk.read(n * ssd.BLOCK_BYTES, ssd.BLOCK_BYTES) for n in range(FILLED_BLOCKS)]
    for generation in range(10):
        if blocks == [ssd.content(generation, block) for block in range(FILLED_BLOCKS)]:
            return generation
    raise AssertionError(f"of no generation: {blocks[0][:40]!r}")


@contextlib.contextmanager
def owned(seal: Seal, home: Path) -> Iterator[Owned]:
    """A new one in the new folder `home`, with generation 1 on its disk."""
    home.mkdir()
    with contextlib.ExitStack() as stack:
        tpm = stack.enter_context(emulated_tpm()) if seal == "tpm2" else None
        it = Owned(seal, home, workstation(home), tpm)
        passphrase = PASSPHRASE if seal == "passphrase" else None
        socket = None if tpm is None else tpm.socket
        with (
            born(it.at, seal=seal, passphrase=passphrase, tpm=socket) as chip,
            chip.client() as client,
        ):
            client.create_disk(ssd.CAPACITY_BYTES)
        it.fill(1)
        yield it
