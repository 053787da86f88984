"""Media to start from, made without root: disks with a boot partition, and what lies on it.

What Debian made is taken as it is: shim and GRUB from its archive, which the set-up unpacks into
`.build/debian`, and the kernel out of a system image of ours, which is Debian's with Debian's
signature. Ours is that kernel's first program, which says that it runs and switches off.
"""

import subprocess
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import pefile

from spacegray.system.inside import cpio

ROOT = Path(__file__).parents[2]
DEBIAN = ROOT / ".build" / "debian"
SHIM = DEBIAN / "usr/lib/shim/shimx64.efi.signed"
GRUB = DEBIAN / "usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed"
BOOT_FILE = "EFI/BOOT/BOOTX64.EFI"
MIB = 1024**2
DISK_BYTES = 64 * MIB
FIRST_BYTES = MIB
SECTOR_BYTES = 512
ESP_KIND = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
TOOL_SECONDS = 60

SAID_BY_LINUX = b"started by Debian's own chain"
GRUB_CONFIGURATION = b"linux /vmlinuz console=ttyS0 quiet\ninitrd /initrd\nboot\n"
FIRST_PROGRAM = r"""
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

int main(void) {
    char words[256];
    mkdir("/dev", 0755);
    mount("dev", "/dev", "devtmpfs", 0, "");
    int console = open("/dev/ttyS0", O_RDWR);
    mkdir("/sys", 0755);
    mount("sys", "/sys", "sysfs", 0, "");
    mount("security", "/sys/kernel/security", "securityfs", 0, "");
    int lockdown = open("/sys/kernel/security/lockdown", O_RDONLY);
    write(console, "lockdown: ", 10);
    write(console, words, read(lockdown, words, sizeof words));
    write(console, SAID, sizeof SAID - 1);
    write(console, "\n", 1);
    tcdrain(console);
    reboot(RB_POWER_OFF);
}
"""


def section(image: bytes, name: str) -> bytes:
    """What a kernel image holds under a name such as `.linux`."""
    parsed = pefile.PE(data=image, fast_load=True)
    found = next(each for each in parsed.sections if each.Name.rstrip(b"\0") == name.encode())
    content: bytes = found.get_data()[: found.Misc_VirtualSize]
    return content


def of_another_build(image: bytes) -> bytes:
    """The same kernel image as another day's build would have it: its command line differs."""
    before = section(image, ".cmdline")
    after = before.replace(b"loglevel=4", b"loglevel=5")
    assert image.count(before) == 1
    assert after != before
    return image.replace(before, after)


@cache
def first_program() -> bytes:
    """An initramfs whose only program says SAID_BY_LINUX on the serial line and powers off."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder, "tree")
        tree.mkdir()
        said = f'-DSAID="{SAID_BY_LINUX.decode()}"'
        subprocess.run(
            ["gcc", "-static", "-Os", "-s", said, "-x", "c", "-o", str(tree / "init"), "-"],
            input=FIRST_PROGRAM.encode(), check=True, timeout=TOOL_SECONDS,
        )  # fmt: skip
        return cpio.pack(tree)


def debians_chain(kernel: bytes) -> dict[str, bytes]:
    """What lies on a boot partition that starts shim, GRUB and `kernel`, one after the other."""
    return {
        BOOT_FILE: SHIM.read_bytes(),
        "EFI/BOOT/grubx64.efi": GRUB.read_bytes(),
        "EFI/debian/grub.cfg": GRUB_CONFIGURATION,
        "vmlinuz": kernel,
        "initrd": first_program(),
    }


def disk(path: Path, files: Mapping[str, bytes], size_bytes: int = DISK_BYTES) -> Path:
    """A raw disk at `path` with one partition, the firmware's, and these files on it."""
    esp_bytes = size_bytes - 2 * FIRST_BYTES
    with path.open("wb") as file:
        file.truncate(size_bytes)
    first, length = FIRST_BYTES // SECTOR_BYTES, esp_bytes // SECTOR_BYTES
    _run(
        "sfdisk", "--quiet", "--no-tell-kernel", "--no-reread", str(path),
        given=f"label: gpt\nstart={first}, size={length}, type={ESP_KIND}\n".encode(),
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        esp = Path(folder, "esp")
        with esp.open("wb") as file:
            file.truncate(esp_bytes)
        _run("mkfs.vfat", "-F32", str(esp))
        parents = {str(parent) for name in files for parent in Path(name).parents} - {"."}
        if parents:
            _run("mmd", "-i", str(esp), *(f"::/{parent}" for parent in sorted(parents)))
        for name, content in files.items():
            _run("mcopy", "-i", str(esp), "-", f"::/{name}", given=content)
        with path.open("r+b") as file:
            file.seek(FIRST_BYTES)
            file.write(esp.read_bytes())
    return path


def _run(*command: str, given: bytes = b"") -> None:
    environment = {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "MTOOLS_SKIP_CHECK": "1"}
    subprocess.run(
        command, input=given, capture_output=True, check=True, env=environment,
        timeout=TOOL_SECONDS,
    )  # fmt: skip
