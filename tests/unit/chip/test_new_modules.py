"""New modules, paired with no chip: nothing opens with one, and a new disk is made of any."""

import fcntl
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from spacegray.chip.client import ChipClient
from spacegray.chip.modules import NAMES, NEW_BYTES, NEW_MAGIC, fresh_module
from spacegray.chip.refusal import ChipRefusalError
from spacegray.errors import SpacegrayError
from spacegray.nbd import NbdClient
from spacegray.paths import WorkstationPaths
from tests.support.chip import believed, born, fill, let_in, workstation
from tests.support.recovery_port import in_recovery

SIZE_BYTES = 64 * 1024**2
KEPT = b"what the owner wrote".ljust(512)
FORMAT = (Path(__file__).parents[3] / "docs" / "flash-format.md").read_text()
ONE_OR_BOTH = pytest.mark.parametrize(
    "numbers", [(0,), (1,), (0, 1)], ids=["the first", "the second", "both"]
)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a workstation lies whose disk holds something, and whose other system is new."""
    made = tmp_path_factory.mktemp("made") / "home"
    at = workstation(made)
    fill(at, "b")
    with born(at) as chip, chip.client() as client:
        client.create_disk(SIZE_BYTES)
        with NbdClient(client.open_disk("nbd")) as disk:
            disk.write(0, KEPT)
            disk.flush()
        client.close_disk()
        let_in(client, "b", tries=2)
    return made


def replace(at: WorkstationPaths, numbers: tuple[int, ...]) -> None:
    """Put new modules into the places with these numbers."""
    for number in numbers:
        fresh_module(at.folder / NAMES[number])


def unpaired(action: Callable[[], Any]) -> ChipRefusalError:
    """The refusal of an action for a module that is new."""
    with pytest.raises(ChipRefusalError) as caught:
        action()
    assert (caught.value.code, caught.value.link) == ("unpaired", "disk")
    return caught.value


def first_sector(client: ChipClient) -> bytes:
    """What the disk begins with."""
    with NbdClient(client.open_disk("nbd")) as disk:
        found = disk.read(0, len(KEPT))
    client.close_disk()
    return found


def test_a_new_module_is_what_the_document_says(tmp_path: Path) -> None:
    path = tmp_path / NAMES[0]
    fresh_module(path)
    assert path.read_bytes() == NEW_MAGIC + bytes(NEW_BYTES - len(NEW_MAGIC))
    assert path.stat().st_mode & 0o777 == 0o600
    assert f"a file of {NEW_BYTES} bytes: `{NEW_MAGIC.decode()}`, then zeros" in FORMAT


def test_it_takes_the_place_of_an_old_one_but_not_of_one_in_use(tmp_path: Path) -> None:
    """Promise: a disk in use is never pulled from under whoever uses it."""
    path = tmp_path / NAMES[1]
    path.write_bytes(b"old")
    with path.open("rb") as user:
        fcntl.flock(user, fcntl.LOCK_EX)
        with pytest.raises(SpacegrayError, match=r"flash-1\.module is in use by another process"):
            fresh_module(path)
        assert path.read_bytes() == b"old"
    fresh_module(path)
    assert path.read_bytes().startswith(NEW_MAGIC)


@ONE_OR_BOTH
def test_nothing_opens_with_a_new_one_in_place(
    client: ChipClient, at: WorkstationPaths, numbers: tuple[int, ...]
) -> None:
    """Promise: each way to the disk names the new module and what pairs it; none is written."""
    replace(at, numbers)
    before = {name: digest(at.folder / name) for name in NAMES}
    actions: tuple[Callable[[], Any], ...] = (
        client.check_disk,
        lambda: client.check_disk(adopt=True),
        lambda: client.open_disk("nbd"),
        client.prepare_start,
        lambda: client.prepare_start("external"),
    )
    for action in actions:
        refusal = unpaired(action)
        named = " and ".join(NAMES[number] for number in numbers)
        verb, them = ("is", "it") if len(numbers) == 1 else ("are", "them")
        assert refusal.stopped_by == f"{named} {verb} new and paired with no chip"
        assert refusal.next_step == f"`restore {at.name}` pairs {them}; all data is gone"
    assert {name: digest(at.folder / name) for name in NAMES} == before
    assert client.disk_health().state == "off"


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_old_module_put_back_opens_as_before(client: ChipClient, at: WorkstationPaths) -> None:
    """Promise: a refusal spends nothing: no try of a new system, no leave for an older disk."""
    kept = (at.folder / NAMES[1]).rename(at.folder / "kept")
    replace(at, (1,))
    client.authorise_rollback()
    for action in (client.prepare_start, client.check_disk, lambda: client.check_disk(adopt=True)):
        unpaired(action)
    kept.rename(at.folder / NAMES[1])
    client.check_disk(adopt=True)
    client.close_disk()
    assert first_sector(client) == KEPT
    for tries in range(2):
        with client.prepare_start() as start:
            assert (start.slot, start.trying) == ("b", True), f"try {tries} was spent"
        client.close_disk()
    with client.prepare_start() as start:
        assert start.slot == "a"


def test_recovery_starts_but_does_not_open_the_disk(
    client: ChipClient, at: WorkstationPaths
) -> None:
    """Promise: the way back is whole whatever is in the modules' places."""
    replace(at, (0, 1))
    with in_recovery(client) as port:
        assert port.ask("verify 0").startswith("no unpaired ")
        assert port.facts()["disk_blocks"] == "0"


@ONE_OR_BOTH
@pytest.mark.parametrize("anew", ["erase_disk", "restore"])
def test_a_new_disk_is_made_of_new_modules_and_old_ones(
    client: ChipClient, at: WorkstationPaths, numbers: tuple[int, ...], anew: str
) -> None:
    """Promise: whatever lies there is paired with this chip then, and nothing of before is left."""
    replace(at, numbers)
    if anew == "restore":
        client.restore(**believed())
        unpaired(client.check_disk)
    client.erase_disk(SIZE_BYTES)
    assert first_sector(client) == bytes(len(KEPT))
    health = client.disk_health()
    assert [each.file_size_bytes > NEW_BYTES for each in health.modules] == [True, True]


def test_an_erased_disk_with_a_new_module_is_still_refused_by_name(
    client: ChipClient, at: WorkstationPaths
) -> None:
    replace(at, (0,))
    client.erase()
    assert NAMES[0] in unpaired(client.check_disk).stopped_by


@pytest.mark.parametrize(
    "content",
    [
        NEW_MAGIC,
        NEW_MAGIC + bytes(NEW_BYTES - len(NEW_MAGIC) + 1),
        NEW_MAGIC + bytes(NEW_BYTES - len(NEW_MAGIC) - 1) + b"x",
        bytes(NEW_BYTES),
    ],
    ids=["cut off", "too long", "not empty", "without its name"],
)
def test_what_only_looks_new_is_told_as_what_it_is(
    client: ChipClient, at: WorkstationPaths, content: bytes
) -> None:
    (at.folder / NAMES[0]).write_bytes(content)
    with pytest.raises(ChipRefusalError) as caught:
        client.check_disk()
    assert caught.value.code in ("missing", "damaged")
    assert NAMES[0] in caught.value.stopped_by
