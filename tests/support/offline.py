"""The disk of a workstation that is off, through its own chip: what a thief with the chip, or a
tool in the owner's hands, could write to it."""

from collections.abc import Iterator
from contextlib import contextmanager

from spacegray.nbd import NbdClient
from tests.conftest import Cli
from tests.support.chip import plain_disk


@contextmanager
def disk(cli: Cli, name: str = "pro") -> Iterator[NbdClient]:
    """The plain disk, to read and write."""
    with plain_disk(cli.paths.workstation(name)) as client:
        yield client


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
