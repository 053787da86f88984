"""The disk of a workstation that is off, through its own chip: what a thief with the chip, or a
tool in the owner's hands, could write to it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from spacegray.chip import launch
from spacegray.nbd import NbdClient
from tests.conftest import Cli


@contextmanager
def disk(cli: Cli, name: str = "pro") -> Iterator[NbdClient]:
    """The plain disk, to read and write."""
    at = cli.paths.workstation(name)
    with launch.launch(at) as chip, chip.client() as mailbox:
        with NbdClient(mailbox.open_disk("nbd")) as client:
            yield client
            client.flush()
        mailbox.close_disk()


def partition(cli: Cli, wanted: str, name: str = "pro") -> tuple[int, int]:
    """Where a partition begins and how long it is, in bytes."""
    for entry in cli.show(name)["disk"]["partitions"]:
        if entry["name"] == wanted:
            return int(entry["start_bytes"]), int(entry["size_bytes"])
    raise AssertionError(f"no partition {wanted}")


def flip(client: NbdClient, offset: int) -> None:
    """Change one bit of one byte."""
    byte = client.read(offset, 1)
    client.write(offset, bytes([byte[0] ^ 1]))


def written(cli: Cli, client: NbdClient, name: str = "pro") -> Iterator[bytes]:
    """All that was ever written to the plain disk, found by the holes in the encrypted file."""
    container = cli.paths.workstation(name).folder / "flash.luks"
    with container.open("rb") as file:
        end = os.fstat(file.fileno()).st_size
        position = header = end - client.size_bytes
        while position < end:
            try:
                position = os.lseek(file.fileno(), position, os.SEEK_DATA)
            except OSError:
                return
            hole = os.lseek(file.fileno(), position, os.SEEK_HOLE)
            yield client.read(position - header, hole - position)
            position = hole
