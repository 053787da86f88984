"""Promise: a system gets into a slot whole or not at all, and never over somebody else's disk."""

import contextlib
import hashlib
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from spacegray import authenticode
from spacegray.boot.authority import Authority
from spacegray.chip.client import ChipClient
from spacegray.chip.refusal import ChipRefusalError
from spacegray.errors import SpacegrayError
from spacegray.nbd import NbdClient
from spacegray.paths import Paths, Slot, WorkstationPaths
from spacegray.progress import Silent
from spacegray.spec import Spec
from spacegray.system import layout
from spacegray.system.image import SystemImage
from spacegray.workstation import install
from tests.support.authority import the_authority
from tests.support.systems import made

SPEC = Spec()
SYSTEM = 0x5A


class FakeDisk:
    """A sparse disk in memory; what was not written reads as zeros."""

    def __init__(self) -> None:
        self.size_bytes = SPEC.ssd_bytes
        self.written: list[tuple[int, bytes]] = []
        self.flushed = 0

    def write(self, offset: int, data: bytes) -> None:
        self.written.append((offset, bytes(data)))

    def read(self, offset: int, length: int) -> bytes:
        content = bytearray(length)
        for at, data in self.written:
            begin, end = max(at, offset), min(at + len(data), offset + length)
            if begin < end:
                content[begin - offset : end - offset] = data[begin - at : end - at]
        return bytes(content)

    def flush(self) -> None:
        self.flushed = len(self.written)


class FakeChip:
    """A chip that notes what it is asked, and refuses what it is told to."""

    def __init__(self, disk: FakeDisk, folder: Path) -> None:
        self.disk, self._folder = disk, folder
        self.asked: list[str] = []
        self.measured: dict[str, bytes] = {}
        self.accepted: dict[str, Any] = {}
        self.trying = False
        self.fails_at = ""
        self.code: str | None = None

    def _note(self, op: str) -> None:
        if op == self.fails_at:
            raise ChipRefusalError("asking the chip", "it refuses", "do not", code=self.code)
        self.asked.append(op)

    def show(self) -> dict[str, Any]:
        return {"trying": self.trying, "current": "a", "slots": {}}

    def give_up(self) -> None:
        self._note("give_up")
        self.trying = False

    def request_ticket(self, kernel: int, recovery: int, *, slot: Slot, **fields: Any) -> bytes:
        self._note("request_ticket")
        for name, descriptor in (("kernel", kernel), ("recovery_kernel", recovery)):
            content = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
            self.measured[name] = authenticode.digest(content)
        for name in ("firmware.fd", "variables.fd", "recovery.img"):
            content = (self._folder / slot / name).read_bytes()
            self.measured[name] = hashlib.sha256(content).digest()
        self.measured["system"] = fields["system"]
        return b"request"

    def accept_ticket(self, slot: Slot, ticket: bytes, **fields: Any) -> None:
        self._note("accept_ticket")
        assert self.disk.flushed == len(self.disk.written), "accepted before it was durable"
        self.accepted = {"slot": slot, "ticket": ticket, **fields}


class FakeAuthority:
    """Signs images as the test's does, tickets without looking."""

    sign_image = staticmethod(the_authority().sign_image)

    def sign_ticket(self, request: bytes) -> bytes:
        return b"ticket for " + request


class Setting:
    """A workstation with nothing in its slots, and a system to install."""

    def __init__(self, home: Path) -> None:
        self.at: WorkstationPaths = Paths.current({"SPACEGRAY_HOME": str(home)}).workstation("pro")
        self.at.folder.mkdir(parents=True)
        self.system: SystemImage = made(home / "image", random.Random(SYSTEM))
        self.disk = FakeDisk()
        self.chip = FakeChip(self.disk, self.at.folder)

    def install(self, slot: Slot = "b", lay: install.Lay = "slot", tries: int = 0) -> Any:
        return install.install(
            self.at, SPEC, self.system, cast(ChipClient, self.chip),
            cast(Authority, FakeAuthority()), slot=slot, lay=lay, tries=tries, progress=Silent(),
        )  # fmt: skip

    def lay_table(self) -> None:
        head, tail = layout.partition_table(SPEC.ssd_bytes)
        self.disk.write(0, head)
        self.disk.write(SPEC.ssd_bytes - len(tail), tail)

    def file_of(self, slot: Slot) -> set[str]:
        folder = self.at.slot(slot).folder
        return {path.name for path in folder.iterdir()} if folder.exists() else set()


@pytest.fixture
def setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Setting:
    found = Setting(tmp_path)

    @contextlib.contextmanager
    def opened(_: ChipClient) -> Iterator[NbdClient]:
        yield cast(NbdClient, found.disk)

    monkeypatch.setattr(install, "opened", opened)
    return found


def test_all_six_components_are_measured_and_the_ticket_comes_last(setting: Setting):
    setting.lay_table()
    placed = setting.install(tries=2)
    system = setting.system
    assert setting.chip.asked == ["request_ticket", "accept_ticket"]
    measured = setting.chip.measured
    for name, path in (("kernel", system.kernel), ("recovery_kernel", system.recovery)):
        assert measured[name] == authenticode.parse(path.read_bytes()).digest()
    assert measured["system"].hex() == system.root_hash == placed.root_hash
    assert {"firmware.fd", "variables.fd", "recovery.img"} == setting.file_of("b")
    accepted = setting.chip.accepted
    assert (accepted["slot"], accepted["tries"]) == ("b", 2)
    assert accepted["ticket"] == b"ticket for request"
    place = layout.esp_place("b", SPEC.ssd_bytes)
    assert accepted["esp"]["start_sector"] == place.start_sector
    assert accepted["esp"]["guid"] == place.guid
    assert placed.epoch == system.manifest.epoch


def test_only_the_slot_is_written(setting: Setting):
    setting.lay_table()
    before = len(setting.disk.written)
    setting.install()
    parts = layout.slot_partitions("b", SPEC.ssd_bytes)
    for offset, data in setting.disk.written[before:]:
        assert any(p.start <= offset and offset + len(data) <= p.start + p.size for p in parts)
    esp, system, _ = parts
    assert setting.disk.read(system.start, 4096) == setting.system.system.read_bytes()[:4096]
    assert setting.disk.read(esp.start, 512)[510:] == b"\x55\xaa"


def test_a_new_disk_gets_its_table_and_the_mark_for_formatting(setting: Setting):
    setting.install("a", "disk")
    head, tail = layout.partition_table(SPEC.ssd_bytes)
    assert setting.disk.read(0, len(head)) == head
    assert setting.disk.read(SPEC.ssd_bytes - len(tail), len(tail)) == tail
    (data,) = (p for p in layout.partitions(SPEC.ssd_bytes) if p.name == "data")
    assert setting.disk.read(data.start, 4096) == layout.DATA_MARKER


def test_a_reinstallation_makes_a_damaged_table_anew_and_keeps_the_data(setting: Setting):
    (data,) = (p for p in layout.partitions(SPEC.ssd_bytes) if p.name == "data")
    setting.disk.write(data.start, b"precious".ljust(512))
    setting.install(lay="repair")
    head, _ = layout.partition_table(SPEC.ssd_bytes)
    assert setting.disk.read(0, len(head)) == head
    assert setting.disk.read(data.start, 8) == b"precious"


@pytest.mark.parametrize("lay", ["slot", "repair"])
def test_another_systems_disk_is_left_as_it_is(setting: Setting, lay: install.Lay):
    head = bytearray(layout.partition_table(SPEC.ssd_bytes)[0])
    head[512 + 56] ^= 1
    setting.disk.write(0, bytes(head))
    with pytest.raises(SpacegrayError, match="another system's"):
        setting.install(lay=lay)
    assert len(setting.disk.written) == 1
    assert "accept_ticket" not in setting.chip.asked


def test_moved_partitions_are_not_written_over_by_an_update(setting: Setting):
    head = bytearray(layout.partition_table(SPEC.ssd_bytes)[0])
    head[1024 + 32] ^= 8
    setting.disk.write(0, bytes(head))
    with pytest.raises(SpacegrayError, match="not as it was made"):
        setting.install(lay="slot")
    assert len(setting.disk.written) == 1


def test_nothing_is_written_to_a_disk_that_is_none_of_ours(setting: Setting):
    setting.install("a", "nothing")
    assert not setting.disk.written
    assert setting.chip.accepted["slot"] == "a"


def test_a_trial_ends_before_its_slot_is_written_over(setting: Setting):
    setting.lay_table()
    setting.chip.trying = True
    setting.install()
    assert setting.chip.asked == ["give_up", "request_ticket", "accept_ticket"]


@pytest.mark.parametrize("op", ["request_ticket", "accept_ticket"])
def test_what_the_chip_refuses_leaves_the_slot_in_use_alone(setting: Setting, op: str):
    setting.lay_table()
    setting.chip.fails_at = op
    with pytest.raises(SpacegrayError, match="it refuses"):
        setting.install()
    assert not setting.chip.accepted
    assert not setting.file_of("a")


def test_another_authority_than_the_chip_trusts_is_named_with_the_way_out(setting: Setting):
    setting.lay_table()
    setting.chip.fails_at, setting.chip.code = "accept_ticket", "ticket"
    with pytest.raises(SpacegrayError, match=r"another authority.*`restore pro`"):
        setting.install()


@pytest.mark.parametrize("name", ["kernel.efi", "recovery.efi"])
def test_an_image_that_cannot_be_signed_is_named(setting: Setting, name: str):
    (setting.system.folder / name).write_bytes(b"rubbish")
    with pytest.raises(SpacegrayError, match=name):
        setting.install()
    assert not setting.chip.asked


def test_a_volume_that_is_forgotten_bears_no_seal(setting: Setting):
    setting.lay_table()
    setting.install("a")
    _, system, verity = layout.slot_partitions("a", SPEC.ssd_bytes)
    assert any(setting.disk.read(verity.start, 512))
    install.forget(cast(ChipClient, setting.chip), "a", SPEC.ssd_bytes)
    assert not any(setting.disk.read(verity.start, 4096))
    assert any(setting.disk.read(system.start, 4096))
