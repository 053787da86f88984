"""The words of QEMU's command line that every machine of ours has, and how its values are quoted.

Invariant: QEMU is told descriptors, never paths, for everything that is the user's. What is
used here exists unchanged from QEMU 7.2 to 10.
"""

import os
import socket
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from spacegray.confinement import Reach

FIRMWARE_SET: Final = 1
VARIABLES_SET: Final = 2
DISK_SET: Final = 3
MEDIUM_SET: Final = 4
EXTERNAL_SET: Final = 5
"""Numbers of QEMU's descriptor sets, by which it opens an inherited descriptor as a file."""

FIRMWARE_WAYS: Final = (
    "EFIShellSupport",
    "FirmwareSetupSupport",
    "EnableLegacyLoader",
    "VirtioNetSupport",
    "IPv4Support",
    "IPv6Support",
    "IPv4PXESupport",
    "IPv6PXESupport",
    "ISCSISupport",
)
"""What OVMF could start, or start from, beside a disk."""
USB_WAY: Final = "UsbStorageSupport"
"""Its driver for disks on USB."""

SECTOR_BYTES: Final = 512
BLOCK_BYTES: Final = 4096
"""The disk's logical and physical block size, the same over every transport."""


@dataclass(frozen=True)
class Firmware:
    """The firmware image (read-only) and its variable store (read and write), as descriptors."""

    image: int
    variables: int


def quoted(value: str) -> str:
    """`value` as it stands in a list of QEMU options: a comma is doubled."""
    return value.replace(",", ",,")


def isolation() -> list[str]:
    """No defaults, no configuration files, no windows, and the system calls that are left."""
    return [
        "-nodefaults",
        "-no-user-config",
        "-sandbox",
        "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
        "-display",
        "none",
        "-msg",
        "timestamp=off",
    ]


def descriptor_set(number: int, descriptor: int) -> list[str]:
    """Make `descriptor` known to QEMU as the file /dev/fdset/`number`."""
    return ["-add-fd", f"fd={descriptor},set={number}"]


def firmware(parts: Firmware, *, secure: bool) -> list[str]:
    """The two flash chips on the board; `secure`: only SMM code may write to them."""
    words = [
        *descriptor_set(FIRMWARE_SET, parts.image),
        *descriptor_set(VARIABLES_SET, parts.variables),
        "-blockdev",
        f"driver=raw,node-name=firmware,read-only=on,file.driver=file,"
        f"file.filename=/dev/fdset/{FIRMWARE_SET}",
        "-blockdev",
        f"driver=raw,node-name=variables,file.driver=file,file.filename=/dev/fdset/{VARIABLES_SET}",
        "-machine",
        "pflash0=firmware,pflash1=variables",
    ]
    if secure:
        words += ["-global", "driver=cfi.pflash01,property=secure,value=on"]
    return words


def file_set(name: str, number: int, descriptor: int, *, options: str = "") -> list[str]:
    """A raw image behind `descriptor`, as QEMU's block node `name`; `options` begins with a comma.

    QEMU opens it exactly as it was opened: `read-only=on` wants a descriptor that is read only.
    """
    return [
        *descriptor_set(number, descriptor),
        "-blockdev",
        f"driver=raw,node-name={name}{options},"
        f"file.driver={file_driver(descriptor)},file.filename=/dev/fdset/{number}",
    ]


def file_driver(descriptor: int) -> str:
    """QEMU's driver for what is behind `descriptor`, a regular file or a block device."""
    return "host_device" if stat.S_ISBLK(os.fstat(descriptor).st_mode) else "file"


def closed_ways(*, usb: bool) -> list[str]:
    """Keep the firmware from every start but a disk's (edk2, OvmfPkg/RUNTIME_CONFIG.md).

    `usb`: disks on USB are left to it, else not. The chip's variables already leave it one way
    only; a firmware that does not know one of these ignores it.
    """
    words = []
    for way in FIRMWARE_WAYS if usb else (*FIRMWARE_WAYS, USB_WAY):
        words += ["-fw_cfg", f"name=opt/org.tianocore/{way},string=no"]
    return words


def channel(name: str, descriptor: int) -> list[str]:
    """A character device over an inherited, connected socket."""
    return ["-chardev", f"socket,id={name},fd={descriptor}"]


def reach(*, kvm: bool) -> Reach:
    """What QEMU may open by itself: its program and data, noise, KVM where used, the network."""
    return Reach(
        read=tuple(
            Path(path)
            for path in (
                "/usr",
                "/lib",
                "/lib64",
                "/etc/ld.so.cache",
                "/dev/urandom",
                "/proc/self",
                "/sys/devices/system/cpu",
            )
        ),
        # It tries out file locks on /dev/null, which it opens for writing.
        write=(Path("/dev/null"), Path("/dev/kvm")) if kvm else (Path("/dev/null"),),
        # For its user-mode network. Not unix sockets: those of the chip lie at a path.
        sockets=(socket.AF_INET, socket.AF_INET6),
    )
