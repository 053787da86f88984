"""A real vault process for tests: start it on a folder, ask it, watch it end.

It is started as the firmware starts it, with two descriptors and nothing else. The program is
the one in SPACEGRAY_VAULTD, else the release build of this checkout.
"""

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import cbor2

from tests.support.authority import EPOCH, PRODUCT, TestAuthority, components, the_authority

ROOT = Path(__file__).resolve().parents[2]
ANSWER_TIMEOUT_SECONDS = 60
PACKET_SIZE_BYTES_MAX = 4096
PLAIN = ("open", "set_password", "check_firmware_password", "set_firmware_password")
"""Operations with a secret that proves nothing to be somebody."""


def pins(authority: TestAuthority | None = None) -> dict[str, bytes]:
    """The authority as fields of `birth`, `adopt_bundle` and `restore`."""
    authority = authority or the_authority()
    return {"authority": authority.ticket_key, "vendor": authority.vendor}


def program() -> Path:
    """The vault's program; a plain error if nobody has built it."""
    path = Path(
        os.environ.get("SPACEGRAY_VAULTD") or ROOT / ".build" / "silicon" / "release" / "vaultd"
    )
    if not path.is_file():
        raise FileNotFoundError(f"{path}: build the Rust programs first")
    return path


class Link:
    """One end of a link to a vault."""

    def __init__(self, link: socket.socket) -> None:
        self.link = link
        link.settimeout(ANSWER_TIMEOUT_SECONDS)

    def ask(self, op: str, *descriptors: int, **fields: object) -> dict[str, Any]:
        """Send one request, return the reply as it came."""
        return self.ask_raw(cbor2.dumps({"op": op, **fields}), *descriptors)

    def ask_raw(self, packet: bytes, *descriptors: int) -> dict[str, Any]:
        """Send any bytes as one packet, return the reply."""
        socket.send_fds(self.link, [packet], list(descriptors))
        answer = self.link.recv(2 * PACKET_SIZE_BYTES_MAX)
        assert 0 < len(answer) <= PACKET_SIZE_BYTES_MAX, len(answer)
        reply = cbor2.loads(answer)
        assert isinstance(reply, dict)
        return reply


class SsdLink(Link):
    """The SSD's end of its link, closed when the context ends."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(socket.socket(fileno=descriptor))

    def volume_key(self) -> bytes:
        """The disk's key, which a link gives once."""
        reply = self.ask("volume_key")
        key = reply.pop("key")
        assert reply == {"ok": True}
        assert isinstance(key, bytes)
        return key

    def anchor(self) -> bytes | None:
        """The newest anchor."""
        reply = self.ask("read_anchor")
        assert reply.pop("ok") is True, reply
        anchor = reply.pop("anchor", None)
        assert not reply
        assert anchor is None or isinstance(anchor, bytes)
        return anchor

    def write(self, sequence: int, anchor: bytes) -> dict[str, Any]:
        """Have an anchor kept, return the reply."""
        return self.ask("write_anchor", sequence=sequence, anchor=anchor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.link.close()


class Vaultd(Link):
    """One vault process and the firmware's end of its link."""

    def __init__(self, process: subprocess.Popen[str], link: socket.socket) -> None:
        super().__init__(link)
        self.process = process

    def birth(self, seal: str = "keyfile", *descriptors: int) -> int:
        """Have the chip made, return its number."""
        return int(self.ask("birth", *descriptors, seal=seal, **pins())["ecid"])

    def install(
        self,
        slot: str = "a",
        *,
        tries: int = 0,
        epoch: int = EPOCH,
        seed: str = "one",
        authority: TestAuthority | None = None,
    ) -> dict[str, Any]:
        """Have a ticket for a system taken, return the reply."""
        ticket = (authority or the_authority()).sign_ticket(self.request(epoch=epoch, seed=seed))
        return self.ask("accept_ticket", slot=slot, ticket=ticket, tries=tries)

    def request(self, *, epoch: int = EPOCH, seed: str = "one") -> bytes:
        """The request for a ticket for a system."""
        asked = {"product": PRODUCT, "epoch": epoch, **components(seed)}
        reply = self.ask("request_ticket", **asked)
        assert reply["ok"], reply
        return bytes(reply["request"])

    def own(self, password: bytes) -> None:
        """Start the recovery system, and prove to be the owner in it."""
        reply = self.ask("begin_start", target="recovery")
        assert reply["ok"], reply
        assert self.give("unlock", password, mode="recovery") == {"ok": True}

    def boot(self) -> dict[str, Any]:
        """What decides what starts."""
        reply = self.ask("boot")
        assert reply.pop("ok") is True, reply
        return reply

    def attach(self, mode: str = "open") -> SsdLink:
        """Attach an SSD, return its end."""
        theirs, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, ours:
            reply = self.ask("attach_ssd", ours.fileno(), mode=mode)
            assert reply == {"ok": True}, reply
            return SsdLink(theirs.detach())

    def give(self, op: str, *secrets: bytes, **fields: object) -> dict[str, Any]:
        """Send a request with secrets, each in a pipe of its own."""
        if op not in PLAIN:
            fields = {"with": "password", "mode": "normal", **fields}
        with contextlib.ExitStack() as stack:
            pipes = [stack.enter_context(secret(each)) for each in secrets]
            return self.ask(op, *pipes, **fields)

    def service(self) -> dict[str, Any]:
        """The end of the record, and who is trusted: `providers` as a list of name and key."""
        reply = self.ask("service")
        assert reply.pop("ok") is True, reply
        return {**reply, "providers": cbor2.loads(reply["providers"])}

    def trust(self, key: bytes, *secrets: bytes, name: str = "Repairs") -> dict[str, Any]:
        """Have work orders of this key count, return the reply."""
        return self.give("trust_provider", *secrets, name=name, key=key)

    def record(
        self,
        job: str,
        *secrets: bytes,
        order: bytes = b"",
        continues: bytes = b"",
        **changed: object,
    ) -> dict[str, Any]:
        """Have a job recorded that was done now, return the reply."""
        fields = {"detail": b"", "time": int(time.time()), **changed}
        return self.give(
            "record_service", *secrets, job=job, order=order, continues=continues, **fields
        )

    def close(self) -> int:
        """Close the link and return the exit status of the vault."""
        self.link.close()
        return self.process.wait(ANSWER_TIMEOUT_SECONDS)


@contextlib.contextmanager
def vaultd(
    state_folder: Path,
    user: int | None = None,
    *,
    tpm: Path | None = None,
    host_state: Path | None = None,
    within: Sequence[str] = (),
) -> Iterator[Vaultd]:
    """A vault on this folder, as another user if the caller may choose one.

    With the socket of a TPM it gets that and the folder of the host's map. `within` are the words
    of a program that starts it (`unshare …`).
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with contextlib.ExitStack() as stack:
        stack.enter_context(ours)
        with contextlib.ExitStack() as given:
            given.enter_context(theirs)
            folder = given.enter_context(opened(state_folder, os.O_DIRECTORY))
            code = given.enter_context(opened(program()))
            words = ["--state-fd", str(folder), "--link-fd", str(theirs.fileno())]
            descriptors = [folder, theirs.fileno(), code]
            if tpm is not None and host_state is not None:
                connection = given.enter_context(socket.socket(socket.AF_UNIX))
                connection.connect(str(tpm))
                host = given.enter_context(opened(host_state, os.O_DIRECTORY))
                words += ["--tpm-fd", str(connection.fileno()), "--host-fd", str(host)]
                descriptors += [connection.fileno(), host]
            # Through a descriptor, since another user may not reach the checkout.
            path = f"/proc/self/fd/{code}"
            process = subprocess.Popen(
                [*within, path if within else "vaultd", *words],
                executable=None if within else path,
                pass_fds=descriptors,
                stdin=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                user=user,
            )
        stack.enter_context(process)
        stack.callback(process.kill)
        yield Vaultd(process, ours)


def run_to_end(arguments: Sequence[str], *descriptors: int) -> subprocess.CompletedProcess[str]:
    """Start the program with any arguments and wait until it ends."""
    return subprocess.run(
        [str(program()), *arguments],
        pass_fds=descriptors,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=ANSWER_TIMEOUT_SECONDS,
        check=False,
    )


@contextlib.contextmanager
def secret(text: bytes) -> Iterator[int]:
    """The reading end of a pipe that holds `text`, its writer closed."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    try:
        os.write(writer, text)
        os.close(writer)
        yield reader
    finally:
        os.close(reader)


@contextlib.contextmanager
def opened(path: Path, flags: int = 0) -> Iterator[int]:
    """A descriptor of `path`, open for reading while the context lasts."""
    descriptor = os.open(path, os.O_RDONLY | flags)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
