"""Promise: in recovery the owner changes everything from the keyboard, and no secret is shown.

The chip is a stand-in that only says its lines; what the real one refuses is tested elsewhere.
"""

import base64
import re
from pathlib import Path

from spacegray.system import layout
from spacegray.system.image import SystemImage
from tests.support.recovery_machine import ECID, FakeChip, Machine, recovery

ENTER, DOWN, ESCAPE = "\r", "\x1b[B", "\x1b"
BELOW = re.compile(rb"\x1b\[(2[5-9]|3[0-9]);")
"""Going to a row that the serial console has not at first."""
NEW_PASSWORD = "battery-staple-9"
FIRMWARE_PASSWORD = "firm-and-ware-3"


def test_the_owner_changes_everything_from_the_keyboard(tiny: SystemImage, tmp_path: Path) -> None:
    medium = tmp_path / "recovery.img"
    medium.write_bytes(layout.recovery_medium(tiny.recovery.read_bytes()))
    chip = FakeChip()
    with recovery(medium, chip) as machine:
        ready = machine.ready()
        assert " mode=recovery " in ready
        assert f"kernel={tiny.manifest.kernel_release}" in ready
        machine.until("Shut Down")
        startup_security(machine, chip)
        password(machine, chip)
        disk(machine, chip)
        host(machine, chip)
        display(machine, tmp_path / "display.png")
        shut_down(machine)
        seen = machine.raw
    for secret in (chip.recovery_key, NEW_PASSWORD.encode(), FIRMWARE_PASSWORD.encode(), b"horse"):
        assert secret not in seen
        assert base64.b64encode(secret) not in seen


def startup_security(machine: Machine, chip: FakeChip) -> None:
    machine.type(ENTER)
    machine.until("owner's password")
    machine.type("a guess" + ENTER)
    machine.until("Not Accepted")
    machine.type(ENTER)
    machine.until("owner's password")
    machine.type(chip.password.decode() + ENTER)
    machine.until("Firmware password")
    assert not any(word in chip.heard for word in ("set", "firmware-password"))

    machine.type(ENTER)
    machine.until("Medium Security")
    machine.type(DOWN + ENTER)
    machine.until_true(lambda: chip.settings["policy"] == "medium")
    machine.until("Firmware password")
    machine.type(DOWN + ENTER)
    machine.until("plugged in")
    machine.type(DOWN + ENTER)
    machine.until_true(lambda: chip.settings["external_boot"] == "allow")
    machine.until("Firmware password")
    machine.type(DOWN + DOWN + ENTER)
    machine.until("asks for it")
    machine.type(FIRMWARE_PASSWORD + ENTER)
    machine.until("once more")
    machine.type(FIRMWARE_PASSWORD + ENTER)
    machine.until_true(lambda: chip.firmware_password == FIRMWARE_PASSWORD.encode())
    machine.until("Firmware password")
    machine.type(ESCAPE)
    machine.until("Shut Down")


def password(machine: Machine, chip: FakeChip) -> None:
    machine.type(DOWN + ENTER)
    machine.until("recovery key:")
    machine.type(chip.recovery_key.decode() + ENTER)
    for words in ("new password:", "once more"):
        machine.until(words)
        machine.type(NEW_PASSWORD + ENTER)
    machine.until("from now on")
    assert chip.password == NEW_PASSWORD.encode()
    machine.type(ENTER)
    machine.until("Shut Down")


def disk(machine: Machine, chip: FakeChip) -> None:
    chip.bad = 1
    machine.type(DOWN + ENTER)
    machine.until("4 of 1000 blocks")
    machine.type(ENTER)
    machine.until("Shut Down")
    machine.type(DOWN + DOWN + ENTER)
    machine.until("no way back")
    machine.type("\t" + ENTER)  # the other button is the one in front
    machine.until(ECID)
    machine.type("123" + ENTER)
    machine.until("Nothing was erased")
    assert not chip.erased
    machine.type(ENTER)
    machine.until("Shut Down")


def host(machine: Machine, chip: FakeChip) -> None:
    machine.tell("do 7 set policy=none")
    assert machine.hear() == "done 7 ok"
    assert chip.settings["policy"] == "none"
    given = base64.b64encode(chip.password).decode()
    heard = len(chip.heard)
    for line in (f"authenticate password {given}", f"firmware-password {given}"):
        machine.tell(f"do 8 {line}")
        assert machine.hear().startswith("done 8 no unknown ")
    assert len(chip.heard) == heard
    assert not BELOW.search(machine.raw)
    machine.tell("size 40 120")
    machine.until("Shut Down")
    assert BELOW.search(machine.raw)


def display(machine: Machine, picture: Path) -> None:
    """The same is on the display, and takes keys."""
    machine.picture(picture)
    assert picture.read_bytes().startswith(b"\x89PNG")
    before = picture.read_bytes()
    machine.command("human-monitor-command", **{"command-line": "sendkey down"})

    def changed() -> bool:
        machine.picture(picture)
        return picture.read_bytes() != before

    machine.until_true(changed)


def shut_down(machine: Machine) -> None:
    machine.type(DOWN + DOWN + ENTER)
    assert machine.hear() == "want off"
    machine.tell("poweroff")
    assert machine.end() == 0
