"""Promise 1: whoever copies the disk has noise, and whoever looks for the keys finds none."""

import os
import shutil
import subprocess

from spacegray.paths import Paths
from tests.conftest import Cli, Running
from tests.support import scan

SILICON = ("vaultd", "ssdd")
"""The two programs that hold keys: the vault all of them, the controller the disk's."""
PATTERN = b"the guest wrote this and nobody else may read it "


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
