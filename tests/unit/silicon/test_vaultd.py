"""The vault as a process: its protocol, its bad days, its confinement."""

import os
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

import cbor2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key

from tests.support.vaultd import (
    PACKET_SIZE_BYTES_MAX,
    Vaultd,
    opened,
    pins,
    run_to_end,
    vaultd,
)

NOBODY = 65534
VENDOR_LIMIT_BYTES = 2048


def code(reply: dict[str, Any]) -> object:
    """The code of a refusal, after checking its form."""
    assert set(reply) == {"ok", "error", "detail"}, reply
    assert reply["ok"] is False
    assert isinstance(reply["detail"], str)
    return reply["error"]


def test_chip_stays_the_same_across_power_offs(tmp_path: Path) -> None:
    """Promise: the chip that is opened is the one that was born."""
    with vaultd(tmp_path) as vault:
        ecid = vault.birth()
        identity = vault.ask("identity")
        with vault.attach() as ssd:
            key = ssd.volume_key()
        assert vault.close() == 0
    with vaultd(tmp_path) as vault:
        assert vault.ask("open") == {"ok": True, "ecid": ecid}
        assert vault.ask("identity") == identity
        with vault.attach() as ssd:
            assert ssd.volume_key() == key
        assert len(key) == 32


def test_identity_is_what_the_protocol_says(chip: Vaultd) -> None:
    """Promise: others can read the public half: a P-256 key and two RSA-2048 certificates of the
    chip's own, and the vendor's as it was pinned."""
    identity = chip.ask("identity")
    assert set(identity) == {"ok", "ecid", "identity_public_key", "pk", "kek", "vendor"}
    assert 0 <= identity["ecid"] < 2**64
    key = load_der_public_key(identity["identity_public_key"])
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert isinstance(key.curve, ec.SECP256R1)
    assert identity["vendor"] == pins()["vendor"]
    moduli = set()
    for name in ("pk", "kek"):
        certificate = x509.load_der_x509_certificate(identity[name])
        certificate.verify_directly_issued_by(certificate)
        assert f"0x{identity['ecid']:016x}" in certificate.subject.rfc4514_string()
        public_key = certificate.public_key()
        assert isinstance(public_key, rsa.RSAPublicKey)
        assert public_key.key_size == 2048
        moduli.add(public_key.public_numbers().n)
    assert len(moduli) == 2


def test_the_longest_certificate_fits(tmp_path: Path) -> None:
    """Promise: what may be pinned can be asked for, however long: in one packet."""
    vendor = bytes(VENDOR_LIMIT_BYTES)
    with vaultd(tmp_path) as vault:
        longer = {**pins(), "vendor": vendor + b"x"}
        assert code(vault.ask("birth", seal="keyfile", **longer)) == "malformed"
        assert vault.ask("birth", seal="keyfile", **{**pins(), "vendor": vendor})["ok"]
        assert vault.ask("identity")["vendor"] == vendor


def test_nothing_is_answered_before_birth_or_opening(tmp_path: Path) -> None:
    """Promise: a locked vault does nothing but unlock."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with vaultd(tmp_path) as vault, ours, theirs:
        assert code(vault.ask("identity")) == "locked"
        assert code(vault.ask("boot")) == "locked"
        assert code(vault.ask("begin_start", target="main")) == "locked"
        assert code(vault.ask("attach_ssd", theirs.fileno(), mode="format")) == "locked"
        assert code(vault.ask("open")) == "unborn"
        assert list(tmp_path.iterdir()) == []


def test_second_birth_is_refused(tmp_path: Path, chip: Vaultd) -> None:
    """Promise: a chip is born once, and the refusal leaves it working."""
    before = (tmp_path / "vault.sealed").read_bytes()
    assert code(chip.ask("birth", seal="keyfile", **pins())) == "exists"
    assert chip.ask("identity")["ok"]
    chip.close()
    with vaultd(tmp_path) as vault:
        assert code(vault.ask("birth", seal="keyfile", **pins())) == "exists"
    assert (tmp_path / "vault.sealed").read_bytes() == before


def test_wrong_or_missing_key_file_is_sealed(tmp_path: Path, chip: Vaultd) -> None:
    """Promise: the store without its own sealing key opens for nobody."""
    chip.close()
    (tmp_path / "sealing.key").write_bytes(bytes(32))
    with vaultd(tmp_path) as vault:
        assert code(vault.ask("open")) == "sealed"
        (tmp_path / "sealing.key").unlink()
        assert code(vault.ask("open")) == "sealed"
        assert code(vault.ask("identity")) == "locked"


def test_damaged_store_is_corrupt(tmp_path: Path, chip: Vaultd) -> None:
    """Promise: damage is told from a wrong key, and nothing is opened."""
    chip.close()
    store = tmp_path / "vault.sealed"
    store.write_bytes(store.read_bytes()[:-1])
    with vaultd(tmp_path) as vault:
        assert code(vault.ask("open")) == "corrupt"
        assert code(vault.ask("identity")) == "locked"


@pytest.mark.parametrize(
    "packet",
    [
        b"\xff",
        b"no cbor",
        cbor2.dumps([]),
        cbor2.dumps({}),
        cbor2.dumps({"op": 1}),
        cbor2.dumps({"op": "identity", "more": 1}),
        cbor2.dumps({"op": "identity"}) + b"\0",
        cbor2.dumps({"op": "keep_variables"}),
        cbor2.dumps({"op": "keep_variables", "digest": bytes(31)}),
        cbor2.dumps({"op": "keep_variables", "digest": "0" * 32}),
        cbor2.dumps({"op": "attach_ssd"}),
        cbor2.dumps({"op": "attach_ssd", "mode": "steal"}),
        cbor2.dumps({"op": "birth"}),
        cbor2.dumps({"op": "birth", "seal": "keyfile"}),
        cbor2.dumps({"op": "birth", "seal": "keyfile", **pins(), "authority": bytes(90)}),
        cbor2.dumps({"op": "restore"}),
        cbor2.dumps({"op": "restore", **pins(), "vendor": b""}),
        cbor2.dumps({"op": "restore", **pins(), "authority": bytes(91)}),
        cbor2.dumps({"op": "unlock", "with": "password"}),
        cbor2.dumps({"op": "identity", "pad": bytes(PACKET_SIZE_BYTES_MAX)}),
        bytes(PACKET_SIZE_BYTES_MAX),
    ],
)
def test_malformed_packet_spoils_only_itself(chip: Vaultd, packet: bytes) -> None:
    """Promise: whatever arrives, the vault says so and goes on."""
    assert code(chip.ask_raw(packet)) == "malformed"
    assert chip.ask("identity")["ok"]


def test_unknown_operation_is_named_as_such(chip: Vaultd) -> None:
    """Promise: no operation hands out more than the protocol lists."""
    for op in ("export", "sign_image", "volume_key", "read_anchor", "write_anchor"):
        assert code(chip.ask(op)) == "unknown_op"


def test_stray_descriptors_are_refused_and_closed(chip: Vaultd) -> None:
    """Promise: the vault holds no descriptor that it was not given for a reason."""
    reader, writer = os.pipe()
    assert code(chip.ask("identity", writer)) == "descriptor"
    assert code(chip.ask("attach_ssd", writer, mode="open")) == "descriptor"
    assert code(chip.ask("attach_ssd", writer, writer, mode="open")) == "descriptor"
    assert code(chip.ask("attach_ssd", *[writer] * 4, mode="open")) == "malformed"
    assert code(chip.ask("attach_ssd", *[writer] * 20, mode="open")) == "malformed"
    os.close(writer)
    with open(reader, "rb") as pipe:  # ends only when every copy of the write end is closed
        assert pipe.read() == b""


def test_two_vaults_cannot_share_a_folder(tmp_path: Path, chip: Vaultd) -> None:
    """Promise: a second vault on the same folder ends with one line; the first goes on."""
    with vaultd(tmp_path) as second:
        assert second.process.wait(60) == 1
        assert second.process.stderr is not None
        assert second.process.stderr.read().count("\n") == 1
    assert chip.ask("identity")["ok"]


def test_killed_vault_loses_nothing(tmp_path: Path, chip: Vaultd) -> None:
    """Promise: after SIGKILL the next vault opens the same chip."""
    identity = chip.ask("identity")
    chip.process.send_signal(signal.SIGKILL)
    chip.process.wait(60)
    with vaultd(tmp_path) as vault:
        assert vault.ask("open")["ok"]
        assert vault.ask("identity") == identity


def test_wrong_start_prints_one_line(tmp_path: Path) -> None:
    """Promise: a wrong start is an error with a status, never a half-confined vault."""
    for arguments in ([], ["--help"], ["--state-fd", "900", "--link-fd", "901"]):
        ended = run_to_end(arguments)
        assert ended.returncode == 2
        assert ended.stderr.count("\n") == 1, ended.stderr
    ours, stream = socket.socketpair()
    with ours, stream, opened(tmp_path) as folder, opened(Path("/dev/null")) as file:
        for state, link in ((folder, stream.fileno()), (folder, file), (file, stream.fileno())):
            ended = run_to_end(["--state-fd", str(state), "--link-fd", str(link)], state, link)
            assert ended.returncode == 1
            assert ended.stderr.count("\n") == 1, ended.stderr


def test_process_is_confined(chip: Vaultd) -> None:
    """Promise: seccomp, no new privileges, no core, and silence on standard error."""
    process = Path(f"/proc/{chip.process.pid}")
    status = dict(line.split(":\t", 1) for line in (process / "status").read_text().splitlines())
    assert status["Seccomp"] == "2"
    assert status["NoNewPrivs"] == "1"
    assert status["Threads"] == "1"
    core = next(
        line for line in (process / "limits").read_text().splitlines() if "core file" in line
    )
    assert core.split()[4:6] == ["0", "0"]


def test_others_of_the_same_user_cannot_look_inside(tmp_path: Path) -> None:
    """Promise: the process is not dumpable: its own user cannot read its /proc files."""
    user = NOBODY if os.geteuid() == 0 else None
    if user is not None:
        os.chown(tmp_path, user, -1)

    def environment_of(pid: int) -> int:
        command = ["cat", f"/proc/{pid}/environ"]
        return subprocess.run(command, capture_output=True, user=user, check=False).returncode

    with vaultd(tmp_path, user) as vault:
        assert vault.birth()
        assert environment_of(vault.process.pid) != 0
        with subprocess.Popen(["cat"], stdin=subprocess.PIPE, user=user) as control:
            assert environment_of(control.pid) == 0
