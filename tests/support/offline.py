"""The disk of a workstation that is off, through its own chip: what a thief with the chip, or a
tool in the owner's hands, could write to it."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

from spacegray.nbd import NbdClient
from spacegray.paths import Slot
from spacegray.system import layout
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


def slot(cli: Cli, name: str = "pro") -> Slot:
    """The slot in use: earlier tests may have installed a system into either."""
    current = json.loads(cli("chip", "show", name, "--format", "json").stdout)["current"]
    return "b" if current == "b" else "a"


def of_the_slot(cli: Cli, wanted: str) -> int:
    """Where the `esp`, `system` or `verity` of the slot in use begins, in bytes."""
    start, _ = partition(cli, wanted if slot(cli) == "a" else f"{wanted}-b")
    return start


def device(cli: Cli, wanted: str) -> str:
    """What the guest calls that partition."""
    number = layout.SLOTS[slot(cli)][("esp", "system", "verity").index(wanted)]
    return f"/dev/vda{number}"


def flip(client: NbdClient, offset: int) -> None:
    """Change one bit of one byte."""
    byte = client.read(offset, 1)
    client.write(offset, bytes([byte[0] ^ 1]))
