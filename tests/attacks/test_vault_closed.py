"""Attack: read the vault's memory, by a debugger, /proc, a core file, swap.

Promise: nobody of its own user does, nor another user. Who is root does, and then the search
finds the keys where they must be: the control for every search that finds none.
"""

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import namespaces
from tests.support.vaultd import Vaultd, vaultd

INTRUDER = (Path(__file__).parents[1] / "support" / "intruder.py").read_text()
PASSWORD = b"correct horse battery staple"


@pytest.fixture(scope="module")
def vault(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vaultd]:
    """A vault that is open and unlocked."""
    state = tmp_path_factory.mktemp("closed") / "state"
    state.mkdir(mode=0o700)
    with vaultd(state) as vault:
        vault.birth()
        yield vault


@pytest.mark.parametrize("name", ["environ", "maps", "smaps", "mem", "auxv", "stack", "io", "fd"])
def test_proc_tells_its_own_user_nothing(vault: Vaultd, name: str) -> None:
    place = Path(f"/proc/{vault.process.pid}/{name}")
    with pytest.raises(PermissionError):
        list(place.iterdir()) if name == "fd" else place.read_bytes()
    # The control: this process is of the same user, and open.
    own = Path("/proc/self", name)
    assert name in ("mem", "stack") or (list(own.iterdir()) if name == "fd" else own.read_bytes())


def test_its_own_user_cannot_trace_it_or_take_its_descriptors(vault: Vaultd) -> None:
    attempts = {
        name: (name, vault.process.pid) for name in ("read memory", "trace", "steal a descriptor")
    } | {"read memory by a call": ("read memory by a call", [vault.process.pid, 4096])}
    intruder = subprocess.run(
        [sys.executable, "-c", INTRUDER],
        input=json.dumps(attempts),
        capture_output=True,
        text=True,
        check=True,
    )
    outcomes = json.loads(intruder.stdout)
    assert outcomes.keys() == attempts.keys()
    assert all("ermi" in outcome for outcome in outcomes.values()), outcomes


def test_it_leaves_no_core(tmp_path: Path) -> None:
    """Even if whoever starts it asks for cores. The control does leave one."""

    def dumped(process: "subprocess.Popen[str]") -> bool:
        process.send_signal(signal.SIGQUIT)
        _, status = os.waitpid(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        return os.WCOREDUMP(status)

    limits = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (limits[1], limits[1]))
    try:
        state = tmp_path / "state"
        state.mkdir()
        with vaultd(state) as vault:
            vault.birth()
            assert not dumped(vault.process)
        with subprocess.Popen(["sleep", "100"], cwd=tmp_path, text=True) as control:
            if not dumped(control):
                pytest.skip("this host keeps no cores of anybody")
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, limits)


LOOK = """
import tempfile
from pathlib import Path
from tests.support import needles, scan
from tests.support.vault_store import read_secrets
from tests.support.vaultd import vaultd

def locked(pid):
    \"\"\"Of each mapping that can be written to: how large, and whether it is locked.\"\"\"
    found, size = [], None
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        words = line.split()
        if "-" in words[0] and not words[0].endswith(":"):
            start, end = (int(each, 16) for each in words[0].split("-"))
            size = end - start if words[1].startswith("rw") else None
        elif words[0] == "VmFlags:" and size is not None:
            found.append([size, "lo" in words[1:]])
    return found

with tempfile.TemporaryDirectory() as name:
    state = Path(name)
    with vaultd(state) as vault:
        vault.birth()
        assert vault.give("set_password", password.encode()) == {"ok": True}
        assert vault.give("unlock", password.encode()) == {"ok": True}
        assert vault.install("a") == {"ok": True}
        vault.own(password.encode())
        firmware = f"{password} of the firmware"
        assert vault.give("set_firmware_password", firmware.encode()) == {"ok": True}
        assert vault.give("check_firmware_password", firmware.encode()) == {"ok": True}
        with vault.attach("format") as ssd:
            ssd.volume_key()
            assert vault.give("unlock", b"a wrong one")["error"] == "wrong"
            secrets = read_secrets(state, password=password.encode())
            sought = {**needles.of_text("password", password),
                      **needles.of_text("firmware password", firmware),
                      **needles.of_text("wrong password", "a wrong one")}
            for key in ("uid", "media_key", "volume_key", "sealing_key"):
                sought |= needles.of_key(key, secrets[key])
            found = scan.found_in_process(vault.process.pid, sought)
            regions = locked(vault.process.pid)
print(json.dumps([sorted(found), regions]))
"""


@pytest.fixture(scope="module")
def seen_by_root() -> tuple[list[list[str]], list[tuple[int, bool]]]:
    """What root sees of a vault that has just had passwords to check: keys, and locked memory."""
    found, regions = namespaces.run(LOOK, password=PASSWORD.decode())
    return found, regions


def test_all_it_can_write_to_is_kept_from_swap(
    seen_by_root: tuple[list[list[str]], list[tuple[int, bool]]],
) -> None:
    """Its data, stack, heap and the arena of its keys: none of it can reach a disk."""
    _, regions = seen_by_root
    assert len(regions) >= 3
    assert all(locked for _, locked in regions), regions


def test_a_password_is_not_kept(
    seen_by_root: tuple[list[list[str]], list[tuple[int, bool]]],
) -> None:
    """Right or wrong, it is wiped when it was looked at; the UID is where the search finds it."""
    found, _ = seen_by_root
    names = {name for name, _ in found}
    assert "uid" in names, "the control: the search finds nothing at all"
    assert not [name for name in names if "password" in name], names
    assert not [name for name in names if "schedule" in name], names
    print(names)
