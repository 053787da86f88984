"""This host: what it is, what it can give, and what it lacks for Spacegray's work.

Everything is looked up when it is asked for. A check says what a finding means for the user,
never only that something is absent. Trusts: the host's own files and programs.
"""

import contextlib
import os
import platform
import pwd
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal

import psutil

from spacegray import landlock
from spacegray.apt_sources import PUBLIC_MIRROR, debian_mirror
from spacegray.errors import SpacegrayError
from spacegray.paths import Paths

QEMU: Final = "qemu-system-x86_64"
QEMU_OLDEST: Final = (7, 2)
EROFS_OLDEST: Final = (1, 5)
KVM_DEVICE: Final = Path("/dev/kvm")
OVMF_FOLDER: Final = Path("/usr/share/OVMF")
DEBIAN_KEYS: Final = Path("/usr/share/keyrings/debian-archive-keyring.gpg")

PROGRAM_SECONDS: Final = 20.0
"""How long a program may take to say its version, or to try a user namespace."""
MEMORY_LEAST_BYTES: Final = 2 * 1024**3
"""With less available, a machine gets under 1 GiB and crawls."""
DISK_LEAST_BYTES: Final = 6 * 1024**3
"""What building `base` and restoring it takes, with room for a first day's work."""

_SYSTEM_FOLDERS: Final = ("/usr/local/sbin", "/usr/sbin", "/sbin")
"""Where mkfs and its kin lie; not in an ordinary user's PATH on Debian."""


@dataclass(frozen=True)
class Host:
    """Facts about this host; sizes in bytes."""

    distribution: str
    version: str
    codename: str
    name: str
    kernel: str
    cpus: int
    cpu_model: str
    memory_total_bytes: int
    memory_available_bytes: int

    @classmethod
    def current(cls) -> "Host":
        """This host, now."""
        release = os_release()
        memory = psutil.virtual_memory()
        return cls(
            distribution=release.get("ID", "linux"),
            version=release.get("VERSION_ID", ""),
            codename=release.get("VERSION_CODENAME", ""),
            name=release.get("PRETTY_NAME", "Linux"),
            kernel=platform.release(),
            cpus=len(os.sched_getaffinity(0)),
            cpu_model=_cpu_model(),
            memory_total_bytes=memory.total,
            memory_available_bytes=memory.available,
        )

    @property
    def is_debian(self) -> bool:
        return self.distribution == "debian"


@dataclass(frozen=True)
class Kvm:
    """What /dev/kvm is to this user; opening it proves nothing yet (see machine.accelerator)."""

    exists: bool
    usable: bool
    problem: str
    remedy: str


@dataclass(frozen=True)
class OvmfFiles:
    """UEFI firmware that needs SMM and knows Secure Boot, and its empty variable store."""

    code: Path
    variables: Path

    def source(self) -> str:
        """The package it comes from, with its version; asks dpkg."""
        version = _output(["dpkg-query", "-W", "-f", "${Version}", "ovmf"])
        return f"ovmf {(version or '').strip() or 'of unknown version'}"


@dataclass(frozen=True)
class Program:
    """A program we run: the Debian and Ubuntu package it is in, and what it is for."""

    name: str
    package: str
    purpose: str


PROGRAMS: Final = (
    Program("qemu-img", "qemu-utils", "carries a disk in and out (`import`, `export`)"),
    Program("mmdebstrap", "mmdebstrap", "installs Debian packages into a new system"),
    Program("newuidmap", "uidmap", "lets a system be built without root"),
    Program("veritysetup", "cryptsetup-bin", "seals the system volume"),
    Program("mcopy", "mtools", "writes the boot partition without mounting it"),
    Program("mkfs.vfat", "dosfstools", "makes the boot partition"),
    Program("sfdisk", "fdisk", "makes the partition table"),
    Program("ssh", "openssh-client", "runs commands in the machine"),
    Program("ssh-keygen", "openssh-client", "makes the key for that"),
)

Status = Literal["ok", "missing", "limited"]


@dataclass(frozen=True)
class Check:
    """One finding: `means` is for the user, `remedy` is empty where none is needed."""

    name: str
    status: Status
    found: str
    means: str
    remedy: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def os_release(path: Path = Path("/etc/os-release")) -> dict[str, str]:
    """The fields of os-release(5); empty where there is none."""
    with contextlib.suppress(OSError):
        lines = path.read_text(errors="replace").splitlines()
        pairs = (line.partition("=") for line in lines if "=" in line and line[0] != "#")
        return {key.strip(): value.strip().strip("\"'") for key, _, value in pairs}
    return {}


def mirror() -> str:
    """The Debian mirror to take packages from: the host's own where it is Debian."""
    own = debian_mirror() if Host.current().is_debian else None
    return own or PUBLIC_MIRROR


def find_program(name: str) -> Path | None:
    """Where the program `name` is, also outside of an ordinary user's PATH."""
    folders = os.pathsep.join([os.environ.get("PATH", os.defpath), *_SYSTEM_FOLDERS])
    found = shutil.which(name, path=folders)
    return Path(found) if found else None


def qemu_version() -> str:
    """The version of this host's QEMU with its package's; raises SpacegrayError without one."""
    path = find_program(QEMU)
    said = _output([str(path), "--version"]) if path else None
    found = re.search(r"version (.+)", said or "")
    if found is None:
        raise SpacegrayError(
            "looking for QEMU",
            f"{QEMU} is not installed" if path is None else f"{path} does not say its version",
            "install the package qemu-system-x86",
        )
    return found[1].strip()


def ovmf() -> OvmfFiles:
    """This host's OVMF; raises SpacegrayError that names the package."""
    code, variables = OVMF_FOLDER / "OVMF_CODE_4M.secboot.fd", OVMF_FOLDER / "OVMF_VARS_4M.fd"
    for path in (code, variables):
        if not path.is_file():
            raise SpacegrayError(
                "looking for the firmware", f"there is no {path}", "install the package ovmf"
            )
    return OvmfFiles(code, variables)


def kvm(device: Path = KVM_DEVICE) -> Kvm:
    """Whether this user may open KVM, and if not, why and what to do."""
    if not device.exists():
        return Kvm(
            False,
            False,
            f"this host has no {device}",
            "enable virtualisation in the firmware of the host, or nested virtualisation where "
            "the host is a virtual machine; without it, software emulation is taken",
        )
    try:
        os.close(os.open(device, os.O_RDWR | os.O_CLOEXEC))
    except PermissionError:
        group = _group(device)
        remedy = (
            f"add it to the group {group} (sudo usermod -aG {group} {user()}), log in again"
            if device.stat().st_mode & 0o060 == 0o060
            else f"let it be opened (sudo setfacl -m u:{user()}:rw {device})"
        )
        return Kvm(True, False, f"this user may not open {device}", remedy)
    except OSError as error:
        problem = f"{device} does not open ({error.strerror})"
        return Kvm(True, False, problem, "load the kernel module kvm_intel or kvm_amd")
    return Kvm(True, True, "", "")


def user() -> str:
    """Who this process runs as: under root's `./run` not the one who reads the advice."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def free_bytes(folder: Path) -> int:
    """The room left on the disk that `folder` is on, or will be on once it exists."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    return shutil.disk_usage(existing).free


def checks(
    paths: Paths, *, accelerator: str, accelerator_reason: str, vaultd: Path | None = None
) -> list[Check]:
    """All that `doctor` reports; the caller passes the accelerator's finding and `vaultd`."""
    findings = [
        _check_qemu(),
        _check_ovmf(),
        *(_check_program(program) for program in PROGRAMS),
        _check_erofs(),
        _check_keys(),
        _check_namespaces(),
        _check_accelerator(accelerator, accelerator_reason),
        _check_landlock(),
        _check_memory(Host.current()),
        _check_disk(paths),
        _check_browser(os.environ),
    ]
    if vaultd is not None:
        findings.insert(0, _check_vaultd(vaultd))
    return findings


def _check_qemu() -> Check:
    means = "the processor and the board of the workstation"
    try:
        version = qemu_version()
    except SpacegrayError as error:
        return Check("QEMU", "missing", error.stopped_by, f"no {means}", error.next_step)
    if _numbers(version) < QEMU_OLDEST:
        oldest = ".".join(map(str, QEMU_OLDEST))
        remedy = f"install QEMU {oldest} or newer"
        return Check("QEMU", "limited", version, f"older than {oldest}: untried", remedy)
    return Check("QEMU", "ok", version, means)


def _check_ovmf() -> Check:
    try:
        files = ovmf()
    except SpacegrayError as error:
        means = "no firmware with Secure Boot: nothing can start"
        return Check("OVMF", "missing", error.stopped_by, means, error.next_step)
    return Check("OVMF", "ok", str(files.code), "firmware with Secure Boot and SMM")


def _check_program(program: Program) -> Check:
    path = find_program(program.name)
    if path is None:
        return Check(
            program.name, "missing", "nothing", program.purpose, f"install {program.package}"
        )
    return Check(program.name, "ok", str(path), program.purpose)


def _check_erofs() -> Check:
    name, means = "mkfs.erofs", "makes the read-only system volume"
    path = find_program(name)
    if path is None:
        return Check(name, "missing", "nothing", means, "install erofs-utils")
    version = _erofs_version(path)
    if _numbers(version) < EROFS_OLDEST:
        oldest = ".".join(map(str, EROFS_OLDEST))
        remedy = f"install erofs-utils {oldest} or newer"
        return Check(name, "missing", version or str(path), f"{means}: too old", remedy)
    return Check(name, "ok", version, means)


def _erofs_version(path: Path) -> str:
    """Release 1.5 takes -V for a mistake, and says its version all the same."""
    said = _output([str(path), "-V"], any_status=True) or ""
    found = re.search(r"^mkfs\.erofs.* (\d+\.\S+)", said, re.MULTILINE)
    return found[1] if found else ""


def _check_keys() -> Check:
    name, means = "Debian's archive keys", "by these the packages of the system are believed"
    if DEBIAN_KEYS.is_file():
        return Check(name, "ok", str(DEBIAN_KEYS), means)
    return Check(name, "missing", "nothing", means, "install debian-archive-keyring")


def _check_namespaces() -> Check:
    """A real try, by the very program that will need it."""
    name, means = "user namespaces", "a system can be built without root"
    if os.geteuid() == 0:
        return Check(name, "ok", "not needed by root", means)
    helper = find_program("mmdebstrap")
    if helper is None:
        return Check(name, "missing", "not tried: no mmdebstrap", means, "install mmdebstrap")
    if _output([str(helper), "--unshare-helper", "true"]) is not None:
        return Check(name, "ok", "mmdebstrap --unshare-helper works", means)
    return Check(
        name,
        "missing",
        "mmdebstrap --unshare-helper failed",
        "no system can be built as this user",
        "install uidmap, give this user 65536 ids (sudo usermod --add-subuids 300000-365535 "
        f"--add-subgids 300000-365535 {user()}), allow user namespaces (sysctl)",
    )


def _check_accelerator(name: str, reason: str) -> Check:
    if name == "kvm":
        return Check("accelerator", "ok", reason, "starts in seconds")
    means = "everything works, starts take 5 to 10 times as long"
    remedy = kvm().remedy or "use a host on which KVM runs guests"
    return Check("accelerator", "limited", reason, means, remedy)


def _check_landlock() -> Check:
    version = landlock.supported()
    if version == 0:
        means = "QEMU and the chip are not kept from this user's other files"
        return Check("Landlock", "limited", "none", means, "boot with lsm=landlock,… (Linux 5.13)")
    means = "QEMU and the chip open only what they were given"
    return Check("Landlock", "ok", f"version {version}", means)


def _check_memory(host: Host) -> Check:
    found = f"{_gib(host.memory_available_bytes)} of {_gib(host.memory_total_bytes)} available"
    if host.memory_available_bytes < MEMORY_LEAST_BYTES:
        means = "the machine gets half of that and will be slow"
        return Check("memory", "limited", found, means, "close some programs")
    return Check("memory", "ok", found, "a machine gets at most half of what is available")


def _check_disk(paths: Paths) -> Check:
    free = free_bytes(paths.workstations)
    found = f"{_gib(free)} free at {paths.workstations}"
    if free < DISK_LEAST_BYTES:
        remedy = f"make {_gib(DISK_LEAST_BYTES)} free, or set SPACEGRAY_HOME to a larger disk"
        return Check("disk", "limited", found, "building a system may not fit", remedy)
    return Check("disk", "ok", found, "disks grow as they are written, up to their size")


def _check_browser(environment: Mapping[str, str]) -> Check:
    if find_program("xdg-open") and ({"DISPLAY", "WAYLAND_DISPLAY"} & environment.keys()):
        return Check("browser", "ok", "xdg-open on this display", "the console opens by itself")
    means = "the console's address is printed instead of opened"
    return Check("browser", "limited", "no display or no xdg-open", means)


def _check_vaultd(path: Path) -> Check:
    means = "keeps the workstation's keys"
    if os.access(path, os.X_OK):
        return Check("vault", "ok", str(path), means)
    remedy = "run ./run doctor, which builds it (or cargo build --release in silicon/)"
    return Check("vault", "missing", f"no program at {path}", f"nothing {means}", remedy)


def _numbers(text: str) -> tuple[int, ...]:
    """The first dotted number in `text`, (7, 2) in `7.2.22 (Debian …)`; else nothing."""
    found = re.search(r"(\d+)\.(\d+)", text)
    return tuple(map(int, found.groups())) if found else ()


def _gib(size_bytes: int) -> str:
    return f"{size_bytes / 1024**3:.1f} GiB"


def _group(path: Path) -> str:
    try:
        return path.group()
    except KeyError:
        return str(path.stat().st_gid)


def _output(command: list[str], *, any_status: bool = False) -> str | None:
    """What `command` prints, both streams; None when it fails, hangs or cannot be started."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=PROGRAM_SECONDS,
            check=not any_status,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode(errors="replace")


def _cpu_model() -> str:
    with contextlib.suppress(OSError):
        for key, value in _cpu_lines():
            if key == "model name":
                return value
    return platform.processor() or platform.machine()


def _cpu_lines() -> Iterator[tuple[str, str]]:
    with open("/proc/cpuinfo", errors="replace") as file:
        for line in file:
            key, _, value = line.partition(":")
            yield key.strip(), value.strip()
