"""Attack: cut the power at any step of an update or a reinstallation.

Promise: the old system or the new one starts, never neither and never half of each: whatever the
chip would start then has its files beside the disk and its volumes on it, as its ticket says. The
process that installs is killed together with the chip before each thing it does; a vault killed at
each of its own system calls is in `test_tickets`. Nothing is booted: the chip's consent counts.
"""

import functools
import os
import random
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest

from spacegray.boot import examine
from spacegray.boot.authority import Authority
from spacegray.chip.client import ChipClient
from spacegray.chip.launch import launch
from spacegray.nbd import NbdClient
from spacegray.paths import SLOTS, Slot, WorkstationPaths
from spacegray.progress import Silent
from spacegray.spec import Spec
from spacegray.system import layout
from spacegray.system.image import SystemImage
from spacegray.workstation import install
from tests.support.authority import the_authority
from tests.support.chip import copy, workstation
from tests.support.cut import Steps, cut
from tests.support.systems import EPOCH, made

SPEC = Spec()
STEPS: Steps = (
    (os, "rename"),
    (ChipClient, "give_up"),
    (ChipClient, "request_ticket"),
    (ChipClient, "open_disk"),
    (ChipClient, "accept_ticket"),
    (NbdClient, "write"),
    (NbdClient, "flush"),
)
"""What changes something of the workstation, or makes it last."""


@dataclass(frozen=True)
class Owned:
    """A workstation in its home with the old system in slot a, and the images of others."""

    home: Path
    systems: dict[str, SystemImage]

    def name(self, root_hash: str) -> str:
        """The name of the system with this seal."""
        (found,) = (name for name, each in self.systems.items() if each.root_hash == root_hash)
        return found


@pytest.fixture(scope="module")
def owned(tmp_path_factory: pytest.TempPathFactory) -> Owned:
    folder = tmp_path_factory.mktemp("cut")
    home = folder / "home"
    home.mkdir()
    at = workstation(home)
    systems = {
        name: made(folder / name, random.Random(name), epoch=EPOCH + (name != "old"))
        for name in ("old", "new", "newer")
    }
    authority = the_authority()
    with launch(at, new=True) as chip, chip.client() as mailbox:
        mailbox.birth(authority=authority.ticket_key, vendor=authority.vendor)
        mailbox.create_disk(SPEC.ssd_bytes)
        put(at, mailbox, systems["old"], "a", "disk")
    return Owned(home, systems)


def put(
    at: WorkstationPaths,
    mailbox: ChipClient,
    system: SystemImage,
    slot: Slot,
    lay: install.Lay,
    tries: int = 0,
) -> None:
    """Install, as all who do."""
    install.install(
        at, SPEC, system, mailbox, cast(Authority, the_authority()),
        slot=slot, lay=lay, tries=tries, progress=Silent(),
    )  # fmt: skip


def update(at: WorkstationPaths, it: Owned) -> None:
    """The new system beside the old, to be tried."""
    with launch(at) as chip, chip.client() as mailbox:
        put(at, mailbox, it.systems["new"], "b", "slot", tries=2)


def update_again(at: WorkstationPaths, it: Owned) -> None:
    """A newer one where the new one is being tried."""
    with launch(at) as chip, chip.client() as mailbox:
        put(at, mailbox, it.systems["newer"], "b", "slot", tries=2)


def reinstall(at: WorkstationPaths, it: Owned) -> None:
    """The old system anew, in use at once."""
    with launch(at) as chip, chip.client() as mailbox:
        put(at, mailbox, it.systems["old"], "b", "repair")
        install.forget(mailbox, "a", SPEC.ssd_bytes)


def found(at: WorkstationPaths, it: Owned) -> tuple[str, Slot]:
    """Which system would start, from which slot; it is checked to be whole."""
    with launch(at) as chip, chip.client() as mailbox:
        with mailbox.prepare_start() as start:
            slot = start.slot
        mailbox.close_disk()
        entry = mailbox.show()["slots"][slot]
        name = it.name(entry["system"])
        with install.opened(mailbox) as disk:
            head, _ = layout.partition_table(SPEC.ssd_bytes)
            assert disk.read(0, len(head)) == head
            esp, _, _ = layout.slot_partitions(slot, SPEC.ssd_bytes)
            kernel = examine.kernel_digest(disk.read, esp.start, esp.size)
            assert kernel.hex() == entry["kernel"]
            # A start takes whichever volume bears the hash that the ticket names.
            assert any(bears(disk, each, it.systems[name]) for each in SLOTS)
    return name, slot


def bears(disk: NbdClient, slot: Slot, system: SystemImage) -> bool:
    """Whether this slot's volumes are that system's, in each byte."""
    _, volume, seal = layout.slot_partitions(slot, SPEC.ssd_bytes)
    return all(
        disk.read(part.start, len(content)) == content
        for part, content in (
            (volume, system.system.read_bytes()),
            (seal, system.verity.read_bytes()),
        )
    )


@pytest.mark.parametrize(
    ("act", "before", "after"),
    [
        (update, ("old", "a"), ("new", "b")),
        (update_again, ("new", "b"), ("newer", "b")),
        (reinstall, ("old", "a"), ("old", "b")),
    ],
    ids=["update", "update_again", "reinstall"],
)
def test_wherever_it_was_cut_off_a_whole_system_starts(
    owned: Owned,
    tmp_path: Path,
    act: Callable[[WorkstationPaths, Owned], None],
    before: tuple[str, Slot],
    after: tuple[str, Slot],
):
    begin = tmp_path / "begin"
    at = copy(owned.home, begin)
    if act is update_again:
        update(at, owned)
    at = copy(begin, tmp_path / "whole")
    steps = cut(functools.partial(act, at, owned), STEPS, None)
    assert found(at, owned) == after
    seen: Counter[tuple[str, Slot]] = Counter()
    for number in range(1, steps + 1):
        home = tmp_path / str(number)
        at = copy(begin, home)
        cut(functools.partial(act, at, owned), STEPS, number)
        seen[found(at, owned)] += 1
        shutil.rmtree(home)
    # A trial that a newer system takes the place of ends first: then the old one is in use.
    assert set(seen) <= {before, after, ("old", "a")}
    # The control: it was cut off before the moment that counts; after it in a reinstallation, whose
    # last steps only make the damaged volume void.
    assert before in seen
    assert (after in seen) == (act is reinstall)
