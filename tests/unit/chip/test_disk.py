"""The disk: made whole or not at all, one user at a time, noise to whoever has no key."""

import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from spacegray.chip.disk import Disk
from spacegray.chip.part import Part
from spacegray.errors import SpacegrayError
from spacegray.nbd import NbdClient
from tests.support.chip import StillLoop, release_key

SIZE_BYTES = 8 * 1024**2
TERABYTE = 1000**4
SECRET = b"the plain text of the guest's"
PATIENCE_SECONDS = 10.0

New = Callable[..., Disk]


@pytest.fixture
def loop() -> StillLoop:
    return StillLoop()


@pytest.fixture
def ended() -> list[Part]:
    return []


@pytest.fixture
def new(tmp_path: Path, loop: StillLoop, ended: list[Part]) -> Iterator[New]:
    made: list[Disk] = []

    def make(key: Callable[[int], None] = release_key) -> Disk:
        disk = Disk(tmp_path, tmp_path, release_key=key, watcher=loop, ended=ended.append)
        made.append(disk)
        return disk

    yield make
    for disk in made:
        disk.stop()


@pytest.fixture(scope="module")
def blank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty disk, made once: QEMU takes seconds to time its key stretching."""
    folder = tmp_path_factory.mktemp("blank")
    disk = Disk(folder, folder, release_key=release_key, watcher=StillLoop(), ended=print)
    disk.create(SIZE_BYTES)
    return disk.path


@pytest.fixture
def disk(new: New, blank: Path) -> Disk:
    """A disk of one's own."""
    made = new()
    shutil.copy(blank, made.path)
    return made


def daemons() -> list[psutil.Process]:
    children = psutil.Process().children()
    return [each for each in children if each.name().startswith("qemu-storage")]


def test_what_is_written_is_there_later_and_is_noise_on_the_host(disk: Disk) -> None:
    with NbdClient(disk.start("nbd")) as client:
        assert client.size_bytes == SIZE_BYTES
        client.write(4096, SECRET)
        client.flush()
    disk.stop()
    assert SECRET not in disk.path.read_bytes()
    with NbdClient(disk.start("nbd")) as client:
        assert client.read(4096, len(SECRET)) == SECRET


def test_a_terabyte_takes_no_room(new: New) -> None:
    disk = new()
    disk.create(TERABYTE)
    health = disk.health()
    assert health.state == "off"
    assert health.file_size_bytes > TERABYTE
    assert health.allocated_bytes < 1024**2
    assert disk.path.stat().st_mode & 0o777 == 0o600


def test_there_is_never_a_second_disk_in_its_place(disk: Disk) -> None:
    content = disk.path.read_bytes()
    with pytest.raises(SpacegrayError, match="one already"):
        disk.create(SIZE_BYTES)
    assert disk.path.read_bytes() == content


def test_a_cut_off_attempt_is_no_obstacle(new: New, tmp_path: Path) -> None:
    (tmp_path / ".flash.luks.new").write_bytes(b"half made")
    new().create(SIZE_BYTES)
    assert [each.name for each in tmp_path.iterdir()] == ["flash.luks"]


def test_a_vault_that_refuses_leaves_nothing(new: New, tmp_path: Path) -> None:
    def refuse(_: int) -> None:
        raise SpacegrayError("releasing the disk's key", "no", "ask again", link="chip")

    disk = new(refuse)
    with pytest.raises(SpacegrayError, match="releasing"):
        disk.create(SIZE_BYTES)
    assert not list(tmp_path.iterdir())


def test_a_full_host_disk_is_one_clear_error_and_leaves_nothing(tmp_path: Path) -> None:
    script = f"""
import os, sys
from pathlib import Path
from tests.support.chip import StillLoop, release_key
from spacegray.chip.disk import Disk
folder = Path(sys.argv[1])
(folder / "filler").write_bytes(bytes(200_000))
disk = Disk(folder, folder, release_key=release_key, watcher=StillLoop(), ended=print)
try:
    disk.create({TERABYTE})
except Exception as error:
    print(error)
print(os.listdir(folder))
"""
    inside = f'mount -t tmpfs -o size=300k none "{tmp_path}" && exec "$@"'
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", inside, "sh"]
    if subprocess.run([*command, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this host grants no user namespaces with mounts, for a small full disk")
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [*command, sys.executable, "-c", script, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": f"{root}:{root / 'src'}"},
    )
    assert "No space left on device; make room" in done.stdout
    assert done.stdout.splitlines()[-1] == "['filler']"


def test_one_user_at_a_time(disk: Disk, new: New) -> None:
    first, second = disk, new()
    with first.start("nbd"):
        with pytest.raises(SpacegrayError, match="in use"):
            first.start("nbd")
        with pytest.raises(SpacegrayError, match="in use by another process"):
            second.start("nbd")
        assert len(daemons()) == 1
        assert first.health().state == "served"
    first.stop()
    second.start("nbd").close()


def test_another_chips_disk_does_not_open(disk: Disk, new: New) -> None:
    """Promise: a disk without its chip is noise."""
    assert disk.health().state == "off"
    stranger = new(lambda pipe: release_key(pipe, b"A" * 44))
    with pytest.raises(SpacegrayError, match="this chip's key does not open it") as caught:
        stranger.start("nbd")
    assert caught.value.link == "disk"
    assert not daemons()


def test_a_damaged_header_is_one_clear_error(disk: Disk) -> None:
    with disk.path.open("r+b") as file:
        file.write(bytes(4096))
    with pytest.raises(SpacegrayError) as caught:
        disk.start("nbd")
    assert caught.value.link == "disk"
    assert "in use" not in str(caught.value)
    assert not daemons()


def test_a_missing_disk_is_one_clear_error(new: New) -> None:
    disk = new()
    assert disk.health().state == "none"
    with pytest.raises(SpacegrayError, match="No such file"):
        disk.start("nbd")


def test_a_dead_daemon_is_noticed_and_named(disk: Disk, loop: StillLoop, ended: list[Part]) -> None:
    with disk.start("vhost-user-blk"):
        (daemon,) = daemons()
        daemon.send_signal(signal.SIGKILL)
        while not ended:
            readable, _, _ = select.select(list(loop.watched), [], [], PATIENCE_SECONDS)
            assert readable, "its end was not noticed"
            for descriptor in readable:
                if descriptor in loop.watched:
                    loop.watched[descriptor]()
    health = disk.health()
    assert health.state == "failed"
    assert "SIGKILL" in health.detail
    with pytest.raises(SpacegrayError, match="newest writes may be missing"):
        disk.stop()


def test_nobody_else_can_reach_the_front(disk: Disk, tmp_path: Path) -> None:
    """Promise: the one connection is handed over; no path leads to the decrypted disk."""
    with disk.start("nbd"):
        assert [each.name for each in tmp_path.iterdir()] == ["flash.luks"]
        (daemon,) = daemons()
        assert not daemon.net_connections("inet")


def test_the_key_is_in_no_argument_or_variable(disk: Disk) -> None:
    with disk.start("nbd"):
        (daemon,) = daemons()
        seen = "\0".join([*daemon.cmdline(), *daemon.environ().values()]).encode()
    secret = b"MDEyMzQ1Njc4OTAxMjM0"
    assert b"/dev/fd/" in seen
    assert secret not in seen
