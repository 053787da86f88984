"""What is said about the host is true, and a lack is named with its remedy."""

import os
import subprocess
from pathlib import Path

import pytest

from spacegray import host
from spacegray.apt_sources import PUBLIC_MIRROR
from spacegray.errors import SpacegrayError
from spacegray.paths import Paths


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths.current({"SPACEGRAY_HOME": str(tmp_path)})


def found(paths: Paths) -> dict[str, host.Check]:
    checks = host.checks(paths, accelerator="tcg", accelerator_reason="because")
    return {check.name: check for check in checks}


def program(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_facts_of_this_host() -> None:
    facts = host.Host.current()
    assert facts.kernel == os.uname().release
    assert 1 <= facts.cpus <= (os.cpu_count() or 1)
    assert 0 < facts.memory_available_bytes <= facts.memory_total_bytes
    assert facts.cpu_model
    assert facts.distribution in facts.name.lower()


def test_os_release_is_unquoted_and_may_be_absent(tmp_path: Path) -> None:
    file = tmp_path / "os-release"
    file.write_text("# comment\nID=debian\nPRETTY_NAME=\"Debian GNU/Linux 13\"\nVERSION_ID='13'\n")
    fields = host.os_release(file)
    assert fields["PRETTY_NAME"] == "Debian GNU/Linux 13"
    assert fields["VERSION_ID"] == "13"
    assert host.os_release(tmp_path / "absent") == {}


def test_qemu_says_its_version() -> None:
    said = subprocess.run([host.QEMU, "--version"], capture_output=True, text=True, check=True)
    assert host.qemu_version() in said.stdout


def test_without_qemu_the_error_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "find_program", lambda _: None)
    with pytest.raises(SpacegrayError, match="qemu-system-x86"):
        host.qemu_version()


def test_without_firmware_the_error_names_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "OVMF_FOLDER", tmp_path)
    with pytest.raises(SpacegrayError, match="package ovmf"):
        host.ovmf()


def test_no_kvm_says_so_and_gives_a_remedy(tmp_path: Path) -> None:
    kvm = host.kvm(tmp_path / "kvm")
    assert not kvm.exists
    assert not kvm.usable
    assert "no " in kvm.problem
    assert kvm.remedy


def test_a_kvm_that_may_not_be_opened_names_its_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = tmp_path / "kvm"
    device.touch()
    device.chmod(0o660)

    def refuse(*_: object) -> int:
        raise PermissionError

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        kvm = host.kvm(device)
        device.chmod(0o600)
        private = host.kvm(device)
    assert kvm.exists
    assert not kvm.usable
    assert f"-aG {device.group()} " in kvm.remedy
    assert "setfacl" in private.remedy


def test_every_check_speaks_for_itself(paths: Paths) -> None:
    checks = found(paths)
    for check in checks.values():
        assert check.found
        assert check.means
        assert check.status == "ok" or check.remedy or check.name == "browser"
        assert check.as_dict()["name"] == check.name
    assert checks["accelerator"].found == "because"
    assert {"QEMU", "OVMF", "Landlock", "user namespaces", "memory", "disk"} <= checks.keys()


def test_a_program_that_is_missing_is_reported_with_its_package(
    paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(host, "_SYSTEM_FOLDERS", ())
    checks = found(paths)
    for wanted in host.PROGRAMS:
        assert checks[wanted.name].status == "missing"
        assert wanted.package in checks[wanted.name].remedy


def test_programs_outside_of_the_path_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path / "mkfs.vfat", "true")
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr(host, "_SYSTEM_FOLDERS", (str(tmp_path),))
    assert host.find_program("mkfs.vfat") == tmp_path / "mkfs.vfat"


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("echo 'mkfs.erofs 1.5'; exit 1", "ok"),
        ("echo 'mkfs.erofs (erofs-utils) 1.8.6'", "ok"),
        ("echo 'mkfs.erofs 1.4'", "missing"),
        ("echo nonsense", "missing"),
    ],
)
def test_the_version_of_erofs_utils_is_read_in_both_forms(
    paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, status: str
) -> None:
    program(tmp_path / "mkfs.erofs", text)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert found(paths)["mkfs.erofs"].status == status


def test_user_namespaces_are_really_tried(
    paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    for status, wanted in (("0", "ok"), ("1", "missing")):
        program(tmp_path / "mmdebstrap", f'[ "$*" = "--unshare-helper true" ] && exit {status}')
        assert found(paths)["user namespaces"].status == wanted


def test_little_memory_and_little_disk_are_limits(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "free_bytes", lambda _: host.DISK_LEAST_BYTES - 1)
    monkeypatch.setattr(host, "MEMORY_LEAST_BYTES", 1 << 60)
    checks = found(paths)
    assert checks["disk"].status == "limited"
    assert checks["memory"].status == "limited"


def test_free_room_of_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    assert host.free_bytes(tmp_path / "not" / "yet") > 0


def test_the_vault_is_checked_where_its_path_is_given(paths: Paths, tmp_path: Path) -> None:
    def vault(path: Path) -> host.Check:
        checks = host.checks(paths, accelerator="kvm", accelerator_reason="", vaultd=path)
        return next(check for check in checks if check.name == "vault")

    program(tmp_path / "vaultd", "true")
    assert vault(tmp_path / "vaultd").status == "ok"
    assert vault(tmp_path / "absent").status == "missing"


def test_a_host_that_is_not_debian_takes_the_public_mirror(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "os_release", lambda: {"ID": "ubuntu"})
    monkeypatch.setattr(host, "debian_mirror", lambda: "http://wrong.example/debian")
    assert host.mirror() == PUBLIC_MIRROR
    monkeypatch.setattr(host, "os_release", lambda: {"ID": "debian"})
    assert host.mirror() == "http://wrong.example/debian"
