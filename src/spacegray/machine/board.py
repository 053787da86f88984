"""The board of one workstation: what this host gives of the order, and QEMU's command line for it.

Invariants: Secure Boot's conditions (SMM, flash that only SMM may write) are not options here;
everything of the user's reaches QEMU as a descriptor; a guest's reset ends QEMU, because only
the chip starts a machine. Trusts: `Host` and `Accelerator` as found on this host. docs/board.md
says what of the real board is missing.
"""

import dataclasses
import uuid
from dataclasses import dataclass
from typing import Any, Final

from spacegray.confinement import Reach
from spacegray.errors import SpacegrayError
from spacegray.host import QEMU, Host
from spacegray.machine import arguments, external
from spacegray.machine.accelerator import Accelerator, cpu
from spacegray.machine.network import NETWORK
from spacegray.spec import Graphics, Spec

DISPLAY_WIDTH_PIXELS: Final = 1920
DISPLAY_HEIGHT_PIXELS: Final = 1080

TCG_VCPUS: Final = 1
"""More are slower under emulation, mostly in the firmware (measured: docs/accelerator.md)."""
TCG_MEMORY_LIMIT_MB: Final = 4096
MEMORY_LEAST_MB: Final = 512
"""Below this the firmware and the first programs do not fit."""
MEMORY_STEP_MB: Final = 64
HOST_SHARE: Final = 2
"""At most one part in this many of the host's available memory goes to one machine."""

DISK_QUEUES_LIMIT: Final = 16
"""The disk has a request queue for each processor, up to this many; its back end offers as many."""

GUEST_PORT: Final = "org.spacegray.guest"
AGENT_PORT: Final = "org.qemu.guest_agent.0"
RECOVERY_PORT: Final = "org.spacegray.recovery"

PRODUCT: Final = "iMacPro1,1"
MANUFACTURER: Final = "Spacegray"
"""Ours: by `Apple Inc.` Linux would start looking for hardware that is not here."""
PROCESSORS: Final = {
    8: ("Intel(R) Xeon(R) W-2140B CPU @ 3.20GHz", 3200, 4200),
    10: ("Intel(R) Xeon(R) W-2150B CPU @ 3.00GHz", 3000, 4500),
    14: ("Intel(R) Xeon(R) W-2170B CPU @ 2.50GHz", 2500, 4300),
    18: ("Intel(R) Xeon(R) W-2191B CPU @ 2.30GHz", 2300, 4300),
}
"""By ordered cores: the name the processor gives itself, its base and turbo clock in MHz."""
MEMORY_CLOCK_MHZ: Final = 2666
_NAMESPACE: Final = uuid.UUID("5ab1e9d4-6c63-4e0f-9a6e-2f5d1f7c0c17")


@dataclass(frozen=True)
class Board:
    """What one machine gets on this host; memory in MiB."""

    accelerator: Accelerator
    cores: int
    memory_mb: int
    processor: str
    graphics: Graphics
    ordered_cores: int

    @property
    def disk_queues(self) -> int:
        """Request queues of the disk."""
        return min(self.cores, DISK_QUEUES_LIMIT)

    def summary(self) -> dict[str, Any]:
        """What is given, by the names of the spec's fields, for people and JSON."""
        return {
            "cores": self.cores,
            "memory_gb": round(self.memory_mb / 1024, 2),
            "graphics": f"virtio-gpu, {DISPLAY_WIDTH_PIXELS}x{DISPLAY_HEIGHT_PIXELS}, 2D",
        }


@dataclass(frozen=True)
class Identity:
    """Which machine this is: the workstation's name and its chip's ECID."""

    name: str
    ecid: int

    @property
    def serial(self) -> str:
        return f"{self.ecid:016X}"

    @property
    def uuid(self) -> uuid.UUID:
        return uuid.uuid5(_NAMESPACE, self.serial)


@dataclass(frozen=True, kw_only=True)
class Descriptors:
    """What the machine is given, each an open descriptor that QEMU inherits; None: it has none.

    `disk` is a socket to the chip's vhost-user-blk front end, or for `plain_command` a file;
    `medium` a read-only image and `recovery_port` a socket to the chip, in recovery;
    `external` the image or block device of an external disk to start from;
    `monitor`, `serial`, `guest_port` and `agent_port` are one end each of a socket pair.
    """

    firmware: int
    variables: int
    monitor: int
    serial: int
    guest_port: int
    disk: int | None = None
    agent_port: int | None = None
    medium: int | None = None
    recovery_port: int | None = None
    external: int | None = None

    def all(self) -> tuple[int, ...]:
        """Each of them, to be passed to `process.spawn`."""
        found = (getattr(self, field.name) for field in dataclasses.fields(self))
        return tuple(number for number in found if number is not None)


def scale(spec: Spec, host: Host, accelerator: Accelerator) -> Board:
    """What `host` can give of `spec` just now.

    Raises SpacegrayError when there is too little memory for any machine.
    """
    processor, _, _ = PROCESSORS[spec.cores]
    memory_mb = min(spec.memory_gb * 1024, host.memory_available_bytes // HOST_SHARE >> 20)
    cores = min(spec.cores, host.cpus)
    if accelerator.name == "tcg":
        memory_mb = min(memory_mb, TCG_MEMORY_LIMIT_MB)
        cores = min(cores, TCG_VCPUS)
    memory_mb -= memory_mb % MEMORY_STEP_MB
    if memory_mb < MEMORY_LEAST_MB:
        raise SpacegrayError(
            "giving the machine its memory",
            f"half of what this host has free is {memory_mb} MiB, it takes {MEMORY_LEAST_MB} MiB",
            "close some programs and start the workstation again",
            link="machine",
        )
    return Board(accelerator, cores, memory_mb, processor, spec.graphics, spec.cores)


def command(board: Board, descriptors: Descriptors, identity: Identity) -> list[str]:
    """QEMU's complete command line for the locked machine.

    Exactly one of its disks may be started from: the external one, else recovery's medium, else the
    internal one. A power-off or reset of the guest ends QEMU after a SHUTDOWN event, a panic is
    told by GUEST_PANICKED and goes on, so that the kernel can say why (`machine.outcome` reads
    both).
    """
    words = _common(board, descriptors, identity, secure=True)
    first = ",bootindex=0"
    if descriptors.external is not None:
        words += [*external.at_power_on(descriptors.external, first)]
        first = ""
    if descriptors.medium is not None:
        words += [
            *arguments.file_set(
                "medium", arguments.MEDIUM_SET, descriptors.medium, options=",read-only=on"
            ),
            "-device",
            f"virtio-blk-pci,drive=medium{first},disable-legacy=on",
        ]
        first = ""
    if descriptors.disk is not None:
        words += [
            *arguments.channel("disk", descriptors.disk),
            "-device",
            f"vhost-user-blk-pci,chardev=disk,num-queues={board.disk_queues}{first},"
            "disable-legacy=on",
        ]
    return words


def plain_command(board: Board, descriptors: Descriptors, identity: Identity) -> list[str]:
    """The same machine without the chip, to measure against (`bench boot`).

    `descriptors.disk` is a raw disk image, the firmware any build of OVMF: no Secure Boot.
    """
    assert descriptors.disk is not None, "the plain machine starts from its disk"
    return [
        *_common(board, descriptors, identity, secure=False),
        *arguments.file_set("disk", arguments.DISK_SET, descriptors.disk, options=",discard=unmap"),
        "-device",
        f"virtio-blk-pci,drive=disk,num-queues={board.disk_queues},bootindex=0,"
        f"disable-legacy=on,"
        f"logical_block_size={arguments.SECTOR_BYTES},"
        f"physical_block_size={arguments.BLOCK_BYTES}",
    ]


def reach(board: Board) -> Reach:
    """The files this machine's QEMU may open by itself, for `process.spawn`."""
    return arguments.reach(kvm=board.accelerator.name == "kvm")


def _common(
    board: Board, descriptors: Descriptors, identity: Identity, *, secure: bool
) -> list[str]:
    parts = arguments.Firmware(descriptors.firmware, descriptors.variables)
    return [
        QEMU,
        *arguments.isolation(),
        "-name",
        f"guest={identity.name}",
        "-machine",
        "q35,smm=on,vmport=off,memory-backend=memory",
        "-accel",
        board.accelerator.name,
        "-cpu",
        f"{cpu(board.accelerator.name)},model-id={arguments.quoted(board.processor)}",
        "-smp",
        f"cpus={board.cores},sockets=1,cores={board.cores},threads=1",
        "-m",
        f"{board.memory_mb}M",
        "-object",
        f"memory-backend-memfd,id=memory,size={board.memory_mb}M,share=on",
        *arguments.firmware(parts, secure=secure),
        *arguments.closed_ways(usb=descriptors.external is not None),
        "-action",
        "reboot=shutdown,shutdown=poweroff,panic=none",
        "-rtc",
        "base=utc",
        *arguments.channel("monitor", descriptors.monitor),
        "-mon",
        "chardev=monitor,mode=control",
        *arguments.channel("serial", descriptors.serial),
        "-device",
        "isa-serial,chardev=serial",
        *_ports(descriptors),
        *_devices(),
        *_smbios(board, identity),
    ]


def _ports(descriptors: Descriptors) -> list[str]:
    words = ["-device", "virtio-serial-pci,id=ports,disable-legacy=on"]
    for number, (name, chardev, descriptor) in enumerate(
        (
            (GUEST_PORT, "guest", descriptors.guest_port),
            (AGENT_PORT, "agent", descriptors.agent_port),
            (RECOVERY_PORT, "recovery", descriptors.recovery_port),
        ),
        start=1,
    ):
        if descriptor is not None:
            words += [
                *arguments.channel(chardev, descriptor),
                "-device",
                f"virtserialport,bus=ports.0,nr={number},chardev={chardev},name={name}",
            ]
    return words


def _devices() -> list[str]:
    """Screen, keyboard, pointer, network, randomness, and the panic button."""
    return [
        "-device",
        f"virtio-gpu-pci,xres={DISPLAY_WIDTH_PIXELS},yres={DISPLAY_HEIGHT_PIXELS}",
        "-vnc",
        "none,share=force-shared",
        "-device",
        f"qemu-xhci,id={external.USB}",
        "-device",
        f"usb-kbd,bus={external.USB}.0",
        "-device",
        f"usb-tablet,bus={external.USB}.0",
        "-netdev",
        f"user,id={NETWORK}",
        "-device",
        f"virtio-net-pci,netdev={NETWORK},romfile=,disable-legacy=on",
        "-object",
        "rng-random,id=noise,filename=/dev/urandom",
        "-device",
        "virtio-rng-pci,rng=noise,disable-legacy=on",
        "-device",
        "pvpanic-pci",
    ]


def _smbios(board: Board, identity: Identity) -> list[str]:
    """The ordered machine by name (System Management BIOS tables 0 to 4 and 17)."""
    base_mhz, turbo_mhz = PROCESSORS[board.ordered_cores][1:]
    tables: list[dict[str, object]] = [
        {"type": 0, "vendor": MANUFACTURER, "version": "EDK II (OVMF)", "uefi": "on"},
        {
            "type": 1,
            "manufacturer": MANUFACTURER,
            "product": PRODUCT,
            "family": "iMac Pro",
            "version": "1.0",
            "serial": identity.serial,
            "uuid": identity.uuid,
        },
        {"type": 2, "manufacturer": MANUFACTURER, "product": PRODUCT, "serial": identity.serial},
        {"type": 3, "manufacturer": MANUFACTURER, "serial": identity.serial},
        {
            "type": 4,
            "sock_pfx": "LGA2066",
            "manufacturer": "Intel(R) Corporation",
            "version": board.processor,
            "max-speed": turbo_mhz,
            "current-speed": base_mhz,
        },
        {
            "type": 17,
            "loc_pfx": "DIMM",
            "manufacturer": MANUFACTURER,
            "part": "DDR4-2666 ECC",
            "speed": MEMORY_CLOCK_MHZ,
        },
    ]
    words = []
    for table in tables:
        options = (f"{key}={arguments.quoted(str(value))}" for key, value in table.items())
        words += ["-smbios", ",".join(options)]
    return words
