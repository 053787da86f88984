"""The chip as a process, with the real vault and the real controller of the disk."""

import hashlib
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from spacegray.chip.client import ChipClient
from spacegray.chip.launch import ChipProcess, launch
from spacegray.chip.modules import NAMES
from spacegray.chip.refusal import ChipRefusalError
from spacegray.nbd import NbdClient
from spacegray.paths import WorkstationPaths
from tests.support.chip import SOURCE, believed, born, workstation

SIZE_BYTES = 64 * 1024**2
NOTICE_SECONDS = 20.0
"""How soon a part's death has to end the chip; far above what it takes (0.05 s), as other
tests run beside this one."""


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory) -> WorkstationPaths:
    """A workstation whose chip was born and has a disk."""
    paths = workstation(tmp_path_factory.mktemp("home"))
    with born(paths) as chip, chip.client() as client:
        client.create_disk(SIZE_BYTES)
    return paths


@pytest.fixture
def chip(at: WorkstationPaths) -> Iterator[ChipProcess]:
    with launch(at) as running:
        yield running


@pytest.fixture
def client(chip: ChipProcess) -> Iterator[ChipClient]:
    with chip.client() as connected:
        yield connected


def part(chip: ChipProcess, name: str) -> psutil.Process:
    (found,) = (
        each for each in psutil.Process(chip.process.pid).children() if name in each.cmdline()[0]
    )
    return found


def refused(action: Callable[[], Any]) -> ChipRefusalError:
    with pytest.raises(ChipRefusalError) as caught:
        action()
    return caught.value


def test_show_says_who_it_is(client: ChipClient, at: WorkstationPaths) -> None:
    shown = client.show()
    assert shown["name"] == at.name
    assert (shown["state"], shown["needs"], shown["unlocked"]) == ("open", [], True)
    assert shown["ecid"].startswith("0x")
    assert int(shown["ecid"], 16) > 0
    assert shown["seal"] == "keyfile"
    assert (
        shown["firmware_sha256"] == hashlib.sha256(at.slot("a").firmware.read_bytes()).hexdigest()
    )
    assert load_pem_public_key(shown["identity_key"].encode()).key_size == 256  # type: ignore[union-attr]
    assert shown["disk"]["state"] == "off"


def test_an_identity_outlives_the_process(at: WorkstationPaths) -> None:
    def identity() -> tuple[str, str]:
        with launch(at) as chip, chip.client() as client:
            shown = client.show()
            return shown["ecid"], shown["identity_key"]

    assert identity() == identity()


def test_the_mailbox_is_its_owners_alone(chip: ChipProcess, at: WorkstationPaths) -> None:
    assert stat.S_IMODE(at.mailbox.stat().st_mode) == 0o600
    assert stat.S_IMODE(at.run.stat().st_mode) == 0o700


def test_a_chip_is_born_once(at: WorkstationPaths) -> None:
    with launch(at, new=True) as chip, chip.client() as client:
        error = refused(lambda: client.birth(**believed()))
    assert error.code == "exists"
    assert "exists already" in str(error)


def test_a_birth_that_was_cut_off_is_completed(tmp_path: Path) -> None:
    paths = workstation(tmp_path)
    with born(paths) as chip, chip.client() as client:
        ecid = client.show()["ecid"]
    (paths.state_folder / "chip.json").unlink()
    assert refused(lambda: launch(paths)).code == "unborn"
    with born(paths, system=False) as chip, chip.client() as client:
        assert client.show()["ecid"] == ecid


def test_two_chips_of_one_workstation_cannot_run(chip: ChipProcess, at: WorkstationPaths) -> None:
    assert "runs already" in str(refused(lambda: launch(at)))
    with chip.client() as client:
        assert client.show()["name"] == at.name


def test_a_start_gets_what_was_checked(client: ChipClient, at: WorkstationPaths) -> None:
    with client.prepare_start() as start:
        assert [(each.link, each.status) for each in start.links] == [
            ("chip", "ok"), ("firmware", "ok"), ("disk", "ok"),
        ]  # fmt: skip
        with open(os.dup(start.firmware), "rb") as file:
            assert file.read() == at.slot("a").firmware.read_bytes()
        assert start.firmware_version == SOURCE
        assert client.disk_health().front == "vhost-user-blk"
        assert refused(client.prepare_start).link == "disk"
    client.close_disk()
    client.prepare_start().close()


def test_each_start_has_fresh_variables(client: ChipClient) -> None:
    """Promise: what a guest wrote into its variables is gone with the next start."""
    contents = []
    for _ in range(2):
        with client.prepare_start() as start, open(os.dup(start.variables), "r+b") as file:
            contents.append(file.read())
            file.seek(0)
            file.write(bytes(1000))
        client.close_disk()
    assert contents[0] == contents[1]
    assert contents[0][:1000] != bytes(1000)


@pytest.mark.parametrize("name", ["firmware.fd", "variables.fd"])
def test_a_changed_byte_breaks_the_link_firmware(
    client: ChipClient, at: WorkstationPaths, name: str
) -> None:
    path = at.slot("a").folder / name
    original = path.read_bytes()
    changed = bytearray(original)
    changed[len(changed) // 2] ^= 1
    path.write_bytes(changed)
    try:
        error = refused(client.prepare_start)
    finally:
        path.write_bytes(original)
    assert error.link == "firmware"
    assert hashlib.sha256(original).hexdigest()[:16] in str(error)
    assert hashlib.sha256(changed).hexdigest()[:16] in str(error)
    assert client.disk_health().state == "off"
    client.prepare_start().close()


def test_a_disk_without_the_chip_it_was_made_by_breaks_the_link_disk(
    tmp_path: Path, at: WorkstationPaths
) -> None:
    other = workstation(tmp_path)
    with born(other) as chip, chip.client() as client:
        for name in NAMES:
            shutil.copy(at.folder / name, other.folder)
        error = refused(client.prepare_start)
    assert error.link == "disk"
    assert "the chip remembers no disk" in str(error)


@pytest.mark.parametrize("name", ["sealing.key", "vault.sealed", "chip.json"])
def test_a_state_folder_with_foreign_files_does_not_open(
    tmp_path: Path, at: WorkstationPaths, name: str
) -> None:
    """Promise: neither the key file, nor the store, nor the manifest of another chip serves."""
    other = workstation(tmp_path)
    with born(other):
        pass
    shutil.copy(at.state_folder / name, other.state_folder)
    assert refused(lambda: launch(other)).link == "chip"


def test_all_of_another_vault_is_still_another_chip(tmp_path: Path, at: WorkstationPaths) -> None:
    other = workstation(tmp_path)
    with born(other):
        pass
    for name in ("sealing.key", "vault.sealed"):
        shutil.copy(at.state_folder / name, other.state_folder)
    assert "the vault is that of the chip" in str(refused(lambda: launch(other)))


@pytest.mark.parametrize(("program", "link"), [("vaultd", "chip"), ("ssdd", "disk")])
def test_a_killed_part_ends_the_chip_which_names_it(
    chip: ChipProcess, program: str, link: str
) -> None:
    with chip.client() as client, client.open_disk("nbd"):
        part(chip, program).kill()
        assert chip.process.wait(NOTICE_SECONDS) == 1
    failure = chip.failure()
    assert failure is not None
    assert failure.link == link
    assert "died (signal SIGKILL" in str(failure)
    assert refused(chip.client).link == link


def test_a_killed_chip_takes_its_parts_along(chip: ChipProcess) -> None:
    with chip.client() as client, client.open_disk("nbd"):
        parts = psutil.Process(chip.process.pid).children()
        assert {each.name() for each in parts} == {"vaultd", "ssdd"}
        chip.process.kill()
        _, alive = psutil.wait_procs(parts, timeout=NOTICE_SECONDS)
    assert not alive
    failure = chip.failure()
    assert failure is not None
    assert failure.link == "chip"


def test_a_chip_dies_with_its_parent(at: WorkstationPaths) -> None:
    script = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from spacegray.chip.launch import launch\n"
        "from spacegray.paths import WorkstationPaths\n"
        "chip = launch(WorkstationPaths('pro', *map(Path, sys.argv[1:])))\n"
        "print(chip.process.pid, flush=True)\n"
        "time.sleep(1000)\n"
    )
    folders = map(str, (at.folder, at.state_folder, at.run))
    with subprocess.Popen(
        [sys.executable, "-c", script, *folders], stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        chip = psutil.Process(int(parent.stdout.readline()))
        everyone = [chip, *chip.children()]
        parent.kill()
    _, alive = psutil.wait_procs(everyone, timeout=NOTICE_SECONDS)
    assert not alive


def test_stopping_closes_the_disk_in_order(at: WorkstationPaths) -> None:
    with launch(at) as chip, chip.client() as client:
        disk = NbdClient(client.open_disk("nbd"))
        disk.write(0, b"kept".ljust(512))
        chip.stop()
        assert chip.failure() is None
    assert not at.mailbox.exists()
    with (
        launch(at) as chip,
        chip.client() as client,
        NbdClient(client.open_disk("nbd")) as disk,
    ):
        assert disk.read(0, 512).rstrip() == b"kept"


def test_the_log_has_why_it_could_not_start(at: WorkstationPaths, tmp_path: Path) -> None:
    log = tmp_path / "chip.log"
    log.write_text("chip: link disk failed: an old one: of yesterday; forget it\n")
    kept = (at.state_folder / "chip.json").read_bytes()
    (at.state_folder / "chip.json").write_bytes(b"{}")
    try:
        assert refused(lambda: launch(at, log=log)).code == "corrupt"
    finally:
        (at.state_folder / "chip.json").write_bytes(kept)
    last = log.read_text().splitlines()[-1]
    assert last.startswith("chip: link chip failed (corrupt): reading ")


def test_what_the_host_refuses_is_one_clear_error(tmp_path: Path) -> None:
    paths = workstation(tmp_path)
    paths.state_folder.mkdir(parents=True)
    (paths.state_folder / "chip.lock").mkdir()
    error = refused(lambda: launch(paths, new=True))
    assert error.link == "chip"
    assert "chip.lock: Is a directory" in str(error)


def test_the_chip_reaches_only_its_own_files(chip: ChipProcess) -> None:
    """Promise: confined by Landlock (where the kernel has it) and without new privileges."""
    status = Path(f"/proc/{chip.process.pid}/status").read_text()
    assert "NoNewPrivs:\t1" in status


@pytest.mark.parametrize("program", ["vaultd", "ssdd"])
def test_what_holds_a_key_is_confined(chip: ChipProcess, program: str) -> None:
    """Promise: a filter on its system calls, no new privileges, no children."""
    with chip.client() as client, client.open_disk("nbd"):
        confined = part(chip, program)
        status = Path(f"/proc/{confined.pid}/status").read_text()
        assert "NoNewPrivs:\t1" in status
        assert "Seccomp:\t2" in status
        assert not confined.children()
