"""The private line into the guest: who is there, and is it this start's guest?

At power-on the host sends a fresh nonce; only an answer that carries it makes the state
`running`. Line protocol, in docs/guest-port.md. What the guest sends is bounded and parsed
strictly: it may be hostile.
"""

import base64
import re
import secrets
from dataclasses import dataclass

LINE_LIMIT_BYTES = 4096
NONCE_BYTES = 16

_HOST_KEY = re.compile(r"AAAAC3NzaC1lZDI1NTE5[A-Za-z0-9+/]{48}")
"""An ssh-ed25519 public key in base64: always 68 characters (RFC 8709)."""
_BOOT_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_KERNEL = re.compile(r"[0-9A-Za-z.+~_-]{1,64}")


class GuestError(Exception):
    """The guest answered something that cannot be accepted."""


@dataclass(frozen=True)
class Ready:
    """The guest's answer: what it says of itself."""

    boot_id: str
    kernel: str
    secure_boot: bool
    setup_mode: bool
    host_key: str
    provisioned: bool


def new_nonce() -> str:
    """A nonce for one start, in hex."""
    return secrets.token_hex(NONCE_BYTES)


def greeting(nonce: str, provision: bytes | None) -> bytes:
    """What the host sends at power-on."""
    lines = [b"hello " + nonce.encode()]
    if provision is not None:
        lines.append(b"provision " + base64.b64encode(provision))
    return b"".join(line + b"\n" for line in (*lines, b"go"))


def parse_ready(line: bytes, nonce: str) -> Ready | None:
    """The guest's answer in `line`; None where the line is something else.

    Raises GuestError when the nonce is another start's or a field is missing or malformed.
    """
    if len(line) > LINE_LIMIT_BYTES:
        raise GuestError("an overlong line")
    words = line.decode("utf-8", "replace").split()
    if not words or words[0] != "ready":
        return None
    if len(words) < 2 or not secrets.compare_digest(words[1].encode(), nonce.encode()):
        raise GuestError("its answer does not carry the nonce of this start")
    fields = dict(word.partition("=")[::2] for word in words[2:])
    return Ready(
        boot_id=_field(fields, "boot_id", _BOOT_ID),
        kernel=_field(fields, "kernel", _KERNEL),
        host_key=_field(fields, "hostkey", _HOST_KEY),
        secure_boot=_flag(fields, "secure_boot"),
        setup_mode=_flag(fields, "setup_mode"),
        provisioned=_flag(fields, "provisioned"),
    )


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
