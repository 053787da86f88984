"""The embedded authority behind its small interface: one program for each request."""

import os
import socket
import threading
import time
from pathlib import Path

import cbor2
import pytest
from asn1crypto import cms
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256

from spacegray.boot import authority as module
from spacegray.boot.authority import AuthorityIdentity, AuthorityRefusalError, embedded
from spacegray.errors import SpacegrayError
from tests.support.authority import EPOCH, components, request

ECID, NONCE = 7, bytes(32)
IDENTITY_SECONDS = 0.3
"""What asking an authority may take whose keys are there (best of several)."""
COMMANDS = 4


def test_authority_is_made_once(tmp_path: Path) -> None:
    """Promise: its folder is its owner's alone, and the next command finds the same one."""
    folder = tmp_path / "state" / ".authority"
    with embedded(folder) as authority:
        first = authority.identity()
        assert authority.identity() == first
    with embedded(folder) as authority:
        assert authority.identity() == first
    assert folder.stat().st_mode & 0o777 == 0o700
    with embedded(tmp_path / "another") as other:
        assert other.identity() != first


def test_open_folder_is_closed_to_others(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    with embedded(tmp_path) as authority:
        assert authority.identity()
    assert tmp_path.stat().st_mode & 0o777 == 0o700


def test_ticket_says_what_was_asked(tmp_path: Path) -> None:
    """Promise: the ticket for a request; none for a system older than one before."""
    with embedded(tmp_path) as authority:
        ticket = authority.sign_ticket(request(ECID, NONCE))
        payload = cbor2.loads(cbor2.loads(ticket).value[2])
        assert payload["components"] == components()
        with pytest.raises(AuthorityRefusalError, match="newer system") as refused:
            authority.sign_ticket(request(ECID, NONCE, epoch=EPOCH - 1))
        assert refused.value.code == "epoch"
        with pytest.raises(AuthorityRefusalError) as malformed:
            authority.sign_ticket(b"")
        assert malformed.value.code == "malformed"
        assert authority.sign_ticket(request(ECID, NONCE))


def test_image_signature_leads_to_the_vendor(tmp_path: Path) -> None:
    with embedded(tmp_path) as authority:
        signature = authority.sign_image(bytes(range(32)))
        vendor = authority.identity().vendor
    signed = cms.ContentInfo.load(signature)["content"]
    (signer,) = signed["signer_infos"]
    key = x509.load_der_x509_certificate(vendor).public_key()
    assert isinstance(key, rsa.RSAPublicKey)
    attributes = signer["signed_attrs"].untag().dump()
    key.verify(signer["signature"].native, attributes, padding.PKCS1v15(), SHA256())
    content = signed["encap_content_info"]["content"].parsed.contents
    assert content.endswith(bytes(range(32)))


def test_commands_at_once_make_one_authority(tmp_path: Path) -> None:
    """Promise: whoever is first makes the keys; the others wait and find them."""
    found: list[AuthorityIdentity] = []
    errors: list[BaseException] = []
    begin = threading.Barrier(COMMANDS)

    def command() -> None:
        try:
            with embedded(tmp_path / "new") as authority:
                begin.wait()
                found.append(authority.identity())
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=command) for _ in range(COMMANDS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(found) == COMMANDS
    assert len(set(found)) == 1


def test_identity_is_quick(tmp_path: Path) -> None:
    """Promise: each command asks for it, and nobody notices."""
    with embedded(tmp_path) as authority:
        authority.identity()
        took = []
        for _ in range(10):
            begin = time.monotonic()
            authority.identity()
            took.append(time.monotonic() - begin)
    assert min(took) < IDENTITY_SECONDS, took


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    """Promise: no process, no descriptor, also after a refusal."""
    with embedded(tmp_path) as authority:
        authority.identity()
    before = set(os.listdir("/proc/self/fd"))
    with embedded(tmp_path) as authority:
        authority.identity()
        with pytest.raises(AuthorityRefusalError):
            authority.sign_image(b"")
    assert set(os.listdir("/proc/self/fd")) == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_damaged_keys_are_told(tmp_path: Path) -> None:
    with embedded(tmp_path) as authority:
        authority.identity()
        (tmp_path / "authority.keys").write_bytes(b"rubbish")
        with pytest.raises(SpacegrayError, match=r"folder is damaged: authority\.keys"):
            authority.identity()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("#!/bin/sh\nexit 3\n", "it said nothing"),
        ("#!/bin/sh\necho 'authorityd: a reason' >&2\n", r"gave no answer \(a reason\)"),
    ],
)
def test_program_that_fails_is_told(tmp_path: Path, text: str, words: str) -> None:
    """Promise: whatever becomes of the program, it is one line with its last words."""
    program = tmp_path / "program"
    program.write_text(text)
    program.chmod(0o755)
    with (
        embedded(tmp_path / "folder", program) as authority,
        pytest.raises(SpacegrayError, match=words),
    ):
        authority.identity()


def test_missing_program_and_folder_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        embedded(tmp_path, tmp_path / "none") as authority,
        pytest.raises(SpacegrayError, match="No such file"),
    ):
        authority.identity()
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(SpacegrayError, match=r"file"),
        embedded(tmp_path / "file"),
    ):
        pass
    (tmp_path / "link").symlink_to(tmp_path)
    with (
        pytest.raises(SpacegrayError, match=r"opening .*link, where signing keys lie"),
        embedded(tmp_path / "link"),
    ):
        pass
    monkeypatch.delenv(module.PROGRAM_VARIABLE, raising=False)
    monkeypatch.setattr("sysconfig.get_path", lambda _: str(tmp_path))
    monkeypatch.setattr("os.access", lambda *_: False)
    with (
        pytest.raises(SpacegrayError, match="looking for the program authorityd"),
        embedded(tmp_path),
    ):
        pass


@pytest.mark.parametrize("reply", [b"", b"\xff", cbor2.dumps([]), bytes(5000)])
def test_answer_that_is_none_is_no_answer(reply: bytes) -> None:
    """Promise: what answers instead of the program is not believed."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        theirs.send(reply)
        theirs.shutdown(socket.SHUT_WR)
        assert module._exchange(ours, b"question") is None


def test_answer_without_its_field_is_told() -> None:
    with pytest.raises(SpacegrayError, match="its answer has no ticket"):
        module._bytes({"ok": True, "ticket": "text"}, "ticket")
