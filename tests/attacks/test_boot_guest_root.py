"""Root in the guest tries to decide what starts next: by variables, on the disk, over its ports.

A disk of Debian's, which would start, is plugged in all the while; and until it comes to the boot
partition the owner even allows such systems (Medium Security, other systems allowed). So nothing
keeps Debian from starting but that no word of the guest reaches the next start.
"""

import contextlib
import json
import os
import re
import struct
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from spacegray import authenticode
from spacegray.chip import signatures, store
from spacegray.chip.client import Start
from spacegray.chip.launch import launch
from spacegray.chip.signatures import Signature
from spacegray.paths import Slot, other_slot
from spacegray.system import layout
from spacegray.system.image import SystemImage
from tests.conftest import Cli, Running
from tests.functional.test_lifecycle import wait_for
from tests.support import booting, guest_root, media
from tests.support.booting import Bench
from tests.support.guest_root import AUTHENTICATED, USUAL
from tests.support.powered import powered
from tests.support.vaultd import secret

SETTLE_SECONDS = 180
DEFAULTS = {"policy": "full", "other_systems": "deny"}
OTHERS_ALLOWED = {"policy": "medium", "other_systems": "allow"}
ESP_BYTES = 48 * media.MIB
STRANGER = uuid.UUID("0b2a67a0-3f2f-4e3b-9d31-c7f7d4c0a001")
SHIM = uuid.UUID("605dab50-e046-4300-abb6-3dd810dd8b23")
ENABLE = uuid.UUID("f0a30bc7-af08-4556-99c4-001009c93a44")
CUSTOM = uuid.UUID("c076ec0c-7028-4399-a072-71ee5c448b9f")
BOOTED = re.compile(rb'BdsDxe: (?:loading|starting) (\S+) "([^"]*)" from (\S+?)\s')
OLD_LEVEL = b"sbat,1,2021030218\n"
BOOT_TO_FIRMWARE = struct.pack("<Q", 1)
UPDATE = (Path(__file__).parents[1] / "data" / "DBXUpdateSVN.bin").read_bytes()
"""An update of dbx that Microsoft signed. Its entries are in no list that a start begins with."""
MOMENT_BYTES = 16

EXTERNAL = struct.pack("<BBHHHBBB", 3, 15, 11, 0xFFFF, 0xFFFF, 8, 0xFF, 0xFF)
"""The device path of any USB mass storage: UsbClass (UEFI 2.10, 10.3.4.8)."""
END = struct.pack("<BBH", 0x7F, 0xFF, 4)
OPTION = struct.pack("<IH", 1, len(EXTERNAL + END)) + store.text("Debian") + EXTERNAL + END
"""The load option that starts the external disk."""


def unsigned(content: bytes) -> bytes:
    """An update of a signed variable, with the place for its signature empty."""
    moment = struct.pack("<HBBBBBBIhBB", 2026, 11, 23, 0, 0, 0, 0, 0, 0, 0, 0)
    pkcs7 = uuid.UUID("4aafd29d-68df-49ee-8aa9-347d375665a7").bytes_le
    return moment + struct.pack("<IHH16s", 24, 0x0200, 0x0EF1, pkcs7) + content


def attacks() -> dict[tuple[str, uuid.UUID], tuple[int, bytes]]:
    """Attributes and content of each variable that might change what starts."""
    shim = authenticode.digest(media.SHIM.read_bytes())
    allowed = signatures.write([Signature(signatures.SHA256, STRANGER, shim)])
    order = struct.pack("<H", 1)
    found = {
        ("BootNext", store.GLOBAL): (USUAL, order),
        ("BootOrder", store.GLOBAL): (USUAL, order),
        ("Boot0000", store.GLOBAL): (USUAL, OPTION),
        ("Boot0001", store.GLOBAL): (USUAL, OPTION),
        ("SysPrep0001", store.GLOBAL): (USUAL, OPTION),
        ("SysPrepOrder", store.GLOBAL): (USUAL, order),
        ("Driver0001", store.GLOBAL): (USUAL, OPTION),
        ("DriverOrder", store.GLOBAL): (USUAL, order),
        ("OsIndications", store.GLOBAL): (USUAL, BOOT_TO_FIRMWARE),
        ("Timeout", store.GLOBAL): (USUAL, b"\xff\xff"),
        ("SecureBootEnable", ENABLE): (USUAL, b"\0"),
        ("SecureBoot", store.GLOBAL): (USUAL, b"\0"),
        ("SetupMode", store.GLOBAL): (USUAL, b"\1"),
        ("CustomMode", CUSTOM): (USUAL, b"\1"),
        ("MokList", SHIM): (USUAL, allowed),
        ("MokSBState", SHIM): (USUAL, b"\1"),
        ("MokNew", SHIM): (USUAL, allowed),
        ("SbatLevel", SHIM): (USUAL, OLD_LEVEL),
    }
    for name, vendor in (
        ("PK", store.GLOBAL), ("KEK", store.GLOBAL),
        ("db", store.SECURITY), ("dbx", store.SECURITY),
    ):  # fmt: skip
        found[name, vendor] = (AUTHENTICATED, unsigned(allowed))
    return found


def update(content: bytes) -> dict[tuple[str, uuid.UUID], tuple[int, bytes]]:
    """To be appended to dbx."""
    return {("dbx", store.SECURITY): (AUTHENTICATED, content)}


def revoked() -> set[bytes]:
    """What UPDATE revokes (UEFI 2.10, 8.2.2: a time, a certificate with its size, the lists)."""
    (size,) = struct.unpack_from("<I", UPDATE, MOMENT_BYTES)
    return {each.data for each in signatures.read(UPDATE[MOMENT_BYTES + size :])}


TAKEN = {
    "BootNext", "Boot0000", "Boot0001", "SysPrep0001", "SysPrepOrder", "Driver0001", "DriverOrder",
    "OsIndications", "Timeout", "MokList", "MokNew",
}  # fmt: skip
"""What the firmware takes from a running system, as it should: the attacks do happen."""
REFUSED = {"BootOrder", "SecureBootEnable", "SecureBoot", "SetupMode", "PK", "KEK", "db", "dbx"}
OURS = {"PK", "KEK", "db", "dbx", "SecureBootEnable", "Boot0000", "BootOrder", "Timeout"}
"""All that the store of a start has."""
ASKED = {"MokNew"}
"""A wish to the shim, which asks whoever sits there; kept where others' systems may start."""
OF_THE_SHIM = {"SbatLevel"}
"""What Debian's shim left when the control let it run."""


@dataclass
class Invaded:
    """A workstation whose root is the enemy, with a disk of Debian's beside it."""

    cli: Cli
    slot: Slot
    stick: Path
    folder: Path

    def __post_init__(self) -> None:
        self.at = self.cli.paths.workstation("pro")

    def write_variables(self, fill: uuid.UUID | None = None) -> dict[str, int]:
        """All of them, and more of the vendor `fill` until the store is full."""
        return guest_root.write_variables(self.cli, attacks(), fill)

    def debians_boot_partition(self) -> bytes:
        """Shim and GRUB as a boot file system, which starts wherever the shim may."""
        chain = media.debians_chain(b"")
        files = {name: chain[name] for name in (media.BOOT_FILE, "EFI/BOOT/grubx64.efi")}
        disk = media.disk(self.folder / "shim", files, ESP_BYTES)
        content = disk.read_bytes()[media.FIRST_BYTES :]
        return content[: layout.fat_end(content)]

    def overwrite_own_boot_partition(self) -> None:
        """With Debian's, in the slot that the running system started from."""
        device = f"/dev/vda{layout.SLOTS[chip(self.cli)['current']][0]}"
        guest_root.send(self.cli, self.debians_boot_partition(), device)

    def settle(self, boot: int) -> dict[str, Any]:
        """Wait until a start after `boot` is up, or was refused."""
        deadline = time.monotonic() + SETTLE_SECONDS
        while (facts := self.cli.show())["boot"] == boot or facts["state"] == "starting":
            assert time.monotonic() < deadline, facts["reason"]
            time.sleep(0.5)
        return facts

    def assert_refused_by_name(self, reason: str) -> None:
        """The firmware found the shim, where the ticket names our kernel image."""
        facts, shown = self.cli.show(), chip(self.cli)
        assert (facts["state"], facts["link"]) == ("failed", "kernel")
        named = shown["slots"][shown["current"]]["kernel"]
        found = authenticode.digest(media.SHIM.read_bytes()).hex()
        assert f"expected SHA-256 {named}, found {found}" in reason
        self.assert_only_ours_was_tried()

    def assert_only_ours_was_tried(self) -> None:
        """The firmware tried our system's boot partition, by the one option that the chip made."""
        slot = chip(self.cli)["current"]
        esp = layout.esp_place(slot, self.cli.show()["disk"]["size_bytes"])
        guid = str(uuid.UUID(bytes_le=esp.guid)).upper().encode()
        said = (self.at.logs / "serial.log").read_bytes()
        tried = set(BOOTED.findall(said))
        assert tried
        for option, title, path in tried:
            assert (option, title) == (b"Boot0000", b"Spacegray")
            assert path.startswith(b"HD(")
            assert guid in path
        assert media.SAID_BY_LINUX not in said


@pytest.fixture(scope="module")
def invaded(
    created: Running, tiny: SystemImage, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Invaded]:
    """It is off, other systems are allowed; at the end it is as it was, its slots written anew."""
    cli, folder = created.cli, tmp_path_factory.mktemp("media")
    kernel = media.section(tiny.kernel.read_bytes(), ".linux")
    stick = media.disk(folder / "debian", media.debians_chain(kernel))
    cli("stop", "pro")
    yield Invaded(cli, chip(cli)["current"], stick, folder)
    cli("stop", "pro")
    choose(cli, **DEFAULTS)
    cli("reinstall", "pro")
    cli("reinstall", "pro")


def choose(cli: Cli, **settings: str) -> None:
    """Have the chip of a machine that is off allow this."""
    with owned(cli) as bench:
        bench.choose(**settings)


def left(start: Start) -> list[store.Variable]:
    """The variables in the store of a start."""
    return store.read(os.pread(start.variables, os.fstat(start.variables).st_size, 0))


def chip(cli: Cli) -> dict[str, Any]:
    """`chip show --format json`."""
    shown: dict[str, Any] = json.loads(cli("chip", "show", "--format", "json").stdout)
    return shown


def rules(cli: Cli) -> dict[str, Any]:
    """What may start, as the chip says."""
    shown = chip(cli)
    names = ("policy", "external_boot", "other_systems", "firmware_password", "current", "trying")
    return {name: shown[name] for name in names}


@contextlib.contextmanager
def owned(cli: Cli) -> Iterator[Bench]:
    """The chip of a machine that is off, while it has the password that an owner needs."""
    at = cli.paths.workstation("pro")
    with launch(at) as chip, chip.client() as mailbox:
        with secret(booting.PASSWORD) as given:
            mailbox.set_password(given)
        try:
            yield Bench(at, mailbox)
        finally:
            with secret(booting.PASSWORD) as given:
                mailbox.remove_password(given)


def test_control_by_such_variables_debian_would_start(invaded: Invaded):
    """Were the store that the guest leaves that of the next start, and the disk plugged in."""
    wanted = attacks()
    choose(invaded.cli, **OTHERS_ALLOWED)
    with owned(invaded.cli) as bench, bench.mailbox.prepare_start() as start:
        variables = left(start)
        assert {each.name for each in variables} == OURS
        for name in ("BootNext", "Boot0001"):
            attributes, data = wanted[name, store.GLOBAL]
            variables.append(store.Variable(name, store.GLOBAL, attributes, data))
        content = os.pread(start.variables, os.fstat(start.variables).st_size, 0)
        os.pwrite(start.variables, store.write(content, variables), 0)
        with invaded.stick.open("r+b") as stick, powered(
            firmware=start.firmware, variables=start.variables, disk=start.disk,
            external=stick.fileno(),
        ) as machine:  # fmt: skip
            words = (media.SAID_BY_LINUX, booting.OURS_STARTED, *booting.REFUSED)
            assert machine.wait_for(*words) == media.SAID_BY_LINUX
            assert b'Boot0001 "Debian"' in machine.heard
        bench.mailbox.close_disk()


def test_what_root_writes_into_variables_does_not_last_a_warm_reset(invaded: Invaded):
    cli = invaded.cli
    cli("start", "pro", "--external", str(invaded.stick))
    before, seen = cli.show(), guest_root.variables(cli)
    cli.shell("sh", "-c", "echo mine > /data/kept; sync /data/kept")
    changed = bytearray(UPDATE)
    changed[-1] ^= 1
    assert guest_root.write_variables(cli, update(bytes(changed)))["dbx"], "nobody signed that"
    assert guest_root.write_variables(cli, update(UPDATE)) == {"dbx": 0}, "the control"
    answers = invaded.write_variables(fill=STRANGER)
    assert {name for name, error in answers.items() if error == 0} >= TAKEN, answers
    assert all(answers[name] for name in REFUSED), answers
    assert answers["full"], "the store was full before"
    esp, *others = (f"/dev/vda{number}" for number in layout.SLOTS[other_slot(invaded.slot)])
    guest_root.send(cli, invaded.debians_boot_partition(), esp)
    for device in others:
        cli.shell("sudo", "sh", "-c", f"head -c 1M /dev/urandom > {device}; sync")
    cli.shell("sudo", "reboot", check=False)
    facts = invaded.settle(before["boot"])
    assert facts["state"] == "running", facts["reason"]
    assert facts["slot"] == invaded.slot
    assert facts["external"] == str(invaded.stick)
    assert facts["secure_boot"] is True
    invaded.assert_only_ours_was_tried()
    assert facts["root_hash"] in cli.shell("cat", "/proc/cmdline").stdout
    assert guest_root.variables(cli) == seen | ASKED
    now = {each.data for each in signatures.read(guest_root.variable(cli, "dbx", store.SECURITY))}
    assert now > revoked(), "what was revoked by whoever may is forgotten"


def test_no_port_of_the_running_system_leads_to_the_policy(invaded: Invaded):
    """There is none to the chip; and what recovery would say, or hear, is not believed."""
    cli = invaded.cli
    names = cli.shell("sh", "-c", "cat /sys/class/virtio-ports/*/name").stdout.split()
    assert names == ["org.spacegray.guest", "org.qemu.guest_agent.0"]
    before = rules(cli)
    nonce = "00" * 16
    said = [
        "hello", f"{nonce} 1 show", f"{nonce} 1 set policy=none external_boot=allow",
        f"ready {nonce} mode=recovery boot_id={uuid.UUID(int=4)} secure_boot=1 setup_mode=0 "
        "kernel=6.12", "do 1 set policy=none", "done 1 ok policy=none", "want reinstall",
        "want restart", "want off",
    ]  # fmt: skip
    answers = guest_root.speak_on_the_ports(cli, "".join(f"{line}\\n" for line in said))
    assert "session" not in answers
    assert " ok" not in answers
    assert rules(cli) == before
    assert rules(cli)["policy"] == "medium", "the control: it is what the chip says"
    facts = cli.show()
    assert (facts["state"], facts["target"]) == ("running", "main")
    assert any("not believed" in str(event) for event in cli.events()), "nothing was heard at all"


def test_another_loader_on_its_boot_partition_is_refused_by_name(invaded: Invaded):
    """After a cold start, under Full Security, with all those variables written once more."""
    cli = invaded.cli
    before = cli.show()
    answers = invaded.write_variables()
    assert {name for name, error in answers.items() if error == 0} >= TAKEN, answers
    invaded.overwrite_own_boot_partition()
    cli.shell("sudo", "poweroff", check=False)
    wait_for(cli, "off")
    with owned(cli) as bench:
        with bench.mailbox.prepare_start() as start:
            variables = {each.name: each.data for each in left(start)}
            assert variables.keys() == OURS | ASKED | OF_THE_SHIM
            assert variables["SbatLevel"] > OLD_LEVEL, "revocations were rolled back"
        bench.mailbox.close_disk()
        bench.choose(**DEFAULTS)
    refused = cli("start", "pro", "--external", str(invaded.stick), check=False)
    assert refused.returncode == 1, refused.stdout
    assert cli.show()["boot"] == before["boot"] + 1
    invaded.assert_refused_by_name(refused.stderr)
    assert "recovery pro" in refused.stderr


def test_reinstalled_it_is_the_verified_system_again_with_its_data(invaded: Invaded):
    cli = invaded.cli
    cli("reinstall", "pro")
    cli("start", "pro", "--external", str(invaded.stick))
    assert cli.shell("cat", "/data/kept").stdout == "mine\n"
    assert cli.show()["root_hash"] in cli.shell("cat", "/proc/cmdline").stdout


def test_another_loader_is_refused_by_name_after_a_warm_reset(invaded: Invaded):
    """The system that was just verified and runs exchanges what the next one starts from."""
    cli = invaded.cli
    before = cli.show()
    assert (before["state"], rules(cli)["policy"]) == ("running", "full")
    answers = invaded.write_variables()
    assert {name for name, error in answers.items() if error == 0} >= TAKEN, answers
    invaded.overwrite_own_boot_partition()
    cli.shell("sudo", "reboot", check=False)
    facts = invaded.settle(before["boot"])
    assert facts["boot"] == before["boot"] + 1
    invaded.assert_refused_by_name(facts["reason"])
