"""The recovery port: the chip's end of the line that only the recovery system has.

Lines of text, docs/recovery-port.md. Nothing here decides who the owner is or what may be changed:
the vault does, and lets nobody while another system was started last. Trusts the guest as little
as any: lines are bounded, so many are looked at per second, each number of a session counts once,
and what does not read its answers is hung up on. Secrets are passed on through a pipe.
"""

import base64
import binascii
import contextlib
import os
import secrets
import socket
from collections.abc import Callable, Iterator
from typing import Final

from spacegray.chip.access import counted
from spacegray.chip.boot_state import Policy
from spacegray.chip.core import Core
from spacegray.chip.limits import COSTLY_BURST, COSTLY_PER_SECOND, Bucket
from spacegray.chip.messages import DISK_BLOCK_BYTES, DISK_LIMIT_BLOCKS, With
from spacegray.chip.part import Watcher
from spacegray.chip.refusal import BUSY, ChipRefusalError
from spacegray.errors import SpacegrayError

LINE_LIMIT_BYTES: Final = 4096
SECRET_LIMIT_BYTES: Final = 1024
SESSION_BYTES: Final = 16
LINES_BURST: Final = 60
"""Lines that are looked at at once …"""
LINES_PER_SECOND: Final = 30.0
"""… and how many more each second."""

_POLICIES: Final[dict[str, Policy]] = {"full": "full", "medium": "medium", "none": "none"}
_SWITCHES: Final = {"allow": True, "deny": False}
_HELLO: Final = ["hello"]

Words = list[str]
Facts = dict[str, object]


class _NotUnderstoodError(Exception):
    """A line that is none of the protocol's."""


class RecoveryPort:
    """One start's recovery port."""

    def __init__(self, core: Core, end: socket.socket, watcher: Watcher) -> None:
        """Serve `end`, which is this object's from now on, until `close`."""
        self._core = core
        self._end = end
        self._watcher = watcher
        self._received = bytearray()
        self._session = ""
        self._last = 0
        self._lines = Bucket(LINES_BURST, LINES_PER_SECOND)
        self._costly = Bucket(COSTLY_BURST, COSTLY_PER_SECOND)
        self._disk_is_ours = False
        self._operations: dict[str, Callable[[Words], Facts]] = {
            "show": self._show,
            "authenticate": self._authenticate,
            "set": self._set,
            "firmware-password": self._firmware_password,
            "new-password": self._new_password,
            "verify": self._verify,
            "erase": self._erase,
        }
        end.setblocking(False)
        watcher.watch(end.fileno(), self._hear)

    @property
    def alive(self) -> bool:
        """Whether the machine holds its end still."""
        return self._end.fileno() >= 0

    def close(self) -> None:
        """Hang up; a disk that was opened to be verified is closed. May be called again.

        Raises SpacegrayError when that disk does not close in order.
        """
        self._hang_up()
        self.release_disk()

    def release_disk(self) -> None:
        """Close the disk if it is open for being verified, for whoever wants it now."""
        if self._disk_is_ours:
            self._disk_is_ours = False
            self._core.disk.stop()

    def _hang_up(self) -> None:
        if self.alive:
            self._watcher.unwatch(self._end.fileno())
            self._end.close()

    def _hear(self) -> None:
        try:
            data = self._end.recv(LINE_LIMIT_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._hang_up()
            return
        self._received += data
        while self.alive and (end := self._received.find(b"\n")) >= 0:
            line = bytes(self._received[:end])
            del self._received[: end + 1]
            self._answer(line)
        if len(self._received) > LINE_LIMIT_BYTES:
            # Where the next line would begin is unknown; what is left of this one will be no line.
            self._received.clear()
            self._say("0 no malformed the line is too long")

    def _answer(self, line: bytes) -> None:
        if not self._lines.take():
            self._say(f"0 no {BUSY} too many lines; ask again in a moment")
            return
        if len(line) > LINE_LIMIT_BYTES:
            self._say("0 no malformed the line is too long")
            return
        try:
            words = line.decode().split()
        except UnicodeDecodeError:
            words = []
        if words == _HELLO:
            self._session, self._last = secrets.token_hex(SESSION_BYTES), 0
            self._say(f"session {self._session}")
            return
        match words:
            case [session, number, operation, *arguments] if _is_number(number):
                said = self._in_session(session, int(number), operation, arguments)
                self._say(f"{int(number)} {said}")
            case _:
                self._say("0 no malformed no line of this protocol")

    def _in_session(self, session: str, number: int, operation: str, arguments: Words) -> str:
        """What is said to one operation, without its number."""
        if not self._session or not secrets.compare_digest(
            session.encode(), self._session.encode()
        ):
            return "no session this is no session, or an older one; say hello first"
        if number != self._last + 1:
            return "no replayed this number is not the next one"
        self._last = number
        if operation not in self._operations:
            return "no unknown the chip does not know this operation"
        try:
            facts = self._operations[operation](arguments)
        except _NotUnderstoodError:
            return "no malformed the operation is not given this way"
        except SpacegrayError as error:
            code = getattr(error, "code", None) or "failed"
            text = " ".join(f"{error.stopped_by}; {error.next_step}".split())
            return f"no {code} {text}"
        return " ".join(["ok", *(f"{key}={_value(fact)}" for key, fact in facts.items())])

    def _say(self, line: str) -> None:
        content = line.encode()[: LINE_LIMIT_BYTES - 1] + b"\n"
        try:
            sent = self._end.send(content)
        except OSError:
            sent = 0
        if sent != len(content):  # It does not read its answers.
            self._hang_up()

    def _show(self, arguments: Words) -> Facts:
        if arguments:
            raise _NotUnderstoodError
        vault = self._core.vault
        boot, status = vault.boot(), vault.status()
        current = boot.slots.get(boot.current) if boot.current else None
        disk = self._core.disk.health().status
        return {
            "policy": boot.policy,
            "external_boot": _switch(boot.external_boot),
            "other_systems": _switch(boot.other_systems),
            "firmware_password": boot.firmware_password,
            "password": status.password,
            "recovery_key": status.recovery_key,
            "owner": boot.owner_present,
            "ecid": self._core.remembered.ecid,
            "product": current.product if current else "",
            "epoch": current.epoch if current else 0,
            "life": status.life.replace(" ", "-"),
            "disk_blocks": disk.capacity_bytes // DISK_BLOCK_BYTES if disk else 0,
        }

    def _authenticate(self, arguments: Words) -> Facts:
        match arguments:
            case ["password", encoded]:
                with_: With = "password"
            case ["recovery_key", encoded]:
                with_ = "recovery_key"
            case _:
                raise _NotUnderstoodError
        vault = self._core.vault
        with self._costs(), _piped(encoded) as secret, counted(vault, with_, "recovery"):
            vault.unlock(with_, "recovery", secret)
        return {}

    def _set(self, arguments: Words) -> Facts:
        boot = self._core.vault.boot()
        policy, external, others = boot.policy, boot.external_boot, boot.other_systems
        if not arguments:
            raise _NotUnderstoodError
        for each in arguments:
            match each.split("="):
                case ["policy", value] if value in _POLICIES:
                    policy = _POLICIES[value]
                case ["external_boot", value] if value in _SWITCHES:
                    external = _SWITCHES[value]
                case ["other_systems", value] if value in _SWITCHES:
                    others = _SWITCHES[value]
                case _:
                    raise _NotUnderstoodError
        vault = self._core.vault
        with self._costs(), counted(vault, "password", "recovery"):
            vault.set_policy(policy, external_boot=external, other_systems=others)
        return {}

    def _firmware_password(self, arguments: Words) -> Facts:
        vault = self._core.vault
        match arguments:
            case []:
                with self._costs(), counted(vault, "password", "recovery"):
                    vault.remove_firmware_password()
            case [encoded]:
                with (
                    self._costs(),
                    _piped(encoded) as secret,
                    counted(vault, "password", "recovery"),
                ):
                    vault.set_firmware_password(secret)
            case _:
                raise _NotUnderstoodError
        return {}

    def _new_password(self, arguments: Words) -> Facts:
        match arguments:
            case [key, new]:
                vault = self._core.vault
                with (
                    self._costs(),
                    _piped(key) as proof,
                    _piped(new) as password,
                    counted(vault, "recovery_key", "recovery"),
                ):
                    vault.change_password("recovery_key", "recovery", proof, password)
                return {}
        raise _NotUnderstoodError

    def _verify(self, arguments: Words) -> Facts:
        match arguments:
            case [number] if _is_number(number) and int(number) < DISK_LIMIT_BLOCKS:
                block = int(number)
            case _:
                raise _NotUnderstoodError
        disk = self._core.disk
        if not disk.opened:
            disk.open()
            self._disk_is_ours = True
        status = disk.health().status
        blocks = status.capacity_bytes // DISK_BLOCK_BYTES if status else 0
        if block >= blocks:
            self.release_disk()
            return {"next": blocks, "checked": 0, "bad": 0, "blocks": blocks}
        part = disk.verify(block, blocks - block)
        if part.next >= blocks:
            self.release_disk()
        return {
            "next": part.next,
            "checked": part.checked,
            "bad": len(part.bad),
            "blocks": blocks,
        }

    def _erase(self, arguments: Words) -> Facts:
        if arguments != [self._core.remembered.ecid]:
            raise ChipRefusalError(
                "erasing the disk",
                "this is not the number of this chip",
                "give the ECID that `show` tells",
                code="ecid",
            )
        self._disk_is_ours = False
        self._core.disk.kill()
        self._core.vault.erase()
        return {}

    @contextlib.contextmanager
    def _costs(self) -> Iterator[None]:
        """For what takes the vault long."""
        if not self._costly.take():
            raise ChipRefusalError(
                "asking the vault", "too many at once", "ask again in a moment", code=BUSY
            )
        yield


@contextlib.contextmanager
def _piped(encoded: str) -> Iterator[int]:
    """The reading end of a pipe that holds the secret which `encoded` is, in base 64."""
    try:
        secret = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise _NotUnderstoodError from None
    if not 0 < len(secret) <= SECRET_LIMIT_BYTES or b"\n" in secret:
        raise _NotUnderstoodError
    reading, writing = os.pipe2(os.O_CLOEXEC)
    try:
        os.write(writing, secret)  # A pipe takes more than that at once.
        os.close(writing)
        yield reading
    finally:
        os.close(reading)


def _is_number(word: str) -> bool:
    return word.isascii() and word.isdigit() and len(word) <= len(str(DISK_LIMIT_BLOCKS))


def _switch(allowed: bool) -> str:
    return "allow" if allowed else "deny"


def _value(fact: object) -> object:
    return int(fact) if isinstance(fact, bool) else fact
