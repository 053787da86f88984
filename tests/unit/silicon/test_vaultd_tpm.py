"""The vault as a process, sealed by a TPM: confined, beside others, and with a TPM that fails."""

import socket
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import tpm as support
from tests.support.tpm import EmulatedTpm, emulated_tpm
from tests.support.vaultd import Vaultd, pins, vaultd

STIR_RANDOM = 0x146


@dataclass
class Host:
    """A TPM and the folder of the map that it vouches for."""

    tpm: EmulatedTpm
    folder: Path

    def state(self, name: str) -> Path:
        """A chip's state folder."""
        place = self.folder / name
        place.mkdir(exist_ok=True)
        return place

    def vault(self, name: str = "chip") -> AbstractContextManager[Vaultd]:
        """A vault on this folder, with the TPM."""
        return vaultd(self.state(name), tpm=self.tpm.socket, host_state=self.state("host"))


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    with emulated_tpm() as tpm:
        yield Host(tpm, tmp_path)


def opened(vault: Vaultd) -> dict[str, object]:
    assert vault.ask("open")["ok"] is True
    return vault.ask("status")


def test_life_with_a_tpm(host: Host) -> None:
    """Promise: birth, opening after the host was off, erase, a new life and the end work confined;
    nothing is left in the TPM."""
    with host.vault() as vault:
        ecid = vault.birth("tpm2")
    host.tpm.restart()
    with host.vault() as vault:
        status = opened(vault)
        assert status["ecid"] == ecid
        assert (status["seal"], status["root"]) == ("tpm2", "tpm")
        with vault.attach("format") as ssd:
            key = ssd.volume_key()
        assert vault.ask("erase")["ok"] is True
        assert vault.ask("restore", **pins())["ok"] is True
        assert len(host.tpm.indices()) == 3
    with host.vault() as vault:
        assert opened(vault)["lives"] == 2
        with vault.attach("format") as ssd:
            assert ssd.volume_key() != key
        assert vault.ask("destroy") == {"ok": True}
        assert vault.close() == 0
    assert host.tpm.indices() == []


def test_vaults_share_a_tpm(host: Host) -> None:
    """Promise: many vaults at once use one TPM and one map, none disturbs another, and the counter
    goes up once for each change."""
    names = [f"chip{number}" for number in range(4)]

    def live(name: str) -> int:
        with host.vault(name) as vault:
            ecid = vault.birth("tpm2")
            with vault.attach("format"):
                pass
        return ecid

    with ThreadPoolExecutor(len(names)) as pool:
        ecids = list(pool.map(live, names))
    assert len(host.tpm.indices()) == 2 + len(names)
    for name, ecid in zip(names, ecids, strict=True):
        counted = host.tpm.commands[support.NV_INCREMENT]
        with host.vault(name) as vault:
            status = opened(vault)
            assert (status["ecid"], status["put_back"]) == (ecid, False)
            # Opening reads and writes nothing.
            assert host.tpm.commands[support.NV_INCREMENT] == counted
            with vault.attach():
                pass
            assert host.tpm.commands[support.NV_INCREMENT] > counted


def test_bus_shows_no_key(host: Host) -> None:
    """Attack: somebody reads everything between vault and TPM, from birth to erase. Neither the
    disk's key nor the key file passes; the control, sent on purpose, is found."""
    with host.vault() as vault:
        vault.birth("tpm2")
        with vault.attach("format") as ssd:
            key = ssd.volume_key()
    with host.vault() as vault:
        opened(vault)
        vault.ask("erase")
    key_file = (host.state("chip") / "sealing.key").read_bytes()

    def shown(secret: bytes) -> bool:
        parts = [secret[place : place + 8] for place in range(len(secret) - 7)]
        return any(part in packet for packet in host.tpm.traffic for part in parts)

    assert sum(host.tpm.commands.values()) > 30
    assert not shown(key)
    assert not shown(key_file)
    with socket.socket(socket.AF_UNIX) as plain:
        plain.connect(str(host.tpm.socket))
        body = struct.pack(">H", len(key)) + key
        size = support.HEADER.size + len(body)
        plain.sendall(support.HEADER.pack(support.NO_SESSIONS, size, STIR_RANDOM) + body)
        assert support.receive(plain)
    assert shown(key)


def test_lost_tpm_is_refused(host: Host) -> None:
    """Promise: without its TPM, with another one, or with one that was cleared, the chip stays shut
    and says so; with its own it opens again; and it can always be destroyed."""
    with host.vault() as vault:
        vault.birth("tpm2")
    with host.vault() as vault:
        host.tpm.kill()
        refusal = vault.ask("open")
        assert (refusal["ok"], refusal["error"]) == (False, "tpm")
        assert vault.ask("status")["ok"] is False
    host.tpm.start()
    with host.vault() as vault:
        opened(vault)
    host.tpm.clear()
    for _ in range(2):
        with host.vault() as vault:
            refusal = vault.ask("open")
            assert (refusal["ok"], refusal["error"]) == (False, "tpm")
        host.tpm.lose()
    with host.vault() as vault:
        vault.ask("destroy")
        assert vault.ask("open")["error"] == "unborn"
    with host.vault() as vault:
        vault.birth("tpm2")
    with host.vault() as vault:
        opened(vault)
