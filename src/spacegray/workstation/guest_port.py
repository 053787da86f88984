"""The private line into the guest: who is there, and is it this start's guest?

At power-on the host sends a fresh nonce; only an answer that carries it makes the state
`running`. Line protocol, in docs/guest-port.md. What the guest sends is bounded and parsed
strictly: it may be hostile.
"""

import base64
import re
import secrets
from dataclasses import dataclass
from typing import Final, Literal, get_args

LINE_LIMIT_BYTES = 4096
NONCE_BYTES = 16

Wish = Literal["restart", "off", "reinstall"]
"""What the recovery system may want of the host."""
WISHES: Final[tuple[Wish, ...]] = get_args(Wish)
SIZES: Final = range(10, 501)
"""Rows or columns that a terminal may have."""

_HOST_KEY = re.compile(r"AAAAC3NzaC1lZDI1NTE5[A-Za-z0-9+/]{48}")
"""An ssh-ed25519 public key in base64: always 68 characters (RFC 8709)."""
_BOOT_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_KERNEL = re.compile(r"[0-9A-Za-z.+~_-]{1,64}")
_WANT = re.compile(rb"want ([a-z]{1,16})")
_DONE = re.compile(r"done ([1-9][0-9]{0,8}) (ok|no)(?: (.*))?")
_DO = re.compile(r"[!-~]+(?: [!-~]+)*")
"""Printable ASCII words with single spaces: nothing that could end the line."""


class GuestError(Exception):
    """The guest answered something that cannot be accepted."""


@dataclass(frozen=True)
class Ready:
    """The guest's answer: what it says of itself. Recovery has no SSH and no owner's account."""

    boot_id: str
    kernel: str
    secure_boot: bool
    setup_mode: bool
    host_key: str | None
    provisioned: bool


@dataclass(frozen=True)
class Done:
    """Recovery's answer to a `do`: whether it was done, and the chip's words."""

    number: int
    right: bool
    text: str


def new_nonce() -> str:
    """A nonce for one start, in hex."""
    return secrets.token_hex(NONCE_BYTES)


def greeting(nonce: str, provision: bytes | None) -> bytes:
    """What the host sends at power-on."""
    lines = [b"hello " + nonce.encode()]
    if provision is not None:
        lines.append(b"provision " + base64.b64encode(provision))
    return b"".join(line + b"\n" for line in (*lines, b"go"))


def order(number: int, words: str) -> bytes:
    """The line that has recovery do `words`; raises GuestError for what is no such line."""
    line = f"do {number} {words}"
    if not _DO.fullmatch(words) or len(line) >= LINE_LIMIT_BYTES:
        raise GuestError("what it is to do is not words on one line")
    return line.encode() + b"\n"


def size(rows: object, columns: object) -> bytes:
    """The line that tells recovery the size of the terminal, or nothing where that is none."""
    if not all(isinstance(each, int) and each in SIZES for each in (rows, columns)):
        return b""
    return f"size {rows} {columns}\n".encode()


def parse_want(line: bytes) -> Wish | None:
    """What recovery wants in `line`; None where the line is something else."""
    match = _WANT.fullmatch(line.strip())
    wanted = match[1].decode() if match else None
    return next((wish for wish in WISHES if wish == wanted), None)


def parse_done(line: bytes) -> Done | None:
    """Recovery's answer in `line` to something it was to do; None for anything else."""
    match = _DONE.fullmatch(_text(line).strip())
    if match is None:
        return None
    text = "".join(filter(str.isprintable, match[3] or ""))
    return Done(int(match[1]), match[2] == "ok", text)


def parse_ready(line: bytes, nonce: str, *, recovery: bool = False) -> Ready | None:
    """The guest's answer in `line`; None where the line is something else.

    `recovery`: the answer is to be the recovery system's, else it must not be. Raises GuestError
    when it is not, the nonce is another start's, or a field is missing or malformed.
    """
    words = _text(line).split()
    if not words or words[0] != "ready":
        return None
    if len(words) < 2 or not secrets.compare_digest(words[1].encode(), nonce.encode()):
        raise GuestError("its answer does not carry the nonce of this start")
    fields = dict(word.partition("=")[::2] for word in words[2:])
    if (fields.get("mode") == "recovery") != recovery:
        raise GuestError(f"it is not the {'recovery' if recovery else 'main'} system")
    return Ready(
        boot_id=_field(fields, "boot_id", _BOOT_ID),
        kernel=_field(fields, "kernel", _KERNEL),
        host_key=None if recovery else _field(fields, "hostkey", _HOST_KEY),
        secure_boot=_flag(fields, "secure_boot"),
        setup_mode=_flag(fields, "setup_mode"),
        provisioned=not recovery and _flag(fields, "provisioned"),
    )


def _text(line: bytes) -> str:
    if len(line) > LINE_LIMIT_BYTES:
        raise GuestError("an overlong line")
    return line.decode("utf-8", "replace")


def _field(fields: dict[str, str], name: str, pattern: re.Pattern[str]) -> str:
    value = fields.get(name, "")
    if not pattern.fullmatch(value):
        raise GuestError(f"its answer has no valid {name}")
    return value


def _flag(fields: dict[str, str], name: str) -> bool:
    value = fields.get(name)
    if value not in ("0", "1"):
        raise GuestError(f"its answer has no valid {name}")
    return value == "1"
