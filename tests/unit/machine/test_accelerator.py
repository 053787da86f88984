"""KVM is taken only where it booted firmware; everything else is emulation, with the reason."""

import os
import stat
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import msgspec
import pytest

from spacegray import host, process
from spacegray.confinement import Reach
from spacegray.errors import SpacegrayError
from spacegray.machine import accelerator, arguments
from spacegray.machine.accelerator import Finding, choose, probe
from spacegray.paths import Paths

REAL_PROBE_SECONDS = 120.0
USABLE = host.Kvm(exists=True, usable=True, problem="", remedy="")
ABSENT = host.Kvm(False, False, "this host has no /dev/kvm", "buy one")
FORBIDDEN = host.Kvm(True, False, "this user may not open /dev/kvm", "ask for it")

FAKE_QEMU = """\
#!{python}
import os, re, sys, time
if "--version" in sys.argv:
    print("QEMU emulator version {version} (fake)")
    sys.exit()
with open({runs!r}, "a") as file:
    file.write(f"{{os.getpid()}}\\n")
serial = int(re.search(r"id=serial,fd=(\\d+)", " ".join(sys.argv))[1])
{behaviour}
"""
BOOTS = r"os.write(serial, b'\x1b[2J\x1b[01;01HBdsDxe: loading'); time.sleep(60)"
HANGS = r"os.write(serial, b'\x1b[2J'); time.sleep(60)"
FAILS = (
    "sys.exit('qemu-system-x86_64: warning: never mind\\n"
    "qemu-system-x86_64: error: failed to set MSR 0x10a\\nAssertion failed.')"
)


class FakeQemu:
    """A program called as QEMU that boots, hangs or fails, and counts how often it ran."""

    def __init__(self, folder: Path) -> None:
        self.program = folder / host.QEMU
        self._runs = folder / "runs"
        self._runs.touch()

    def install(self, behaviour: str, version: str = "9.9.9") -> None:
        self.program.write_text(
            FAKE_QEMU.format(
                python=sys.executable, version=version, runs=str(self._runs), behaviour=behaviour
            )
        )
        self.program.chmod(0o755)

    @property
    def pids(self) -> list[int]:
        return [int(line) for line in self._runs.read_text().split()]


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths.current({"SPACEGRAY_HOME": str(tmp_path / "home")})


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeQemu:
    """A fake QEMU and a fake /dev/kvm that this user may open."""
    folder = tmp_path / "bin"
    folder.mkdir()
    device = tmp_path / "kvm"
    device.touch()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setattr(host, "KVM_DEVICE", device)
    monkeypatch.setattr(host, "kvm", lambda: USABLE)
    # The fake lies in a folder that a confined QEMU could not even be started from.
    monkeypatch.setattr(arguments, "reach", lambda *, kvm: Reach(write=(Path("/"),)))
    monkeypatch.setattr(accelerator, "PROBE_SECONDS", 3.0)
    return FakeQemu(folder)


def test_firmware_that_boots_means_kvm(paths: Paths, fake: FakeQemu) -> None:
    fake.install(BOOTS)
    chosen = choose(paths)
    assert chosen.name == "kvm"
    assert chosen.timeout_factor == 1
    assert chosen.reason.startswith("KVM: the firmware booted in ")


def test_a_decoy_that_hangs_is_found_out_and_killed(fake: FakeQemu) -> None:
    fake.install(HANGS)
    started = time.monotonic()
    works, detail = probe(timeout_seconds=1.5)
    assert not works
    assert time.monotonic() - started < 10
    assert detail == "/dev/kvm opens, but the firmware did not come up in 1.5 s"
    (pid,) = fake.pids
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_decoy_that_fails_is_quoted(paths: Paths, fake: FakeQemu) -> None:
    fake.install(FAILS)
    chosen = choose(paths)
    assert chosen.name == "tcg"
    assert chosen.timeout_factor > 1
    assert chosen.reason == (
        "software emulation: /dev/kvm opens, but QEMU failed (failed to set MSR 0x10a)"
    )


def test_what_is_forced_is_taken_and_the_finding_said(paths: Paths, fake: FakeQemu) -> None:
    fake.install(FAILS)
    forced = choose(paths, "kvm")
    assert forced.name == "kvm"
    assert "forced, although /dev/kvm opens, but QEMU failed" in forced.reason
    assert choose(paths, "tcg").name == "tcg"
    assert len(fake.pids) == 1, "forced emulation needs no probe"


@pytest.mark.parametrize("kvm", [ABSENT, FORBIDDEN])
def test_without_a_kvm_to_open_nothing_is_probed(
    paths: Paths, fake: FakeQemu, monkeypatch: pytest.MonkeyPatch, kvm: host.Kvm
) -> None:
    fake.install(BOOTS)
    monkeypatch.setattr(host, "kvm", lambda: kvm)
    assert choose(paths).reason == f"software emulation: {kvm.problem}"
    with pytest.raises(SpacegrayError, match=kvm.remedy):
        choose(paths, "kvm")
    assert fake.pids == []


def test_a_finding_is_kept_until_something_it_rests_on_changes(
    paths: Paths, fake: FakeQemu, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.install(FAILS)
    first = choose(paths)
    assert choose(paths) == first
    assert len(fake.pids) == 1

    fake.install(BOOTS, version="10.0.0")
    assert choose(paths).name == "kvm", "another QEMU"
    device = host.KVM_DEVICE
    device.chmod(stat.S_IMODE(device.stat().st_mode) ^ 0o060)
    choose(paths)
    assert len(fake.pids) == 3, "another permission"
    monkeypatch.setattr(process, "boot_id", lambda: "another boot")
    choose(paths)
    assert len(fake.pids) == 4, "another boot of the host"


def test_a_broken_cache_is_only_a_cache(paths: Paths, fake: FakeQemu) -> None:
    fake.install(BOOTS)
    paths.cache.mkdir(parents=True)
    kept = paths.cache / "accelerator.json"
    kept.write_bytes(b'{"works": tru')
    assert choose(paths).name == "kvm"
    assert msgspec.json.decode(kept.read_bytes(), type=Finding).works


def test_two_who_ask_at_once_share_one_probe(paths: Paths, fake: FakeQemu, tmp_path: Path) -> None:
    fake.install("time.sleep(0.5); " + BOOTS)
    script = tmp_path / "ask.py"
    script.write_text(
        textwrap.dedent(f"""
            from pathlib import Path
            from spacegray import host
            from spacegray.confinement import Reach
            from spacegray.machine import accelerator, arguments
            from spacegray.paths import Paths
            host.KVM_DEVICE = Path({str(host.KVM_DEVICE)!r})
            host.kvm = lambda: host.Kvm(True, True, "", "")
            arguments.reach = lambda *, kvm: Reach(write=(Path("/"),))
            print(accelerator.choose(Paths.current()).name)
        """)
    )
    environment = {**os.environ, "SPACEGRAY_HOME": str(paths.cache.parent)}
    asking = [
        subprocess.Popen(
            [sys.executable, script], env=environment, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    assert [one.communicate(timeout=60)[0] for one in asking] == ["kvm\n", "kvm\n"]
    assert len(fake.pids) == 1


def test_the_probe_really_boots_this_hosts_firmware() -> None:
    """The control of all above: marker, command line and confinement, with real QEMU and OVMF."""
    works, detail = probe(accelerator="tcg", timeout_seconds=REAL_PROBE_SECONDS)
    assert works, detail


def test_this_hosts_own_kvm_is_judged_by_a_real_boot(paths: Paths) -> None:
    if not host.kvm().usable:
        pytest.skip("this user has no /dev/kvm to open")
    chosen = choose(paths)
    works, detail = probe()
    assert chosen.name == ("kvm" if works else "tcg"), detail
    kept = msgspec.json.decode((paths.cache / "accelerator.json").read_bytes(), type=Finding)
    assert kept.works == works
