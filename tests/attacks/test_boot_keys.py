"""Attack: whoever sits at the machine presses ESC and F2 at power-on, to get at the firmware.

There, with the store that OVMF comes with, is its setup: it starts any file, and turns Secure Boot
off. With the chip's variables nothing leads there, neither before nor after an image was refused.
"""

import tempfile
import time
from collections.abc import Iterator

import pytest

from spacegray import host
from spacegray.system.image import SystemImage
from tests.support import booting, media
from tests.support.booting import REFUSED, Bench
from tests.support.powered import Powered, powered

SETUP = b"Boot Maintenance Manager"
WAYS_OUT = (SETUP, b"Boot Manager", b"Device Manager", b"Shell>", b"Press any key")
AFTERWARDS_SECONDS = 5.0
ON_THE_SERIAL_LINE = (b"\x1b", b"\x1bOQ", b"\r")
"""ESC, F2, Enter."""
ON_THE_KEYBOARD = ("esc", "f2", "ret")
PAUSE_SECONDS = 0.2


def press_until(machine: Powered, *words: bytes) -> None:
    """Press all of them again and again until one of these is said."""
    deadline = time.monotonic() + machine.patience_seconds
    while not any(word in machine.heard for word in words):
        assert time.monotonic() < deadline, machine.heard[-2000:]
        press(machine)


def press(machine: Powered) -> None:
    """Press each key once, and hear what is said."""
    for key in ON_THE_KEYBOARD:
        machine.ask(f"sendkey {key} 20")
    for keys in ON_THE_SERIAL_LINE:
        machine.type(keys)
    machine.listen(PAUSE_SECONDS)


@pytest.fixture(scope="module")
def bench(tiny: SystemImage) -> Iterator[Bench]:
    """A machine with an image on its disk that its ticket does not name."""
    kernel, recovery = tiny.kernel.read_bytes(), tiny.recovery.read_bytes()
    with booting.bench(booting.signed(kernel), booting.signed(recovery)) as made:
        made.lay(booting.signed(media.of_another_build(kernel)))
        yield made


def test_no_key_leads_into_the_firmware(bench: Bench) -> None:
    with bench.started() as machine:
        press_until(machine, *REFUSED)
        deadline = time.monotonic() + AFTERWARDS_SECONDS
        while time.monotonic() < deadline:
            press(machine)
        assert not [way for way in WAYS_OUT if way in machine.heard], machine.heard


def test_control_with_the_firmwares_own_variables_they_do() -> None:
    files = host.ovmf()
    with tempfile.TemporaryFile() as variables, files.code.open("rb") as firmware:
        variables.write(files.variables.read_bytes())
        variables.flush()
        with powered(firmware=firmware.fileno(), variables=variables.fileno()) as machine:
            press_until(machine, SETUP)
