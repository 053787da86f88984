"""Promise 1: whoever copies the disk has noise, and whoever looks for the keys finds none."""

import base64
import os
import shutil
import subprocess
import sys

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_der_private_key

from spacegray.paths import Paths
from tests.conftest import Cli, Running
from tests.functional.test_lifecycle import supervisor
from tests.support import scan
from tests.support.vault_store import read_secrets

SILICON = ("vaultd", "ssdd")
"""The two programs that hold keys: the vault all of them, the controller the disk's."""
PATTERN = b"the guest wrote this and nobody else may read it "


def needles(cli: Cli) -> dict[str, bytes]:
    """Both keys, in each form in which they could lie about."""
    secrets = read_secrets(cli.paths.workstation("pro").state_folder)
    disk = secrets["volume_key"]
    signing = load_der_private_key(secrets["boot_signing_key"], None)
    assert isinstance(signing, RSAPrivateKey)
    numbers = signing.private_numbers()
    found = {
        "disk key": disk,
        "disk key, hex": disk.hex().encode(),
        "disk key, base64": base64.b64encode(disk),
        "signing key, PEM": base64.b64encode(secrets["boot_signing_key"])[100:164],
    }
    for name, number in (("p", numbers.p), ("q", numbers.q), ("d", numbers.d)):
        length = (number.bit_length() + 7) // 8
        found[f"signing key {name}, big endian"] = number.to_bytes(length, "big")
        found[f"signing key {name}, little endian"] = number.to_bytes(length, "little")
    return found


def test_what_the_guest_writes_is_nowhere_in_the_folder(workstation: Running):
    cli = workstation.cli
    text = PATTERN.decode()
    cli.shell("sh", "-c", f"yes '{text}' | head -c 8000000 > /data/plain; sync")
    folder = cli.paths.workstation("pro").folder
    sought = {"pattern": PATTERN}
    assert scan.found_in_files([folder], sought) == set()
    cli("stop", "pro")
    assert scan.found_in_files([folder], sought) == set()
    # The control: on the plain disk it is there, and the scan finds it.
    plain = cli.home / "control"
    plain.mkdir()
    cli("export", "pro", str(plain / "disk.raw"))
    assert ("pattern", str(plain / "disk.raw")) in scan.found_in_files([plain], sought)
    shutil.rmtree(plain)


def test_the_keys_are_in_no_file_argument_environment_or_memory_but_the_silicons(
    workstation: Running,
):
    cli = workstation.cli
    sought = needles(cli)
    control = b"control-" + os.urandom(16).hex().encode()
    cli.shell("sh", "-c", f"echo {control.decode()} > /dev/shm/control")
    sought_with_control = {**sought, "control": control}

    assert scan.found_in_files([cli.home], sought) == set()

    looked_into = []
    for process in scan.family(supervisor(cli)):
        name = process.name()
        if name in SILICON:
            continue
        found = scan.found_in_process(process.pid, sought_with_control)
        keys = {place for needle, place in found if needle != "control"}
        assert not keys, f"{name}: a key in its {keys}"
        # The guest planted this in its own memory: the scan of QEMU must find it there.
        if "qemu-system" in name:
            assert ("control", "memory") in found
        looked_into.append(" ".join(process.cmdline()[:3]))
    assert any("qemu-system" in command for command in looked_into)
    assert any("spacegray.chip" in command for command in looked_into)
    assert any("spacegray.workstation.supervisor" in command for command in looked_into)


def test_the_scan_finds_planted_keys(created: Running, tmp_path):
    """A naive chip, that keeps its keys in a file, an argument, an environment and Python."""
    sought = needles(created.cli)
    disk_key = sought["disk key"]
    (tmp_path / "key.bin").write_bytes(b"\0" * 5_000_000 + disk_key)
    assert scan.found_in_files([tmp_path], sought) == {("disk key", str(tmp_path / "key.bin"))}
    code = "import sys, base64; key = bytes.fromhex(sys.argv[1]); print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code, disk_key.hex()],
        env={"KEY": base64.b64encode(disk_key).decode()},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as naive:
        assert naive.stdout is not None
        naive.stdout.readline()
        found = scan.found_in_process(naive.pid, sought)
        naive.kill()
    assert ("disk key", "memory") in found
    assert ("disk key, hex", "cmdline") in found
    assert ("disk key, base64", "environ") in found


@pytest.mark.parametrize("name", SILICON)
def test_the_silicon_cannot_be_looked_into_even_by_its_own_user(workstation: Running, name: str):
    if os.getuid() == 0:
        pytest.skip("needs to run as an ordinary user: root may look into every process")
    part = next(p for p in scan.family(supervisor(workstation.cli)) if p.name() == name)
    with pytest.raises(PermissionError):
        scan.found_in_process(part.pid, {"x": b"x"})


def test_a_copy_without_the_sealing_key_opens_nothing(powered_off: Running, cli: Cli):
    """The thief has the folder, the caches and even the chip's state, all but the sealing key."""
    source = powered_off.cli
    for part in ("workstations", "state"):
        # Not shutil: it would fill the holes of a disk of a terabyte.
        command = ["cp", "-a", "--sparse=always", str(source.home / part), str(cli.home)]
        subprocess.run(command, check=True, timeout=300)
    (cli.paths.workstation("pro").state_folder / "sealing.key").unlink()
    done = cli("start", "pro", check=False)
    assert done.returncode == 1
    assert "'chip'" in done.stderr
    assert cli.show()["state"] == "failed"
    # With a key of the thief's own it is no better.
    (cli.paths.workstation("pro").state_folder / "sealing.key").write_bytes(os.urandom(32))
    assert cli("start", "pro", check=False).returncode == 1
    # The control: with the true key the copy would have started.
    true = source.paths.workstation("pro").state_folder / "sealing.key"
    shutil.copy(true, cli.paths.workstation("pro").state_folder / "sealing.key")
    cli("start", "pro")
    cli("stop", "pro")


def test_the_folder_alone_has_no_keys_in_it(created: Running):
    at = created.cli.paths.workstation("pro")
    names = {path.name for path in at.folder.rglob("*")}
    assert not names & {"sealing.key", "vault.sealed", "id_ed25519", "provision"}
    assert Paths.current(created.cli.environment).workstation("pro").state_folder != at.folder
