"""Promise: who asks why a kernel image was refused is told what was expected and what is there."""

import contextlib
import random
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from spacegray import authenticode
from spacegray.chip.client import ChipClient
from spacegray.errors import SpacegrayError
from spacegray.system import layout
from spacegray.workstation import create, examine
from tests.support.chip import unsigned_image

INSTALLED = create.Installed(ecid="0x1", edition="tiny", disk_bytes=1000**4)
KERNEL = unsigned_image(random.Random(1).randbytes(4096))
DIGEST = authenticode.digest(KERNEL).hex()


class Chip:
    """A chip with a ticket for slot b, whose disk has that boot partition."""

    def __init__(self, ticket: str, content: bytes | None) -> None:
        self.shown: dict[str, Any] = {"current": "b", "slots": {"a": None, "b": {"kernel": ticket}}}
        self.place = layout.slot_partitions("b", INSTALLED.disk_bytes)[0]
        self.content = b""
        if content is not None:
            self.content = layout.boot_file_system(content, self.place.size)

    def show(self) -> dict[str, Any]:
        return self.shown

    def read(self, offset: int, length: int) -> bytes:
        at = offset - self.place.start
        return self.content[at : at + length].ljust(length, b"\0")


@pytest.fixture(autouse=True)
def _disk(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextlib.contextmanager
    def opened(chip: Any) -> Iterator[Any]:
        if chip.content is None:
            raise SpacegrayError("opening", "it is locked", "unlock it", link="disk")
        yield SimpleNamespace(read=chip.read)

    monkeypatch.setattr(examine, "opened", opened)


def said(chip: Chip, **words: Any) -> str:
    return examine.kernel(cast(ChipClient, chip), INSTALLED, **words)


def test_both_are_named_in_full():
    chip = Chip("0" * 64, KERNEL)
    assert said(chip) == f"expected SHA-256 {'0' * 64}, found {DIGEST}"
    assert examine.is_named(cast(ChipClient, chip), INSTALLED) is False


def test_the_right_one_is_not_blamed():
    chip = Chip(DIGEST, KERNEL)
    assert said(chip).startswith("the kernel image is the one that the ticket names")
    assert examine.is_named(cast(ChipClient, chip), INSTALLED) is True


def test_where_there_is_none_that_is_said():
    chip = Chip(DIGEST, None)
    assert said(chip) == f"expected SHA-256 {DIGEST}, found no FAT32 on the boot partition"
    assert examine.is_named(cast(ChipClient, chip), INSTALLED) is False


def test_a_disk_that_does_not_open_and_a_slot_without_a_ticket_are_no_fault():
    chip = Chip(DIGEST, KERNEL)
    assert said(chip, slot="a").startswith("expected SHA-256 none")
    chip.content = cast(Any, None)
    assert "it is locked" in said(chip)
    chip.shown["current"] = ""
    assert "could not be looked at" in said(chip)
