"""Root in the guest: a program that writes firmware variables past every convention, and scripts.

The guest has no tool for it, so one comes along: it takes the protection from a variable's file
first, as `chattr -i` does, and says of each write what the firmware answered.
"""

import base64
import gzip
import struct
import subprocess
import uuid
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from spacegray.chip import store
from tests.conftest import Cli

PROGRAM = "/dev/shm/variables"
WRITE_SECONDS = 60
USUAL = store.NON_VOLATILE | store.BOOT_SERVICE | store.RUNTIME
"""The attributes that a system gives to what is to last; without RUNTIME Linux takes nothing."""
APPEND = 0x40
AUTHENTICATED = USUAL | store.TIME_AUTHENTICATED | APPEND

SOURCE = r"""
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

static int put(const char *name, const unsigned char *content, size_t size) {
    char path[512];
    int flags = 0;
    snprintf(path, sizeof path, "/sys/firmware/efi/efivars/%s", name);
    int file = open(path, O_RDONLY);
    if (file >= 0) {
        if (ioctl(file, FS_IOC_GETFLAGS, &flags) == 0) {
            flags &= ~FS_IMMUTABLE_FL;
            ioctl(file, FS_IOC_SETFLAGS, &flags);
        }
        close(file);
    }
    file = open(path, O_WRONLY | O_CREAT, 0644);
    if (file < 0) return errno;
    int failed = write(file, content, size) == (ssize_t)size ? 0 : errno;
    close(file);
    return failed;
}

int main(int count, char **words) {
    static char name[256], digits[1 << 16];
    static unsigned char content[1 << 15];
    while (scanf("%255s %65535s", name, digits) == 2) {
        size_t size = strlen(digits) / 2;
        for (size_t at = 0; at < size; at++) sscanf(digits + 2 * at, "%2hhx", content + at);
        printf("%s %d\n", name, put(name, content, size));
    }
    if (count > 1) {
        /* Until there is no room left. */
        for (int number = 0, failed = 0; !failed; number++) {
            memset(content, number, 1024);
            memcpy(content, "\7\0\0\0", 4);
            snprintf(name, sizeof name, "Filler%04d-%s", number, words[1]);
            failed = put(name, content, 1024);
            if (failed) printf("full %d\n", number);
        }
    }
    return 0;
}
"""


@cache
def _program() -> bytes:
    with TemporaryDirectory() as folder:
        made = Path(folder, "variables")
        subprocess.run(
            ["gcc", "-static", "-Os", "-s", "-x", "c", "-o", str(made), "-"],
            input=SOURCE.encode(), check=True, timeout=WRITE_SECONDS,
        )  # fmt: skip
        return made.read_bytes()


def send(cli: Cli, content: bytes, path: str) -> None:
    """Write `content` to a file or device of the guest, as root."""
    command = f"base64 -d | gunzip | dd of={path} bs=1M conv=notrunc 2>/dev/null; sync"
    packed = base64.b64encode(gzip.compress(content, 1))
    cli("shell", "pro", "--", "sudo", "sh", "-c", command, stdin=packed)


def write_variables(
    cli: Cli,
    wanted: Mapping[tuple[str, uuid.UUID], tuple[int, bytes]],
    fill: uuid.UUID | None = None,
) -> dict[str, int]:
    """Write these, then fill the store up with variables of the vendor `fill`, if there is one.

    Returns what came of each by name: 0, or the error's number; and under `full` how many more
    there was room for.
    """
    send(cli, _program(), PROGRAM)
    lines = [
        f"{name}-{vendor} {(struct.pack('<I', attributes) + data).hex()}\n"
        for (name, vendor), (attributes, data) in wanted.items()
    ]
    command = (
        "mount -o remount,rw /sys/firmware/efi/efivars && "
        f"chmod 755 {PROGRAM} && {PROGRAM} {fill or ''}"
    )
    done = cli("shell", "pro", "--", "sudo", "sh", "-c", command, stdin="".join(lines).encode())
    said = (line.rsplit(" ", 1) for line in done.stdout.splitlines())
    return {name.partition("-")[0]: int(number) for name, number in said}


def variables(cli: Cli) -> set[str]:
    """The names of the firmware variables that the running system sees."""
    listed = cli.shell("ls", "/sys/firmware/efi/efivars").stdout.split()
    return {name[: -len(str(uuid.UUID(int=0))) - 1] for name in listed}


def variable(cli: Cli, name: str, vendor: uuid.UUID) -> bytes:
    """The content of a firmware variable as the running system sees it."""
    read = cli.shell("sudo", "base64", f"/sys/firmware/efi/efivars/{name}-{vendor}").stdout
    return base64.b64decode(read)[struct.calcsize("<I") :]


def speak_on_the_ports(cli: Cli, lines: str) -> str:
    """Say `lines` on every port that the guest has, in place of who speaks there; the answers."""
    script = f"""
    mount --bind /bin/busybox /usr/lib/spacegray/guest-agent
    for port in /sys/class/virtio-ports/*; do
        for holder in $(ls -l /proc/[0-9]*/fd 2>/dev/null | awk -v port="/dev/${{port##*/}}" '
            /^\\/proc/ {{ split($0, part, "/") }} $NF == port {{ print part[3] }}'); do
            kill -9 $holder
        done
        for attempt in $(seq 50); do
            (: <>/dev/${{port##*/}}) 2>/dev/null && break
            sleep 0.1
        done
        exec 5<>/dev/${{port##*/}}
        printf '{lines}' >&5
        timeout 1 cat <&5
        exec 5>&-
    done
    umount /usr/lib/spacegray/guest-agent
    """
    return cli.shell("sudo", "sh", "-c", script).stdout
