"""A full disk, a taken port, two at once: one line, nothing half made, nothing lost."""

import os
import socket
import subprocess
from pathlib import Path

import pytest

from spacegray.console.limits import FIRST_PORT
from tests.conftest import ROOT, Cli, Running

SMALL_DISK_MB = 20


def test_two_ups_at_once_make_one_workstation(cli: Cli):
    both = [cli.popen("up", "pro", "--edition", "tiny", "--headless", "--yes") for _ in range(2)]
    outputs = [process.communicate(timeout=600)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert sum("the chip is born" in output for output in outputs) == 1
    assert sum("password " in output for output in outputs) == 1
    assert cli.show()["boot"] == 1


def test_a_killed_creation_is_begun_anew(cli: Cli):
    """SIGKILL in the middle, where nothing can be cleaned up."""
    creating = cli.popen("create", "pro", "--edition", "tiny", "--yes")
    at = cli.paths.workstation("pro")
    while not (at.folder / "flash-0.module").exists():
        assert creating.poll() is None, creating.communicate()
    os.killpg(creating.pid, 9)
    creating.wait()
    assert cli("show", "pro", check=False).returncode == 2
    cli("create", "pro", "--edition", "tiny", "--yes")
    assert cli.show()["state"] == "off"


def test_a_port_in_use_is_passed_over_and_said(powered_off: Running):
    cli = powered_off.cli
    from spacegray.console import launch

    launch.stop(cli.paths)
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind(("127.0.0.1", FIRST_PORT))
            taken.listen()
        except OSError:
            pass  # Somebody else has it, which serves as well.
        done = cli("open", "pro", "--headless")
    assert f"port {FIRST_PORT} is in use" in done.stdout
    assert f"http://127.0.0.1:{FIRST_PORT}/" not in done.stdout
    launch.stop(cli.paths)


@pytest.fixture
def small_disk(tmp_path: Path) -> list[str]:
    """The words that run a command where `tmp_path` is a file system of SMALL_DISK_MB."""
    inner = f'mount -t tmpfs -o size={SMALL_DISK_MB}m,mode=777 tmpfs {tmp_path} && exec "$@"'
    words = ["unshare", "--map-current-user", "--user", "--mount", "--keep-caps"]
    words += ["sh", "-c", inner, "sh"]
    if subprocess.run([*words, "true"], capture_output=True, check=False).returncode:
        pytest.skip("needs user namespaces with mounts, for a small disk of its own")
    return words


def test_a_full_disk_while_creating_is_one_line_and_leaves_nothing(
    created: Running, small_disk: list[str], tmp_path: Path
):
    """The system image is there; the workstation's own folder has no room for it."""
    cache = created.cli.home / "cache"
    script = (
        f"mkdir {tmp_path}/home && ln -s {cache.resolve()} {tmp_path}/home/cache && "
        f"{ROOT}/run create pro --edition tiny --yes; echo status $?; "
        f"ls -A {tmp_path}/home/workstations {tmp_path}/home/state; df {tmp_path} | tail -1"
    )
    done = subprocess.run(
        [*small_disk, "sh", "-c", script],
        env={**os.environ, "SPACEGRAY_HOME": f"{tmp_path}/home"},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert "status 1" in done.stdout, done.stdout + done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("spacegray: ")]
    assert len(lines) == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert ".module" not in done.stdout
    assert "pro\n" not in done.stdout


def test_a_second_opener_of_the_disk_is_refused(workstation: Running):
    """Another chip process on the same workstation, while its machine runs."""
    from spacegray.chip import launch
    from spacegray.errors import SpacegrayError

    with pytest.raises(SpacegrayError, match="runs already"):
        launch.launch(workstation.cli.paths.workstation("pro"))
