"""Bad days: resets, panics, kills, Ctrl-C. Each ends in an explicit state and loses nothing."""

import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from spacegray.errors import SpacegrayError
from spacegray.links import chain
from spacegray.machine import external
from spacegray.workstation.api import Workstation
from tests.conftest import Cli, Running

SETTLE_SECONDS = 60.0
QUIET_SECONDS = 2.0
REDRAW = b"\x0c"


def wait_for(cli: Cli, wanted: str, seconds: float = SETTLE_SECONDS) -> dict[str, object]:
    """Wait until the workstation is in the state `wanted`; returns what `show` then says."""
    deadline = time.monotonic() + seconds
    while (facts := cli.show())["state"] != wanted:
        assert time.monotonic() < deadline, f"still {facts['state']}: {facts['reason']}"
        time.sleep(0.5)
    return facts


def supervisor(cli: Cli) -> psutil.Process:
    """The supervisor's process."""
    import json

    record = json.loads(cli.paths.workstation("pro").state.read_bytes())
    return psutil.Process(int(record["supervisor"].partition("@")[0]))


def part(cli: Cli, name: str) -> psutil.Process:
    """One of the processes below the supervisor, by a word of its command line."""
    if name == "supervisor":
        return supervisor(cli)
    found = [
        child
        for child in supervisor(cli).children(recursive=True)
        if name in " ".join(child.cmdline()[:4])
    ]
    assert found, f"no process {name}"
    return found[0]


def heard(listener: socket.socket, words: bytes) -> bytes:
    """What a listener on the serial console hears, up to `words`."""
    data = b""
    while words not in data:
        chunk = listener.recv(4096)
        assert chunk, data
        data += chunk
    return data


def until_quiet(listener: socket.socket) -> None:
    """Listen until nothing more is said for a while."""
    listener.settimeout(QUIET_SECONDS)
    with contextlib.suppress(TimeoutError):
        while listener.recv(4096):
            pass


def test_power_off_from_inside_is_off(workstation: Running):
    workstation.cli.shell("sudo", "poweroff", check=False)
    facts = wait_for(workstation.cli, "off")
    assert facts["link"] is None


def test_a_reset_from_inside_comes_back_through_the_chip(workstation: Running):
    cli = workstation.cli
    before = cli.show()
    cli.shell("sudo", "reboot", check=False)
    deadline = time.monotonic() + 180
    while (facts := cli.show())["boot"] == before["boot"] or facts["state"] != "running":
        assert facts["state"] in ("running", "starting", "stopping"), facts["reason"]
        assert time.monotonic() < deadline
        time.sleep(0.5)
    assert [link["link"] for link in facts["links"]][:3] == ["chip", "firmware", "disk"]


def test_the_serial_console_is_there_for_whoever_attaches(workstation: Running):
    at = Workstation.find(workstation.cli.paths, "pro")
    with at.serial_socket() as one, at.serial_socket() as other:
        for listener in (one, other):
            listener.settimeout(SETTLE_SECONDS)
            assert b"spacegray: link data ok" in heard(listener, b"link data ok")
        workstation.cli.shell("sudo", "sh", "-c", "echo '<0>now and here' > /dev/kmsg")
        for listener in (one, other):
            heard(listener, b"now and here")
        workstation.cli("stop", "pro")
        for listener in (one, other):
            while listener.recv(4096):
                pass


def test_an_external_disk_is_plugged_in_once_the_system_runs(powered_off: Running, tmp_path: Path):
    cli, image = powered_off.cli, tmp_path / "stick.img"
    image.write_bytes(bytes(8 << 20))
    cli("start", "pro", "--external", str(image))
    with pytest.raises(SpacegrayError, match="is in use"), external.opened(image, "a second one"):
        pass
    wait_until(lambda: cli.shell("test", "-b", "/dev/sda", check=False).returncode == 0)
    cli.shell("sudo", "sh", "-c", "echo from the guest > /dev/sda; sync")
    assert image.read_bytes().startswith(b"from the guest\n")
    assert cli.show()["external"] == str(image)
    serial = (cli.paths.workstation("pro").logs / "serial.log").read_bytes()
    assert b"UsbMassStorage" not in serial
    refused = cli("start", "pro", "--external", str(tmp_path), check=False)
    assert "`stop pro` first" in refused.stderr
    cli("stop", "pro")
    with external.opened(image, "the next one"):
        pass


def test_from_an_external_disk_nothing_starts_unless_that_is_allowed(
    powered_off: Running, tmp_path: Path
):
    cli, image = powered_off.cli, tmp_path / "stick.img"
    image.write_bytes(bytes(8 << 20))
    done = cli("start", "pro", "--external", str(image), "--from-external", check=False)
    assert done.returncode == 1
    assert "security set" in done.stderr
    assert cli.show()["links"][-1]["status"] == "failed"
    for wrong in (str(tmp_path), str(tmp_path / "nothing")):
        refused = cli("start", "pro", "--external", wrong, check=False)
        assert refused.returncode == 2, refused.stderr


def test_recovery_reinstalls_the_system_and_starts_it_with_its_data(workstation: Running):
    cli = workstation.cli
    cli.shell("sh", "-c", "echo kept > /data/kept; sync")
    before = cli.show()
    cli("stop", "pro")
    cli("recovery", "pro", "--headless")
    facts = cli.show()
    assert (facts["state"], facts["target"], facts["secure_boot"]) == ("recovery", "recovery", True)
    assert [link["link"] for link in facts["links"]] == list(chain("recovery"))
    at = Workstation.find(cli.paths, "pro")
    with at.serial_socket() as serial:
        # The second entry that begins with R, and yes.
        for key in (REDRAW, b"R", b"R", b"\r", b"\r"):
            until_quiet(serial)
            serial.sendall(key)
        serial.settimeout(SETTLE_SECONDS)
        while serial.recv(4096):
            pass
    wait_for(cli, "running", 300)
    facts = cli.show()
    assert facts["target"] == "main"
    assert facts["slot"] != before["slot"]
    assert facts["boot"] == before["boot"] + 2
    assert cli.shell("cat", "/data/kept").stdout == "kept\n"


def test_a_kernel_panic_is_a_failure(workstation: Running):
    cli = workstation.cli
    cli.shell("sudo", "sh", "-c", "echo c > /proc/sysrq-trigger", check=False)
    facts = wait_for(cli, "failed")
    assert "kernel panic: sysrq triggered crash" in str(facts["reason"])


@pytest.mark.parametrize(
    ("name", "link"),
    [
        ("qemu-system", "machine"),
        ("vaultd", "chip"),
        ("spacegray.chip", "chip"),
        ("ssdd", "disk"),
        ("supervisor", None),
    ],
)
def test_a_killed_part_is_named_and_nothing_is_lost(workstation: Running, name: str, link: str):
    cli = workstation.cli
    cli.shell("sh", "-c", f"echo {name} > /data/killed; sync /data/killed")
    victim = part(cli, name)
    family = [supervisor(cli), *supervisor(cli).children(recursive=True)]
    victim.kill()
    facts = wait_for(cli, "failed", 20)
    if link is not None:
        assert facts["link"] == link
    assert facts["reason"]
    _, alive = psutil.wait_procs(family, timeout=10)
    assert not [process for process in alive if process.is_running()], "left running"
    cli("start", "pro")
    assert cli.shell("cat", "/data/killed").stdout == f"{name}\n"


def test_stop_while_it_starts_is_off(powered_off: Running):
    cli = powered_off.cli
    starting = cli.popen("start", "pro")
    deadline = time.monotonic() + 60
    while cli.show()["state"] != "starting":
        assert time.monotonic() < deadline
        time.sleep(0.1)
    cli("stop", "pro")
    assert cli.show()["state"] == "off"
    output = starting.communicate(timeout=30)[0]
    assert starting.returncode == 1
    assert "starting pro" in output


def test_two_starts_at_once_are_one(powered_off: Running):
    cli = powered_off.cli
    before = cli.show()["boot"]
    both = [cli.popen("start", "pro") for _ in range(2)]
    outputs = [process.communicate(timeout=300)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert cli.show()["boot"] == before + 1


def test_ctrl_c_while_starting_is_one_line_and_start_goes_on(powered_off: Running):
    cli = powered_off.cli
    starting = cli.popen("start", "pro")
    wait_until(lambda: cli.show()["state"] == "starting")
    os.killpg(starting.pid, signal.SIGINT)
    output = starting.communicate(timeout=30)[0]
    assert starting.returncode == 130
    assert "Traceback" not in output
    assert "interrupted" in output
    cli("start", "pro")
    assert cli.show()["state"] == "running"


def test_ctrl_c_while_creating_leaves_nothing(cli: Cli):
    creating = cli.popen("up", "other", "--edition", "tiny", "--headless", "--yes")
    at = cli.paths.workstation("other")
    wait_until(lambda: at.folder.exists() or creating.poll() is not None)
    os.killpg(creating.pid, signal.SIGINT)
    output = creating.communicate(timeout=60)[0]
    assert creating.returncode == 130, output
    assert "Traceback" not in output
    assert not at.folder.exists()
    assert not at.state_folder.exists()
    assert "there is no workstation yet" in cli("list").stdout


def wait_until(condition: Callable[[], bool], seconds: float = 120.0) -> None:
    """Wait for a condition, with a deadline."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
