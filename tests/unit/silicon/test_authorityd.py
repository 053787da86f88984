"""The authority as a process: what it signs and never signs again, bad days, confinement."""

import hashlib
import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cbor2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key

from tests.support.authority import AAD, EPOCH, TYPE, encode, request
from tests.support.authorityd import Authorityd, authorityd, program
from tests.support.record_reader import read_order
from tests.support.vaultd import PACKET_SIZE_BYTES_MAX, opened

NOBODY = 65534
NONCE = bytes(range(32))
ECID = 0x1122334455667788
PRODUCTS = 64
TICKET_SIZE_BYTES_MAX = 2048
SOON_SECONDS = 0.3
YEAR_SECONDS = 366 * 24 * 3600
FILES = ("authority.keys", "epochs")


@pytest.fixture
def authority(tmp_path: Path) -> Iterator[Authorityd]:
    with authorityd(tmp_path) as authority:
        yield authority


def code(reply: dict[str, Any]) -> object:
    """The code of a refusal, after checking its form."""
    assert set(reply) == {"ok", "error", "detail"}, reply
    assert reply["ok"] is False
    assert isinstance(reply["detail"], str)
    return reply["error"]


def read(ticket: bytes, ticket_key: bytes) -> dict[str, Any]:
    """The payload of a ticket, whose form and signature are as docs/tickets.md has them."""
    assert len(ticket) <= TICKET_SIZE_BYTES_MAX
    cose = cbor2.loads(ticket)
    assert cose.tag == 18
    header, unprotected, payload, signature = cose.value
    assert header == encode({1: -7, 4: hashlib.sha256(ticket_key).digest(), 16: TYPE})
    assert unprotected == {}
    assert ticket == encode(cbor2.CBORTag(18, [header, {}, payload, signature]))
    key = load_der_public_key(ticket_key)
    assert isinstance(key, ec.EllipticCurvePublicKey)
    numbers = (int.from_bytes(part) for part in (signature[:32], signature[32:]))
    signed = encode(["Signature1", header, AAD, payload])
    key.verify(encode_dss_signature(*numbers), signed, ec.ECDSA(SHA256()))
    fields = cbor2.loads(payload)
    assert encode(fields) == payload
    return dict(fields)


def test_identity_is_what_the_protocol_says(authority: Authorityd) -> None:
    """Promise: the public half is two P-256 keys, and an RSA-2048 certificate for signing code."""
    identity = authority.ask("identity")
    assert set(identity) == {"ok", "ticket_key", "vendor", "order_key"}
    for name in ("ticket_key", "order_key"):
        assert len(identity[name]) == 91
        key = load_der_public_key(identity[name])
        assert isinstance(key, ec.EllipticCurvePublicKey)
        assert isinstance(key.curve, ec.SECP256R1)
    assert identity["ticket_key"] != identity["order_key"]
    vendor = x509.load_der_x509_certificate(identity["vendor"])
    vendor.verify_directly_issued_by(vendor)
    public_key = vendor.public_key()
    assert isinstance(public_key, rsa.RSAPublicKey)
    assert public_key.key_size == 2048
    usage = vendor.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [x509.oid.ExtendedKeyUsageOID.CODE_SIGNING]
    # Its name tells authorities apart where people see it.
    name = vendor.subject.rfc4514_string()
    assert hashlib.sha256(identity["ticket_key"]).hexdigest()[:16] in name


def test_authority_stays_the_same(tmp_path: Path, authority: Authorityd) -> None:
    """Promise: keys are made once, lie in a file for their owner alone, and are there again."""
    identity = authority.ask("identity")
    assert authority.close() == (0, "")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(FILES)
    assert {(tmp_path / name).stat().st_mode & 0o777 for name in FILES} == {0o600}
    with authorityd(tmp_path) as again:
        assert again.ask("identity") == identity


def test_another_folder_is_another_authority(tmp_path: Path) -> None:
    keys = set()
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        with authorityd(tmp_path / name) as authority:
            keys.add(authority.ticket_key())
    assert len(keys) == 2


def test_ticket_is_the_request_with_its_time(authority: Authorityd) -> None:
    """Promise: what was asked is signed, nothing left out and nothing put in but the time."""
    asked = request(ECID, NONCE)
    before = int(time.time())
    ticket = read(authority.ask("sign_ticket", request=asked)["ticket"], authority.ticket_key())
    assert before <= ticket.pop("issued") <= time.time()
    expected = cbor2.loads(asked)
    assert expected.pop("type") == "ticket request"
    assert ticket == expected


def test_older_systems_are_refused_for_good(tmp_path: Path, authority: Authorityd) -> None:
    """Promise: what a product's epoch once was, no later ticket is below, whoever asks whom."""

    def ask(
        authority: Authorityd, epoch: int, ecid: int = ECID, **changed: object
    ) -> dict[str, Any]:
        asked = request(ecid, NONCE, epoch=epoch, **changed)
        return authority.ask("sign_ticket", request=asked)

    assert ask(authority, EPOCH)["ok"]
    assert code(ask(authority, EPOCH - 1)) == "epoch"
    assert ask(authority, EPOCH)["ok"]
    assert ask(authority, 1, product="pro")["ok"]
    authority.process.send_signal(signal.SIGKILL)
    authority.process.wait(60)
    with authorityd(tmp_path) as again:
        assert code(ask(again, EPOCH - 1)) == "epoch"
        assert code(ask(again, EPOCH - 1, ecid=ECID + 1)) == "epoch"
        assert ask(again, EPOCH + 1)["ok"]
        assert code(ask(again, EPOCH)) == "epoch"
        assert ask(again, 1, product="pro")["ok"]


def test_work_order_says_what_was_asked(authority: Authorityd) -> None:
    """Promise: an order is for one chip, one job and some days, under the order key, and no other
    order has its number."""
    key = authority.ask("identity")["order_key"]
    asked = {"ecid": 2**64 - 1, "job": "memory 64", "not_before": 5, "not_after": 5 + YEAR_SECONDS}
    before = int(time.time())
    first, second = (
        read_order(authority.ask("sign_order", **asked)["order"], key) for _ in range(2)
    )
    assert before <= first.pop("issued") <= time.time()
    assert len(first["id"]) == 16
    assert first.pop("id") != second["id"]
    assert first == {**asked, "type": "work order", "version": 1}


def test_work_order_has_to_end(authority: Authorityd) -> None:
    """Promise: no order is signed that would be good for more than 366 days, or never."""
    for first, last in ((1, 0), (0, YEAR_SECONDS + 1), (0, 2**64 - 1)):
        asked = {"ecid": ECID, "job": "stand", "not_before": first, "not_after": last}
        assert code(authority.ask("sign_order", **asked)) == "validity"


def test_products_have_a_limit(authority: Authorityd) -> None:
    """Promise: nobody fills the folder with names; those that are known go on."""
    for number in range(PRODUCTS):
        asked = request(ECID, NONCE, product=f"product-{number}")
        assert authority.ask("sign_ticket", request=asked)["ok"]
    more = request(ECID, NONCE, product="one-more")
    assert code(authority.ask("sign_ticket", request=more)) == "products"
    known = request(ECID, NONCE, product="product-0", epoch=EPOCH + 1)
    assert authority.ask("sign_ticket", request=known)["ok"]


@pytest.mark.parametrize(
    "asked",
    [
        b"",
        b"\xa0",
        request(ECID, NONCE) + b"\0",
        request(ECID, NONCE)[:-1],
        request(ECID, NONCE[:-1]),
        request(-1, NONCE),
        request(2**64, NONCE),
        request(ECID, NONCE, product=""),
        request(ECID, NONCE, product="Tiny"),
        request(ECID, NONCE, product="x" * 33),
        request(ECID, NONCE, epoch="1"),
        request(ECID, NONCE, version=2),
        request(ECID, NONCE, type="ticket"),
        request(ECID, NONCE, issued=1),
        request(ECID, NONCE, components={}),
        # The same values, but not in the one form.
        cbor2.dumps(dict(reversed(cbor2.loads(request(ECID, NONCE)).items()))),
    ],
)
def test_what_is_no_request_gets_no_ticket(authority: Authorityd, asked: bytes) -> None:
    """Promise: one form is signed, and what is refused changes nothing."""
    assert code(authority.ask("sign_ticket", request=asked)) == "malformed"
    assert authority.ask("sign_ticket", request=request(ECID, NONCE, epoch=0))["ok"]


@pytest.mark.parametrize(
    "packet",
    [
        b"\xff",
        cbor2.dumps([]),
        cbor2.dumps({}),
        cbor2.dumps({"op": 1}),
        cbor2.dumps({"op": "identity", "more": 1}),
        cbor2.dumps({"op": "identity"}) + b"\0",
        cbor2.dumps({"op": "sign_ticket"}),
        cbor2.dumps({"op": "sign_ticket", "request": "text"}),
        cbor2.dumps({"op": "sign_order"}),
        cbor2.dumps({"op": "sign_order", "ecid": 1, "job": 2, "not_before": 3, "not_after": 4}),
        cbor2.dumps({"op": "sign_order", "ecid": 1, "job": "stand", "not_before": 3}),
        cbor2.dumps({"op": "sign_order", "ecid": 1, "job": "", "not_before": 3, "not_after": 4}),
        cbor2.dumps({"op": "sign_order", "ecid": 1, "job": "A", "not_before": 3, "not_after": 4}),
        cbor2.dumps({"op": "sign_image"}),
        cbor2.dumps({"op": "sign_image", "digest": bytes(31)}),
        cbor2.dumps({"op": "sign_image", "digest": bytes(33)}),
        cbor2.dumps({"op": "identity", "pad": bytes(PACKET_SIZE_BYTES_MAX)}),
    ],
)
def test_malformed_packet_spoils_only_itself(authority: Authorityd, packet: bytes) -> None:
    """Promise: whatever arrives, the authority says so and goes on."""
    assert code(authority.ask_raw(packet)) == "malformed"
    assert authority.ask("identity")["ok"]


def test_nothing_else_is_known_and_no_descriptor_taken(authority: Authorityd) -> None:
    """Promise: no operation gives a key away, signs anything else or keeps a descriptor."""
    for op in ("export", "keys", "sign", "sign_bytes"):
        assert code(authority.ask(op)) == "unknown_op"
    reader, writer = os.pipe()
    assert code(authority.ask("identity", writer)) == "descriptor"
    os.close(writer)
    with open(reader, "rb") as pipe:  # ends only when every copy of the write end is closed
        assert pipe.read() == b""


def test_one_waits_for_the_other(tmp_path: Path, authority: Authorityd) -> None:
    """Promise: two at once on one folder take turns, and are the same authority."""
    key = authority.ticket_key()
    with authorityd(tmp_path) as second:
        second.link.send(cbor2.dumps({"op": "identity"}))
        assert select.select([second.link], [], [], SOON_SECONDS)[0] == []
        asked = request(ECID, NONCE, epoch=EPOCH)
        assert authority.ask("sign_ticket", request=asked)["ok"]
        authority.close()
        assert cbor2.loads(second.link.recv(PACKET_SIZE_BYTES_MAX))["ticket_key"] == key
        older = request(ECID, NONCE, epoch=EPOCH - 1)
        assert code(second.ask("sign_ticket", request=older)) == "epoch"


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("how", ["missing", "changed", "cut", "long", "link", "another"])
def test_damaged_folder_is_no_new_authority(
    tmp_path: Path, authority: Authorityd, name: str, how: str
) -> None:
    """Promise: damage ends it with one line, and never are other keys or a new memory made."""
    assert authority.ask("sign_ticket", request=request(ECID, NONCE))["ok"]
    authority.close()
    path = tmp_path / name
    content = path.read_bytes()
    path.unlink()
    if how == "changed":
        path.write_bytes(content[:20] + bytes([content[20] ^ 1]) + content[21:])
    elif how == "cut":
        path.write_bytes(content[:-1])
    elif how == "long":
        path.write_bytes(content.ljust(100_000, b"\0"))
    elif how == "link":
        path.with_name("elsewhere").write_bytes(content)
        path.symlink_to("elsewhere")
    elif how == "another":
        other = tmp_path / "other"
        other.mkdir()
        with authorityd(other) as another:
            assert another.ask("identity")["ok"]
        path.write_bytes((other / next(each for each in FILES if each != name)).read_bytes())
    before = {each.name for each in tmp_path.iterdir()}
    with authorityd(tmp_path) as again:
        assert again.link.recv(PACKET_SIZE_BYTES_MAX) == b""
        status, said = again.close()
    assert status == 1
    assert said.startswith("authorityd: opening the authority: ")
    assert said.count("\n") == 1
    assert {each.name for each in tmp_path.iterdir()} == before


def test_folder_that_cannot_be_written(tmp_path: Path) -> None:
    """Promise: no ticket leaves whose epoch could not be written down; later it goes on."""
    user = NOBODY if os.geteuid() == 0 else None
    if user is not None:
        os.chown(tmp_path, user, -1)
    with authorityd(tmp_path, user) as authority:
        assert authority.ask("sign_ticket", request=request(ECID, NONCE))["ok"]
        tmp_path.chmod(0o500)
        newer = request(ECID, NONCE, epoch=EPOCH + 1)
        assert code(authority.ask("sign_ticket", request=newer)) == "storage"
        # Nothing new is to be written for this one.
        assert authority.ask("sign_ticket", request=request(ECID, NONCE))["ok"]
        tmp_path.chmod(0o700)
        assert authority.ask("sign_ticket", request=newer)["ok"]


def test_wrong_start_prints_one_line(tmp_path: Path) -> None:
    """Promise: a wrong start is an error with a status, never a half-confined authority."""

    def ended(*words: str, keep: tuple[int, ...] = ()) -> "subprocess.CompletedProcess[str]":
        done = subprocess.run(
            [program(), *words],
            pass_fds=keep,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.stderr.count("\n") == 1, done.stderr
        assert done.stderr.startswith("authorityd: ")
        return done

    for words in ([], ["--help"], ["--state-fd", "900", "--link-fd", "901"]):
        assert ended(*words).returncode == 2
    ours, stream = socket.socketpair()
    with ours, stream, opened(tmp_path) as folder:
        words = ["--state-fd", str(folder), "--link-fd", str(stream.fileno())]
        assert ended(*words, keep=(folder, stream.fileno())).returncode == 1
    assert list(tmp_path.iterdir()) == []


def test_process_is_confined(authority: Authorityd) -> None:
    """Promise: seccomp, no new privileges, one thread, no core."""
    assert authority.ask("identity")["ok"]
    process = Path(f"/proc/{authority.process.pid}")
    status = dict(line.split(":\t", 1) for line in (process / "status").read_text().splitlines())
    assert status["Seccomp"] == "2"
    assert status["NoNewPrivs"] == "1"
    assert status["Threads"] == "1"
    limits = (process / "limits").read_text().splitlines()
    core = next(line for line in limits if "core file" in line)
    assert core.split()[4:6] == ["0", "0"]


def test_others_of_the_same_user_cannot_look_inside(tmp_path: Path) -> None:
    """Promise: the process is not dumpable: its own user cannot read its /proc files."""
    user = NOBODY if os.geteuid() == 0 else None
    if user is not None:
        os.chown(tmp_path, user, -1)

    def environment_of(pid: int) -> int:
        command = ["cat", f"/proc/{pid}/environ"]
        return subprocess.run(command, capture_output=True, user=user, check=False).returncode

    with authorityd(tmp_path, user) as authority:
        assert authority.ask("identity")["ok"]
        assert environment_of(authority.process.pid) != 0
        with subprocess.Popen(["cat"], stdin=subprocess.PIPE, user=user) as control:
            assert environment_of(control.pid) == 0
