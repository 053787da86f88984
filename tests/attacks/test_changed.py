"""Promises 3 and 4: what was changed does not start, or is an I/O error, and the link is named.

Here it is seen as its owner sees it. What else is refused where, without that: `test_boot_policies`
(images of others), `test_boot_swapped` (each file and part).
"""

import json
import subprocess

import pefile
import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_der_x509_certificate

from spacegray.boot.authority import embedded
from tests.conftest import Cli, Running
from tests.support import offline

KERNEL_IMAGE_SPAN_BYTES = 64 << 20


@pytest.fixture
def target(powered_off: Running) -> Cli:
    """A workstation that is off; each attack here undoes what it changed."""
    return powered_off.cli


def assert_fails_at(cli: Cli, link: str, *words: str) -> None:
    """Starting fails at `link`, and `show` and `logs` say so; nothing is left running."""
    done = cli("start", "pro", check=False)
    assert done.returncode == 1, done.stdout
    assert f"'{link}'" in done.stderr
    for word in words:
        assert word in done.stderr
    facts = cli.show()
    assert (facts["state"], facts["link"]) == ("failed", link)
    logs = cli("logs", "pro").stdout
    assert any(link in line and "FAILED" in line for line in logs.splitlines())
    log = cli.paths.workstation("pro").logs / "serial.log"
    # A machine that was never powered on has said nothing.
    serial = log.read_bytes() if log.exists() else b""
    for way_out in (b"Shell>", b"Start PXE", b"Start HTTP", b"Boot Manager"):
        assert way_out not in serial


def undo(cli: Cli, offset: int) -> None:
    with offline.disk(cli) as disk:
        offline.flip(disk, offset)


def kernel_image(cli: Cli) -> tuple[int, bytes]:
    """Where on the disk the kernel image begins, and what follows from there."""
    start = offline.of_the_slot(cli, "esp")
    with offline.disk(cli) as disk:
        content = disk.read(start, KERNEL_IMAGE_SPAN_BYTES)
    # The DOS header that every EFI image begins with, at the start of a cluster.
    position = next(at for at in range(0, len(content), 4096) if content[at : at + 2] == b"MZ")
    return start + position, content[position:]


def test_a_changed_command_line_stops_the_boot(target: Cli):
    """In the signed kernel image; what was expected and what was found is said."""
    start, content = kernel_image(target)
    image = pefile.PE(data=content, fast_load=True)
    section = next(s for s in image.sections if s.Name.rstrip(b"\0") == b".cmdline")
    offset = start + section.PointerToRawData + section.Misc_VirtualSize // 2
    chip = json.loads(target("chip", "show", "--format", "json").stdout)
    expected = chip["slots"][chip["current"]]["kernel"]
    with offline.disk(target) as disk:
        offline.flip(disk, offset)
    try:
        assert_fails_at(
            target, "kernel", "Secure Boot refused the kernel image",
            f"expected SHA-256 {expected}", "found", "`recovery pro`",
        )  # fmt: skip
    finally:
        undo(target, offset)


def test_a_changed_byte_of_the_firmware_stops_the_start(target: Cli):
    firmware = target.paths.workstation("pro").slot(offline.slot(target)).firmware
    content = firmware.read_bytes()
    changed = bytearray(content)
    changed[len(changed) // 2] ^= 1
    firmware.chmod(0o600)
    firmware.write_bytes(changed)
    try:
        assert_fails_at(target, "firmware", "expected SHA-256", "found", "`reinstall pro`")
    finally:
        firmware.write_bytes(content)


def test_a_changed_superblock_of_the_system_volume_stops_the_boot(target: Cli):
    start = offline.of_the_slot(target, "system")
    with offline.disk(target) as disk:
        offline.flip(disk, start + 1024)
    try:
        assert_fails_at(target, "system")
    finally:
        undo(target, start + 1024)


def test_a_changed_hash_tree_stops_the_boot(target: Cli):
    start = offline.of_the_slot(target, "verity")
    with offline.disk(target) as disk:
        saved = disk.read(start, 1 << 20)
        disk.write(start, bytes(1 << 20))
    try:
        assert_fails_at(target, "system")
    finally:
        with offline.disk(target) as disk:
            disk.write(start, saved)


def test_with_every_change_undone_it_starts_again(target: Cli):
    """The control: it was those single changes that stopped the boot, each time."""
    target("start", "pro")
    assert target.show()["state"] == "running"


def test_a_changed_system_file_is_an_error_when_it_is_read(workstation: Running):
    """Root in the guest writes to the volume below the seal of the running system."""
    cli = workstation.cli
    largest = cli.shell(
        "sh", "-c", "find /usr -xdev -type f -size +300k | grep -v -e busybox -e libc | head -1"
    ).stdout.strip()
    assert largest, "no file to attack"
    good = cli.shell("sh", "-c", f"sha256sum {largest}").stdout
    assert good
    # Every block of the volume's second half: whatever holds the file is among them.
    blocks = cli.shell("sudo", "sh", "-c", "cat /sys/block/dm-0/size").stdout
    size = int(blocks) * 512
    volume = offline.device(cli, "system")
    script = (
        f"dd if={volume} of=/data/saved bs=4096 2>/dev/null count={size // 4096} && sync && "
        f"dd if=/dev/urandom of={volume} bs=4096 seek=16 count={size // 4096 - 16} "
        "conv=notrunc 2>/dev/null; sync; echo 3 > /proc/sys/vm/drop_caches; "
        f"cat {largest} > /dev/null; echo status $?; "
        f"dd if=/data/saved of={volume} bs=4096 conv=notrunc 2>/dev/null; sync"
    )
    done = cli.shell("sudo", "sh", "-c", script, check=False)
    assert "status 1" in done.stdout, done.stdout + done.stderr
    logs = cli("logs", "pro").stdout
    assert any("system" in line and "corrupted" in line for line in logs.splitlines())
    cli("stop", "pro", "--timeout", "20")


def test_the_machine_runs_with_nothing_bypassed(workstation: Running):
    """A chain with a way around it is none: the arguments of the running QEMU."""
    from tests.functional.test_lifecycle import part

    words = part(workstation.cli, "qemu-system").cmdline()
    line = " ".join(words)
    assert "smm=on" in line
    assert "smm=off" not in line
    assert "driver=cfi.pflash01,property=secure,value=on" in line
    assert "-kernel" not in words
    assert "-append" not in words
    assert "-initrd" not in words
    assert "vhost-user-blk-pci" in line
    assert "share=on" in line
    assert "-sandbox" in words
    assert "if=" not in line, "a drive that the chip knows nothing of"
    assert str(workstation.cli.home) not in line, "a path of ours instead of a descriptor"
    command_line = workstation.cli.shell("cat", "/proc/cmdline").stdout
    assert workstation.cli.show()["root_hash"] in command_line


def test_the_signature_on_the_disk_is_one_that_others_can_check(powered_off: Running, tmp_path):
    """sbverify (sbsigntool) accepts the kernel image on the disk as the vendor's."""
    cli = powered_off.cli
    with embedded(cli.paths.authority) as authority:
        certificate = load_der_x509_certificate(authority.identity().vendor)
    _, content = kernel_image(cli)
    signatures = pefile.PE(data=content, fast_load=True).OPTIONAL_HEADER.DATA_DIRECTORY[4]
    image = tmp_path / "kernel.efi"
    image.write_bytes(content[: signatures.VirtualAddress + signatures.Size])
    (tmp_path / "vendor.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    done = subprocess.run(
        ["sbverify", "--cert", str(tmp_path / "vendor.pem"), str(image)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert "Signature verification OK" in done.stdout + done.stderr
