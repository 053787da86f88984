"""The disk in its owner's hands: shown, verified, carried out and in, erased; cut off and whole."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from spacegray.nbd import NbdClient
from spacegray.sockets import connect_unix
from tests.conftest import Cli, Running
from tests.functional.test_lifecycle import part, supervisor, wait_for
from tests.support import media, offline
from tests.support.chip import unsigned_image

READY_SECONDS = 60
END_SECONDS = 60
NOISE_MIB = 256
"""An image of this size is not imported within the moment that Ctrl-C takes."""


def ssd(cli: Cli) -> dict[str, Any]:
    """`ssd show --format json`."""
    facts: dict[str, Any] = json.loads(cli("ssd", "show", "pro", "--format", "json").stdout)
    return facts


@contextlib.contextmanager
def target_disk(cli: Cli, path: Path) -> Iterator["subprocess.Popen[str]"]:
    """`target-disk` in the background, ended as Ctrl-C would."""
    process = cli.popen("target-disk", "pro", "--socket", str(path))
    assert process.stdout is not None
    line = process.stdout.readline()
    assert str(path) in line, line + process.stdout.read()
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGINT)
        process.communicate(timeout=END_SECONDS)


def test_the_ssd_says_how_it_is_on_and_off(workstation: Running):
    cli = workstation.cli
    cli.shell("sh", "-c", "head -c 4000000 /dev/urandom > /data/some; sync")
    on = ssd(cli)
    cli("stop", "pro")
    off = ssd(cli)
    for facts in (on, off):
        assert facts["capacity_bytes"] == 10**12
        assert facts["health"] == "good", facts["reason"]
        assert facts["write_amplification"] >= 1
        assert facts["errors"] == 0
        assert facts["strict"] is False
        assert facts["physical_bytes"] >= facts["used_bytes"] > 4_000_000
        assert [Path(module["path"]).name for module in facts["modules"]] == [
            "flash-0.module", "flash-1.module",
        ]  # fmt: skip
        assert all(Path(module["path"]).exists() for module in facts["modules"])
    assert off["opens"] > on["opens"]
    assert off["host_written_blocks"] >= on["host_written_blocks"]
    table = cli("ssd", "show").stdout
    assert "good" in table
    assert "write amplification" in table


def test_everything_verifies_on_and_off(workstation: Running):
    cli = workstation.cli
    for _ in ("on", "off"):
        found = json.loads(cli("ssd", "verify", "pro", "--format", "json").stdout)
        assert found["checked_blocks"] > 1000
        assert (found["bad_blocks"], found["bad"]) == (0, [])
        cli("stop", "pro")
    done = cli("ssd", "verify")
    assert "as they were written" in done.stdout
    assert "verifying the disk of pro: 100 %" in done.stdout


def test_a_bad_block_is_named_by_its_place_and_the_exit_status(cli: Cli):
    """Single bytes are changed where creation wrote the system, and changed back."""
    cli("create", "pro", "--edition", "tiny", "--yes")
    module = cli.paths.workstation("pro").folder / "flash-0.module"
    places = [int(module.stat().st_size * share / 100) for share in range(20, 60, 4)]
    flip(module, places)
    done = cli("ssd", "verify", "pro", "--format", "json", check=False)
    assert done.returncode == 1, done.stderr
    found = json.loads(done.stdout)
    assert 0 < found["bad_blocks"] <= len(places)
    assert found["bad_blocks"] == sum(each["count"] for each in found["bad"])
    assert all(each["offset_bytes"] == 4096 * each["block"] for each in found["bad"])
    assert {each["partition"] for each in found["bad"]} <= {"esp", "system", "verity"}
    table = cli("ssd", "verify", check=False)
    assert table.returncode == 1
    assert str(found["bad"][0]["offset_bytes"]) in table.stdout
    flip(module, places)
    assert json.loads(cli("ssd", "verify", "--format", "json").stdout)["bad_blocks"] == 0


def flip(path: Path, places: list[int]) -> None:
    """Change one bit at each of these bytes of a file."""
    with path.open("r+b") as file:
        for place in places:
            file.seek(place)
            byte = file.read(1)
            file.seek(place)
            file.write(bytes([byte[0] ^ 1]))


BUSY = "(while :; do {}; done) > /dev/null 2>&1 &"
"""Goes on in the guest after the shell that began it."""


def test_what_was_synced_survives_a_power_cut_of_everything(workstation: Running):
    """SIGKILL to the supervisor, which takes chip, controller and QEMU with it, in mid-write."""
    cli = workstation.cli
    cli.shell("sh", "-c", "echo synced > /data/synced; sync /data/synced; sync")
    cli.shell("sh", "-c", BUSY.format("head -c 3000000 /dev/urandom > /data/busy"))
    time.sleep(2)
    supervisor(cli).kill()
    wait_for(cli, "failed", 20)
    cli("start", "pro")
    assert cli.shell("cat", "/data/synced").stdout == "synced\n"
    disk = next(link for link in cli.show()["links"] if link["link"] == "disk")
    assert "recovered after a power cut" in disk["detail"]
    assert ssd(cli)["power_cuts"] >= 1
    cli.shell("rm", "-f", "/data/busy", "/data/synced")


def test_the_file_system_is_whole_after_power_cuts(workstation: Running):
    """The chip is killed in mid-write, twice; then e2fsck finds nothing on the data volume."""
    cli = workstation.cli
    for number in range(2):
        cli.shell("sh", "-c", f"mkdir -p /data/d{number}; cp -r /etc /data/d{number}; sync")
        cli.shell("sh", "-c", BUSY.format(f"cp -r /etc /data/d{number}/again"))
        time.sleep(1)
        part(cli, "spacegray.chip").kill()
        wait_for(cli, "failed", 20)
        cli("start", "pro")
        names = cli.shell("ls", "/data").stdout.split()
        assert {f"d{each}" for each in range(number + 1)} <= set(names)
    cli.shell("sh", "-c", "rm -rf /data/d?; sync")
    cli("stop", "pro")
    image = cli.home / "check.raw"
    cli("export", "pro", str(image))
    start, _ = offline.partition(cli, "data")
    try:
        done = subprocess.run(
            ["e2fsck", "-f", "-n", f"{image}?offset={start}"],
            env={**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"},
            capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
    finally:
        image.unlink()
    assert done.returncode == 0, done.stdout + done.stderr


def test_strict_counts_from_the_next_power_on(powered_off: Running):
    cli = powered_off.cli
    spec = cli.paths.workstation("pro").spec
    text = spec.read_text()
    assert "strict = false" in text
    spec.write_text(text.replace("strict = false", "strict = true"))
    try:
        cli("start", "pro")
        disk = next(link for link in cli.show()["links"] if link["link"] == "disk")
        assert "strict" in disk["detail"]
        assert ssd(cli)["strict"] is True
        cli.shell("sh", "-c", "echo strictly > /data/strict; sync /data/strict; rm /data/strict")
        cli("stop", "pro")
    finally:
        spec.write_text(text)


def test_target_disk_serves_the_plain_disk_and_holds_the_machine(
    powered_off: Running, tmp_path: Path
):
    cli = powered_off.cli
    path = tmp_path / "disk.sock"
    with target_disk(cli, path) as process:
        assert path.stat().st_mode & 0o777 == 0o600
        clients = [NbdClient(connect_unix(path)) for _ in range(2)]
        for client in clients:
            assert client.size_bytes == 10**12
            assert client.read(0, 512)[510:] == b"\x55\xaa", "no partition table"
        for client in clients:
            with client:
                pass
        assert "target disk mode" in cli.show()["busy"]
        assert "target disk mode" in cli("show").stdout
        for words in (
            ("start", "pro"),
            ("export", "pro", str(tmp_path / "image")),
            ("restore", "pro", "--yes"),
            ("target-disk", "pro", "--socket", str(tmp_path / "other")),
            ("delete", "pro", "--yes"),
        ):
            refused = cli(*words, check=False)
            assert refused.returncode == 1, words
            assert "target disk mode" in refused.stderr, words
            assert len(refused.stderr.strip().splitlines()) == 1, refused.stderr
        assert sorted(tmp_path.iterdir()) == [path]
        assert ssd(cli)["health"] == "good"
        process.terminate()
        output = process.communicate(timeout=END_SECONDS)[0]
        assert process.returncode == 0, output
    assert not path.exists()
    assert cli.show()["busy"] is None
    cli("start", "pro")
    for words in (
        ("target-disk", "pro", "--socket", str(path)),
        ("export", "pro", str(tmp_path / "image")),
        ("restore", "pro", "--yes"),
    ):
        refused = cli(*words, check=False)
        assert refused.returncode == 1, words
        assert "`stop pro` first" in refused.stderr
    assert not list(tmp_path.iterdir())


def test_target_disk_takes_the_place_of_nothing(powered_off: Running, tmp_path: Path):
    cli = powered_off.cli
    file, stale = tmp_path / "file", tmp_path / "stale"
    file.write_text("precious")
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(stale))
    for path, says in (
        (file, "there is a file already"),
        (stale, "nobody serves was left there; remove it"),
        (tmp_path / "none" / "socket", "there is no folder"),
        (tmp_path / ("x" * 120), "longer than the 107 bytes"),
        (Path("/proc/socket"), "another path"),
    ):
        done = cli("target-disk", "pro", "--socket", str(path), check=False)
        assert done.returncode == 2, path
        assert says in done.stderr, done.stderr
        assert "Traceback" not in done.stderr
    assert file.read_text() == "precious"
    assert stale.is_socket()


def test_a_killed_target_disk_is_a_power_cut_and_holds_nothing(
    powered_off: Running, tmp_path: Path
):
    cli = powered_off.cli
    before = ssd(cli)["power_cuts"]
    with target_disk(cli, tmp_path / "disk.sock") as process:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert cli.show()["busy"] is None
    after = ssd(cli)
    assert (after["power_cuts"], after["health"]) == (before + 1, "good")


def test_exported_erased_and_imported_it_boots_again(workstation: Running, tmp_path: Path):
    """And what was on it is there; in between there is nothing, and it says so."""
    cli = workstation.cli
    cli.shell("sh", "-c", "echo carried > /data/kept; sync")
    cli("stop", "pro")
    images = {kind: tmp_path / f"disk.{kind}" for kind in ("raw", "qcow2")}
    for kind, image in images.items():
        assert "exporting: 100 %" in cli("export", "pro", str(image)).stdout
        assert image.stat().st_mode & 0o777 == 0o600
        info = json.loads(qemu_img("info", "--output=json", str(image)))
        assert (info["format"], info["virtual-size"]) == (kind, 10**12)
        assert info["actual-size"] < 1 << 30, "the image is not sparse"
    assert sorted(tmp_path.iterdir()) == sorted(images.values())
    compared = qemu_img("compare", "-f", "raw", "-F", "qcow2", *map(str, images.values()))
    assert b"identical" in compared

    done = cli("erase", "pro", check=False)
    assert done.returncode == 2
    assert "give --yes" in done.stderr
    assert ssd(cli)["used_bytes"] > 0
    cli("erase", "pro", "--yes")
    assert (ssd(cli)["health"], ssd(cli)["used_bytes"]) == ("erased", 0)
    empty = cli("start", "pro", check=False)
    assert empty.returncode == 1
    assert "its disk is empty" in empty.stderr
    assert "`import pro FILE`" in empty.stderr
    assert len(empty.stderr.strip().splitlines()) == 1

    interrupted_import(cli, tmp_path / "noise.raw")
    assert "its disk is empty" in cli("start", "pro", check=False).stderr
    foreign_import(cli, tmp_path / "foreign.raw")
    said = cli("import", "pro", str(images["qcow2"])).stdout
    assert "importing: 100 %" in said
    assert "another system" not in said
    taken = sum(module["allocated_bytes"] for module in ssd(cli)["modules"])
    assert taken < 1 << 30, "the import wrote more than the image holds"
    cli("start", "pro")
    assert cli.shell("cat", "/data/kept").stdout == "carried\n"


def foreign_import(cli: Cli, image: Path) -> None:
    """Another system's disk is taken for what it is: Full Security refuses it, nothing is ours."""
    loader = unsigned_image(b"a loader of nobody's" * 100)
    media.disk(image, {"EFI/BOOT/BOOTX64.EFI": loader})
    assert "the disk is another system's" in cli("import", "pro", str(image)).stdout
    refused = cli("start", "pro", check=False)
    assert refused.returncode == 1
    assert "'kernel'" in refused.stderr
    assert cli.show()["target"] == "other"
    for verb in ("update", "reinstall"):
        said = cli(verb, "pro", check=False)
        assert said.returncode == 1
        assert "the system on its disk is another than ours" in said.stderr


def interrupted_import(cli: Cli, image: Path) -> None:
    """Begin an import and end it by Ctrl-C: one line, and nobody holds the machine."""
    with image.open("wb") as file:
        for _ in range(NOISE_MIB):
            file.write(os.urandom(1 << 20))
    at = cli.paths.workstation("pro")
    importing = cli.popen("import", "pro", str(image))
    deadline = time.monotonic() + READY_SECONDS
    while not at.holder.exists():
        assert importing.poll() is None, importing.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(importing.pid, signal.SIGINT)
    output = importing.communicate(timeout=END_SECONDS)[0]
    assert importing.returncode == 130, output
    assert "Traceback" not in output
    assert cli.show()["busy"] is None
    assert not list(at.run.glob("image"))


def qemu_img(*words: str) -> bytes:
    """What qemu-img says; it must succeed."""
    return subprocess.run(["qemu-img", *words], capture_output=True, check=True).stdout


def test_export_keeps_what_is_there_unless_told(powered_off: Running, tmp_path: Path):
    cli = powered_off.cli
    image = tmp_path / "disk.qcow2"
    image.write_text("precious")
    done = cli("export", "pro", str(image), check=False)
    assert done.returncode == 2
    assert "that file exists" in done.stderr
    assert image.read_text() == "precious"
    cli("export", "pro", str(image), "--yes")
    assert image.read_bytes()[:4] == b"QFI\xfb"
    assert [path.name for path in tmp_path.iterdir()] == [image.name]


def test_an_interrupted_export_leaves_nothing_and_holds_nothing(
    powered_off: Running, tmp_path: Path
):
    cli = powered_off.cli
    image = tmp_path / "disk.raw"
    exporting = cli.popen("export", "pro", str(image))
    deadline = time.monotonic() + READY_SECONDS
    while not list(tmp_path.iterdir()):
        assert exporting.poll() is None, exporting.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(exporting.pid, signal.SIGINT)
    output = exporting.communicate(timeout=END_SECONDS)[0]
    assert exporting.returncode == 130, output
    assert "Traceback" not in output
    assert not list(tmp_path.iterdir())
    assert cli.show()["busy"] is None


def test_what_cannot_be_imported_changes_nothing(powered_off: Running, tmp_path: Path):
    cli = powered_off.cli
    before = json.loads(cli("ssd", "verify", "--format", "json").stdout)
    good, large, difference = (tmp_path / name for name in ("good", "large", "difference"))
    good.write_bytes(bytes(1 << 20))
    with large.open("wb") as file:
        file.truncate(10**12 + 4096)
    qemu_img("create", "-q", "-f", "qcow2", "-F", "raw", "-b", str(good), str(difference))
    secret = tmp_path / "secret"
    secret.write_text("nobody may read this")
    secret.chmod(0)
    for words, says in (
        ((str(large),), "do not fit"),
        ((str(good), "--image-format", "qcow2"), "format qcow2"),
        ((str(difference), "--image-format", "qcow2"), "whole only with"),
        ((str(tmp_path / "none"),), "No such file"),
        ((str(tmp_path),), "Is a directory"),
        (("/dev/null",), "no file"),
        ((str(secret),), "may not read it"),
    ):
        done = cli("import", "pro", *words, check=False)
        assert done.returncode in (1, 2), words
        assert says in done.stderr, done.stderr
        assert "Traceback" not in done.stderr
    assert json.loads(cli("ssd", "verify", "--format", "json").stdout) == before
