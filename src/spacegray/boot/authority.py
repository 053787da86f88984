"""The signing authority: who vouches for what may start, and for which chip.

`Authority` is all that installing needs of one. The one there is so far is embedded: its keys lie
in a folder of their own and are used by a program of their own (`authorityd`,
docs/authority-protocol.md). No key of it ever is a Python object. A service elsewhere would take
its place behind the same three methods. A service provider, whose key signs work orders, is
such a program with a folder of its own.
"""

import contextlib
import os
import socket
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import cbor2

from spacegray import files, programs
from spacegray.errors import SpacegrayError

PROGRAM_NAME: Final = "authorityd"
PROGRAM_VARIABLE: Final = "SPACEGRAY_AUTHORITYD"
ANSWER_SECONDS: Final = 60.0
"""Longer than the program waits for its folder (20 s) and then makes keys on a slow host."""
END_SECONDS: Final = 5.0
"""What it gets to end once its link is closed, so that its folder is free again."""

_PACKET_LIMIT_BYTES: Final = 4096
_SAID_LIMIT_BYTES: Final = 4096
_FOLDER_MODE: Final = 0o700
_AUTHORITY: Final = "authority"
_PROVIDER: Final = "provider"
_HINTS: Final = {
    "epoch": "install a newer system: this one is older than what was signed before",
    "corrupt": "put the folder with its keys back from a backup",
    "validity": "have it valid for fewer days",
    "storage": "make room on that disk and try again",
}
"""What to do next, by the refusal's code."""


@dataclass(frozen=True)
class AuthorityIdentity:
    """What chips pin: `ticket_key` (SubjectPublicKeyInfo), `vendor` (X.509 certificate), DER."""

    ticket_key: bytes
    vendor: bytes


class Authority(Protocol):
    """Whoever may say what starts."""

    def identity(self) -> AuthorityIdentity:
        """Its public half."""

    def sign_ticket(self, request: bytes) -> bytes:
        """The ticket for a chip's request (docs/tickets.md).

        Raises AuthorityRefusalError `epoch` when a newer system of that product was signed before.
        """

    def sign_image(self, digest: bytes) -> bytes:
        """PKCS#7 SignedData, DER, for the image with this Authenticode digest (32 bytes)."""


class Provider(Protocol):
    """Whoever may be trusted to work on a machine."""

    def order_key(self) -> bytes:
        """What its work orders are verified with: SubjectPublicKeyInfo, DER."""

    def sign_order(self, ecid: int, job: str, not_before: int, not_after: int) -> bytes:
        """A work order for one job on the machine of one chip (docs/work-orders.md).

        It is valid from `not_before` to `not_after`, Unix seconds, both included. Raises
        AuthorityRefusalError `malformed` for a job that is none, `validity` for times that cannot
        be.
        """


class Embedded(Authority, Provider, Protocol):
    """What a program of this host can be: each has all three keys."""


class AuthorityRefusalError(SpacegrayError):
    """The authority, or provider, answered and said no; `code` is the protocol's word."""

    def __init__(self, doing: str, code: str, detail: str, *, who: str = _AUTHORITY) -> None:
        hint = _HINTS.get(code, "run the set-up (`./run doctor`) and try again")
        super().__init__(doing, f"the {who} refused: {detail}", hint)
        self.code = code


@contextlib.contextmanager
def embedded(folder: Path, program: Path | None = None) -> Iterator[Embedded]:
    """The authority, or provider, whose keys lie in `folder`, made (0700) where there is none.

    Each request has a program of its own, so that the folder is held for milliseconds and two
    commands at once get along. `program`: SPACEGRAY_AUTHORITYD or where it was built, if not
    said. Raises SpacegrayError when folder or program cannot be had.
    """
    program = program or programs.find(PROGRAM_NAME, PROGRAM_VARIABLE)
    descriptor = _open(folder)
    try:
        yield _Embedded(program, descriptor)
    finally:
        os.close(descriptor)


class _Embedded:
    def __init__(self, program: Path, folder: int) -> None:
        self._program = program
        self._folder = folder

    def identity(self) -> AuthorityIdentity:
        reply = self._ask("asking the authority who it is", "identity")
        return AuthorityIdentity(_bytes(reply, "ticket_key"), _bytes(reply, "vendor"))

    def sign_ticket(self, request: bytes) -> bytes:
        reply = self._ask("having a ticket signed", "sign_ticket", request=request)
        return _bytes(reply, "ticket")

    def sign_image(self, digest: bytes) -> bytes:
        reply = self._ask("having a kernel image signed", "sign_image", digest=digest)
        return _bytes(reply, "signature")

    def order_key(self) -> bytes:
        doing = "asking the provider for its key"
        return _bytes(self._ask(doing, "identity", who=_PROVIDER), "order_key")

    def sign_order(self, ecid: int, job: str, not_before: int, not_after: int) -> bytes:
        fields = {"ecid": ecid, "job": job, "not_before": not_before, "not_after": not_after}
        reply = self._ask("having a work order signed", "sign_order", who=_PROVIDER, **fields)
        return _bytes(reply, "order")

    def _ask(
        self, doing: str, op: str, *, who: str = _AUTHORITY, **fields: object
    ) -> dict[str, Any]:
        """One program, one request, one reply."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours:
            ours.settimeout(ANSWER_SECONDS)
            with theirs:
                child = self._start(doing, theirs.fileno())
            try:
                reply = _exchange(ours, cbor2.dumps({"op": op, **fields}))
            finally:
                ours.close()
                said = _end(child)
        if reply is None:
            raise SpacegrayError(
                doing,
                f"the {who} gave no answer ({said or 'it said nothing'})",
                "see to what it says and try again",
            )
        if reply.get("ok") is not True:
            code, detail = str(reply.get("error")), str(reply.get("detail"))
            raise AuthorityRefusalError(doing, code, detail, who=who)
        return reply

    def _start(self, doing: str, link: int) -> "subprocess.Popen[bytes]":
        words = [str(self._program), "--state-fd", str(self._folder), "--link-fd", str(link)]
        try:
            # It confines itself, reads no environment, and ends with its link, so also with us.
            return subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=(self._folder, link),
                env={},
                start_new_session=True,
            )
        except OSError as error:
            raise SpacegrayError(
                doing, f"{self._program}: {error.strerror}", "run the set-up (`./run doctor`)"
            ) from None


def _open(folder: Path) -> int:
    files.make_private(folder)
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if stat.S_IMODE(os.fstat(descriptor).st_mode) != _FOLDER_MODE:
                os.fchmod(descriptor, _FOLDER_MODE)
        except BaseException:
            os.close(descriptor)
            raise
    except OSError as error:
        raise SpacegrayError(
            f"opening {folder}, where signing keys lie",
            error.strerror,
            "give it to the user who runs this, or put it back from a backup",
        ) from None
    return descriptor


def _exchange(link: socket.socket, request: bytes) -> dict[str, Any] | None:
    """The reply; None where there is none."""
    try:
        link.send(request)
        packet = link.recv(_PACKET_LIMIT_BYTES + 1)
        reply = cbor2.loads(packet) if 0 < len(packet) <= _PACKET_LIMIT_BYTES else None
    except (OSError, cbor2.CBORDecodeError):
        return None
    return reply if isinstance(reply, dict) else None


def _end(child: "subprocess.Popen[bytes]") -> str:
    """See it end; returns its last line on standard error."""
    assert child.stderr is not None
    with child.stderr as stderr:
        try:
            child.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        os.set_blocking(stderr.fileno(), False)
        said = stderr.read(_SAID_LIMIT_BYTES) or b""
    lines = said.decode(errors="replace").strip().splitlines()
    return lines[-1].removeprefix(f"{PROGRAM_NAME}: ") if lines else ""


def _bytes(reply: dict[str, Any], name: str) -> bytes:
    value = reply.get(name)
    if not isinstance(value, bytes):
        raise SpacegrayError(
            "speaking to the authority", f"its answer has no {name}", "run the set-up again"
        )
    return value
