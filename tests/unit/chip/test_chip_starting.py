"""What may start, at the mailbox: tickets, targets, trials, the firmware password, what is kept.

With the real vault and the real controller of the disk; no machine runs here.
"""

import hashlib
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from spacegray.authenticode import parse
from spacegray.chip import keeping, signatures, store
from spacegray.chip.client import ChipClient, Start
from spacegray.chip.keeping import SHIM
from spacegray.chip.launch import launch
from spacegray.chip.refusal import ChipRefusalError
from spacegray.chip.signatures import SHA256, Signature
from spacegray.chip.store import Variable
from spacegray.chip.variables import MICROSOFT
from spacegray.errors import SpacegrayError
from spacegray.links import Target
from spacegray.nbd import NbdClient
from spacegray.paths import WorkstationPaths
from tests.support.authority import EPOCH, PRODUCT, another_authority, the_authority
from tests.support.chip import (
    ESP,
    KERNEL,
    RECOVERY,
    RECOVERY_KERNEL,
    SYSTEM,
    born,
    fill,
    image_file,
    let_in,
    unsigned_image,
    workstation,
)
from tests.support.recovery_port import Port, in_recovery
from tests.support.vaultd import secret

SIZE_BYTES = 64 * 1024**2
PASSWORD, FIRMWARE_PASSWORD = b"correct horse", b"before it starts"
OTHER_KERNEL = unsigned_image(b"another kernel" * 100)
REVOKED = b"\x77" * 32


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a workstation lies whose chip has a disk, PASSWORD, and a system in slot a."""
    made = tmp_path_factory.mktemp("made") / "home"
    with born(workstation(made)) as chip, chip.client() as client:
        client.create_disk(SIZE_BYTES)
        with secret(PASSWORD) as new:
            client.set_password(new)
    return made


@pytest.fixture
def client(at: WorkstationPaths) -> Iterator[ChipClient]:
    """The mailbox of that chip, unlocked."""
    with launch(at) as chip, chip.client() as connected:
        give(connected.unlock, PASSWORD)
        yield connected


def give(action: Callable[..., Any], text: bytes, **how: Any) -> Any:
    with secret(text) as descriptor:
        return action(descriptor, **how)


def refused(action: Callable[[], Any]) -> ChipRefusalError:
    with pytest.raises(ChipRefusalError) as caught:
        action()
    return caught.value


def started(client: ChipClient, target: Target = "main") -> Start:
    """A start whose descriptors are closed again; the disk too."""
    with client.prepare_start(target) as start:
        pass
    client.close_disk()
    return start


def left(client: ChipClient, *variables: Variable, target: Target = "main") -> dict[str, Variable]:
    """Start, and leave these variables in the store; returns what had been placed in it."""
    with client.prepare_start(target) as start:
        size = os.fstat(start.variables).st_size
        content = os.pread(start.variables, size, 0)
        placed = {each.name: each for each in store.read(content)}
        kept = [each for name, each in placed.items() if name not in {v.name for v in variables}]
        os.pwrite(start.variables, store.write(content, [*kept, *variables]), 0)
    client.close_disk()
    return placed


def dbx(*digests: bytes) -> Variable:
    content = signatures.write(Signature(SHA256, MICROSOFT, each) for each in digests)
    return Variable("dbx", store.SECURITY, 0x27, content)


def revoked_in(variable: Variable) -> set[bytes]:
    return {each.data for each in signatures.read(variable.data)}


def request(client: ChipClient, kernel: bytes = KERNEL) -> bytes:
    with image_file(kernel) as one, image_file(RECOVERY_KERNEL) as two:
        return client.request_ticket(
            one, two, slot="b", product=PRODUCT, epoch=EPOCH, system=SYSTEM
        )


def test_the_chip_measures_by_itself_what_it_asks_a_ticket_for(
    client: ChipClient, at: WorkstationPaths
) -> None:
    """Promise: nobody tells the chip a digest of what it can measure."""
    shown = client.show()["slots"]["a"]
    files = at.slot("a")
    for name, path in (
        ("firmware", files.firmware), ("variables", files.variables), ("recovery", files.recovery),
    ):  # fmt: skip
        assert shown[name] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (shown["product"], shown["epoch"], shown["system"]) == (PRODUCT, EPOCH, SYSTEM.hex())
    assert client.show()["current"] == "a"


def test_a_signature_on_an_image_does_not_change_what_the_ticket_names(
    client: ChipClient, at: WorkstationPaths
) -> None:
    image = parse(KERNEL)
    fill(at, "b")
    let_in(client, "b", kernel=image.signed(the_authority().sign_image(image.digest())), tries=1)
    slots = client.show()["slots"]
    assert slots["b"]["kernel"] == slots["a"]["kernel"] == image.digest().hex()


@pytest.mark.parametrize("name", ["firmware.fd", "variables.fd", "recovery.img"])
def test_a_slot_without_all_of_its_files_gets_no_ticket(
    client: ChipClient, at: WorkstationPaths, name: str
) -> None:
    fill(at, "b")
    (at.slot("b").folder / name).unlink()
    with pytest.raises(SpacegrayError, match=name):
        request(client)


@pytest.mark.parametrize("image", [b"", b"no image", KERNEL[:100]])
def test_what_is_no_image_gets_no_ticket(
    client: ChipClient, at: WorkstationPaths, image: bytes
) -> None:
    fill(at, "b")
    assert "measuring the kernel image" in str(refused(lambda: request(client, image)))


def test_a_pipe_for_an_image_blocks_nobody(client: ChipClient, at: WorkstationPaths) -> None:
    fill(at, "b")
    reading, writing = os.pipe()
    try:
        error = refused(
            lambda: client.request_ticket(
                reading, reading, slot="b", product=PRODUCT, epoch=EPOCH, system=SYSTEM
            )
        )
    finally:
        os.close(reading)
        os.close(writing)
    assert "not a regular file" in str(error)


def test_a_refused_ticket_changes_nothing(client: ChipClient, at: WorkstationPaths) -> None:
    """Promise: of another signer, for another request, twice, or for the slot in use: refused."""
    fill(at, "b")
    before, kept = client.show(), (at.state_folder / "chip.json").read_bytes()

    def accept(ticket: bytes, slot: Any = "b") -> None:
        client.accept_ticket(slot, ticket, source="of an attacker", esp=ESP)

    ticket = another_authority().sign_ticket(request(client))
    assert refused(lambda: accept(ticket)).code == "ticket"
    ticket = the_authority().sign_ticket(request(client))
    request(client)
    assert refused(lambda: accept(ticket)).code == "nonce"
    ticket = the_authority().sign_ticket(request(client))
    assert refused(lambda: accept(ticket, "a")).code == "in_use"
    assert client.show() == before
    assert (at.state_folder / "chip.json").read_bytes() == kept


def test_without_a_ticket_nothing_starts(tmp_path: Path) -> None:
    at = workstation(tmp_path)
    with born(at, system=False) as chip, chip.client() as client:
        client.create_disk(SIZE_BYTES)
        targets: tuple[Target, ...] = ("main", "other", "recovery")
        for target in targets:
            assert refused(partial(client.prepare_start, target)).code == "no_ticket"
        assert client.disk_health().state == "off"
        assert (client.show()["current"], client.show()["boot"]) == ("", None)


def test_a_start_says_what_it_is(client: ChipClient) -> None:
    start = started(client)
    assert (start.policy, start.slot, start.trying, start.secure_boot) == ("full", "a", False, True)
    boot = client.show()["boot"]
    assert (boot["target"], boot["slot"], boot["policy"]) == ("main", "a", "full")
    assert [each["link"] for each in boot["links"]] == ["chip", "firmware", "disk"]
    client.report("kernel", "failed", "x" * 9999)
    assert client.show()["boot"]["links"][-1]["status"] == "failed"


def test_what_nobody_started_is_not_reported_on(client: ChipClient) -> None:
    assert refused(lambda: client.report("kernel", "ok", "")).code == "not_started"
    assert refused(client.came_up).code == "not_started"


def test_recovery_gets_its_medium_and_no_disk(client: ChipClient) -> None:
    """Promise: verified like the system, read only, without the disk."""
    with client.prepare_start("recovery") as start:
        assert (start.disk, start.secure_boot) == (-1, True)
        assert os.pread(start.medium, 2 * len(RECOVERY), 0) == RECOVERY
        writable = os.open(f"/proc/self/fd/{start.medium}", os.O_RDWR)
        with open(writable, "wb", buffering=0) as file, pytest.raises(PermissionError):
            file.write(b"evil")
        assert client.disk_health().state == "off"


@pytest.mark.parametrize(
    ("name", "target", "link"),
    [
        ("firmware.fd", "main", "firmware"),
        ("variables.fd", "main", "firmware"),
        ("firmware.fd", "recovery", "firmware"),
        ("recovery.img", "recovery", "kernel"),
    ],
)
def test_a_changed_byte_stops_a_start_and_says_what_was_found(
    client: ChipClient, at: WorkstationPaths, name: str, target: Target, link: str
) -> None:
    path = at.slot("a").folder / name
    original = path.read_bytes()
    changed = bytearray(original)
    changed[len(changed) // 2] ^= 1
    path.write_bytes(changed)
    error = refused(lambda: client.prepare_start(target))
    expected, found = (hashlib.sha256(each).hexdigest()[:16] for each in (original, changed))
    assert error.link == link
    assert f"expected SHA-256 {expected}…, found {found}…" in error.stopped_by
    assert "reinstall" in error.next_step
    assert client.show()["boot"] is None
    path.write_bytes(original)
    client.prepare_start(target).close()


def test_a_changed_recovery_does_not_stop_the_system(
    client: ChipClient, at: WorkstationPaths
) -> None:
    at.slot("a").recovery.unlink()
    started(client)


def test_an_update_is_tried_and_kept_or_dropped(client: ChipClient, at: WorkstationPaths) -> None:
    """Promise: so many tries and no more; what came up stays, and no older one is taken then."""
    fill(at, "b")
    let_in(client, "b", kernel=OTHER_KERNEL, epoch=EPOCH + 1, tries=2, source="a newer ovmf")
    assert (client.show()["current"], client.show()["trying"]) == ("a", True)
    for _ in range(2):
        start = started(client)
        assert (start.slot, start.trying, start.firmware_version) == ("b", True, "a newer ovmf")
    start = started(client)
    assert (start.slot, start.trying) == ("a", False)
    client.came_up()
    assert client.show()["slots"]["b"] is None
    let_in(client, "b", kernel=OTHER_KERNEL, epoch=EPOCH + 1, tries=1)
    started(client)
    client.came_up()
    shown = client.show()
    assert (shown["current"], shown["trying"], shown["minimum_epoch"]) == ("b", False, EPOCH + 1)
    assert refused(lambda: let_in(client, "a")).code == "epoch"
    let_in(client, "a", epoch=EPOCH + 1, tries=1)
    client.give_up()
    assert started(client).slot == "b"


def test_recovery_of_what_is_tried_is_that_of_what_is_in_use(
    client: ChipClient, at: WorkstationPaths
) -> None:
    fill(at, "b")
    let_in(client, "b", kernel=OTHER_KERNEL, tries=1)
    with client.prepare_start("recovery") as start:
        assert (start.slot, start.trying) == ("a", False)
    assert started(client).slot == "b", "it cost no try"


def test_a_locked_disk_costs_no_try(at: WorkstationPaths) -> None:
    """Promise: whoever has not got the password cannot use an update's tries up."""
    with launch(at) as chip, chip.client() as client:
        fill(at, "b")
        let_in(client, "b", kernel=OTHER_KERNEL, tries=1)
        for _ in range(3):
            assert refused(client.prepare_start).code == "password"
        client.prepare_start("recovery").close()
        give(client.unlock, PASSWORD)
        with NbdClient(client.open_disk("nbd")):
            assert refused(client.prepare_start).link == "disk"
        client.close_disk()
        assert started(client).slot == "b"


def owner_changes(client: ChipClient, *lines: str) -> None:
    """Start recovery, be its owner, and say these lines at its port."""
    with in_recovery(client) as port:
        assert port.ask(f"authenticate password {port.encoded(PASSWORD)}").startswith("ok")
        for line in lines:
            assert port.ask(line) == "ok", line


def test_a_start_from_outside_needs_the_owners_leave(client: ChipClient) -> None:
    assert refused(lambda: client.prepare_start("external")).code == "external_boot"
    owner_changes(client, "set external_boot=allow")
    shown = client.show()
    assert (shown["external_boot"], shown["other_systems"], shown["policy"]) == (
        "allow", "deny", "full",
    )  # fmt: skip
    with client.prepare_start("external") as start:
        assert (start.policy, start.secure_boot) == ("full", True)
    client.close_disk()


def test_the_firmware_password_guards_all_but_the_system(client: ChipClient) -> None:
    """Promise: asked before anything but the chosen startup disk; once for one start."""
    owner_changes(
        client, f"firmware-password {Port.encoded(FIRMWARE_PASSWORD)}", "set external_boot=allow"
    )
    shown = client.show()
    assert (shown["firmware_password"], shown["firmware_password_given"]) == (True, False)
    started(client)
    guarded: list[Callable[[], Any]] = [
        lambda: client.prepare_start("recovery"),
        lambda: client.prepare_start("other"),
        lambda: client.prepare_start("external"),
        lambda: client.open_disk("nbd"),
    ]
    for action in guarded:
        assert refused(action).code == "firmware_password"
    error = refused(lambda: give(client.unlock, b"a guess", with_="firmware_password"))
    assert (error.code, error.left) == ("wrong", 9)
    assert "this is not the firmware password" in error.stopped_by
    give(client.unlock, FIRMWARE_PASSWORD, with_="firmware_password")
    assert client.show()["firmware_password_given"]
    client.open_disk("nbd").close()
    client.close_disk()
    client.prepare_start("recovery").close()
    client.open_disk("nbd").close()
    client.close_disk()
    started(client)
    for action in guarded:
        assert refused(action).code == "firmware_password"


def test_the_firmware_password_is_set_over_the_mailbox_by_the_owner_in_recovery_alone(
    client: ChipClient,
) -> None:
    def change() -> None:
        give(client.set_firmware_password, FIRMWARE_PASSWORD)

    give(client.unlock, PASSWORD, mode="recovery")
    assert refused(change).code == "not_recovery"
    client.prepare_start("recovery").close()
    assert refused(change).code == "unauthorised"
    give(client.unlock, PASSWORD, mode="recovery")
    change()
    assert client.show()["firmware_password"]


def test_the_firmware_password_needs_no_other_secret(client: ChipClient) -> None:
    error = refused(lambda: give(client.unlock, PASSWORD, with_="firmware_password"))
    assert error.code == "absent"


def test_revocations_outlast_the_start_and_the_chip(at: WorkstationPaths) -> None:
    """Promise: what a signed update of dbx revoked stays revoked, under every policy."""
    for _ in range(2):
        with launch(at) as chip, chip.client() as client:
            give(client.unlock, PASSWORD)
            left(client, dbx(REVOKED))
            assert REVOKED in revoked_in(left(client, dbx())["dbx"])
            assert len(list(at.state_folder.glob(f"*{keeping.SUFFIX}"))) == 1
    with launch(at) as chip, chip.client() as client:
        with client.prepare_start("recovery") as start:
            content = os.pread(start.variables, os.fstat(start.variables).st_size, 0)
        (found,) = (each for each in store.read(content) if each.name == "dbx")
        assert REVOKED in revoked_in(found)


def test_nobody_revokes_the_system_itself(client: ChipClient) -> None:
    """Promise: QEMU taken over by its guest cannot lock the owner out for good."""
    ours = bytes.fromhex(client.show()["slots"]["a"]["kernel"])
    left(client, dbx(ours, REVOKED))
    found = revoked_in(left(client)["dbx"])
    assert REVOKED in found
    assert ours not in found


def test_the_shims_variables_come_back_where_they_count(client: ChipClient) -> None:
    level = b"sbat,1,2024010900\n"
    planted = Variable("BootNext", store.GLOBAL, 7, b"\1\0")
    asked = Variable("MokNew", SHIM, 7, b"a key")
    left(client, asked)
    owner_changes(client, "set policy=medium")
    assert "MokNew" not in left(client, asked, planted, Variable("SbatLevel", SHIM, 3, level))
    placed = left(client)
    assert (placed["MokNew"].data, placed["SbatLevel"].data) == (b"a key", level)
    assert "BootNext" not in placed
    owner_changes(client, "set policy=full")
    assert not {"MokNew", "SbatLevel"} & set(left(client))
    owner_changes(client, "set policy=medium")
    assert left(client)["SbatLevel"].data == level


def test_nothing_is_believed_of_a_start_without_secure_boot(client: ChipClient) -> None:
    """Promise: any program can run then; none of it weakens what starts under Secure Boot."""
    owner_changes(client, "set policy=none")
    insecure = Variable("MokSBState", SHIM, 3, b"\1")
    keys = Variable("MokList", SHIM, 3, b"a stranger's key")
    left(
        client, insecure, keys, dbx(REVOKED), Variable("SbatLevel", SHIM, 3, b"sbat,1,2099010100\n")
    )
    owner_changes(client, "set policy=medium")
    placed = left(client)
    assert not {"MokSBState", "MokList", "SbatLevel"} & set(placed)
    assert REVOKED not in revoked_in(placed["dbx"])


def test_rubbish_in_the_store_costs_nothing_of_what_was_kept(client: ChipClient) -> None:
    left(client, dbx(REVOKED))
    with client.prepare_start() as start:
        os.pwrite(start.variables, os.urandom(os.fstat(start.variables).st_size), 0)
    client.close_disk()
    assert REVOKED in revoked_in(left(client)["dbx"])


def test_revocations_that_cannot_be_kept_are_not_forgotten(
    client: ChipClient, at: WorkstationPaths
) -> None:
    """Promise: while the host does not keep them nothing else starts; then they are there."""
    with client.prepare_start() as start:
        size = os.fstat(start.variables).st_size
        content = os.pread(start.variables, size, 0)
        os.pwrite(start.variables, store.write(content, [dbx(REVOKED)]), 0)
    kept = keeping.Kept(dbx(REVOKED).data)
    obstacle = at.state_folder / f"{hashlib.sha256(kept.encode()).hexdigest()}{keeping.SUFFIX}"
    obstacle.mkdir()
    with pytest.raises(SpacegrayError, match=obstacle.name):
        client.close_disk()
    with pytest.raises(SpacegrayError, match=obstacle.name):
        client.prepare_start()
    obstacle.rmdir()
    assert REVOKED in revoked_in(left(client)["dbx"])


@pytest.mark.parametrize("attack", ["removed", "changed", "older"])
def test_revocations_taken_away_start_nothing(
    client: ChipClient, at: WorkstationPaths, attack: str
) -> None:
    """Promise: fail closed: not even recovery starts without what was revoked."""
    left(client, dbx(REVOKED))
    (path,) = at.state_folder.glob(f"*{keeping.SUFFIX}")
    older = path.read_bytes()
    left(client, dbx(b"\x78" * 32))
    (path,) = at.state_folder.glob(f"*{keeping.SUFFIX}")
    newest = path.read_bytes()
    if attack == "removed":
        path.unlink()
    else:
        path.write_bytes(older if attack == "older" else newest[:-1] + b"x")
    targets: tuple[Target, ...] = ("main", "recovery")
    for target in targets:
        error = refused(partial(client.prepare_start, target))
        assert (error.code, error.link) == ("corrupt", "firmware")
        assert path.name in str(error)
    path.write_bytes(newest)
    started(client)
