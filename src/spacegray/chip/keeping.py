"""The guest's own variables that outlast a start: what was revoked, and the shim's.

Each start gets a store made anew, so that nothing a guest writes into one leads anywhere. But
revocations must not be forgotten with it, and the shim asks for an owner's consent by variables.
Those are taken over, from a list of names, with the attributes that the shim gives them: one that
an operating system may have planted has others, and is dropped.

Only a start under Secure Boot is believed; without it any program may have written anything.

Invariants: revocations are only added to, also where their store was lost; nothing that revokes
this chip's own systems is taken; the whole is bounded, and the vault knows its digest.
"""

import hashlib
import re
import uuid
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final

import msgspec

from spacegray import files
from spacegray.chip import signatures, store
from spacegray.chip.messages import decode_map, encode_canonical
from spacegray.chip.refusal import ChipRefusalError
from spacegray.chip.store import BOOT_SERVICE, NON_VOLATILE, RUNTIME, Variable
from spacegray.errors import SpacegrayError
from spacegray.sockets import PeerError

SHIM: Final = uuid.UUID("605dab50-e046-4300-abb6-3dd810dd8b23")
"""The vendor of the shim's variables."""
SIZE_LIMIT_BYTES: Final = 64 * 1024
SUFFIX: Final = ".variables"

SBAT_LEVEL: Final = "SbatLevel"
_SHIMS_OWN: Final = NON_VOLATILE | BOOT_SERVICE
_REQUEST: Final = NON_VOLATILE | BOOT_SERVICE | RUNTIME
_ATTRIBUTES: Final[dict[str, int]] = {
    **dict.fromkeys(
        (
            SBAT_LEVEL,
            "MokList",
            "MokListX",
            "MokListTrusted",
            "MokSBState",
            "MokDBState",
            "MokPWStore",
            "MokPolicy",
        ),
        _SHIMS_OWN,
    ),
    **dict.fromkeys(
        (
            "MokNew",
            "MokAuth",
            "MokDel",
            "MokDelAuth",
            "MokXNew",
            "MokXAuth",
            "MokXDel",
            "MokXDelAuth",
            "MokSB",
            "MokDB",
            "MokPW",
            "MokListTrustedNew",
            "MokTimeout",
            "SbatPolicy",
        ),
        _REQUEST,
    ),
}
"""The shim's variables that are taken over: its own, and what `mokutil` asks of it."""
_SBAT: Final = re.compile(rb"sbat,1,([0-9]{10})\n")


class Kept(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is taken from one start to the next."""

    dbx: bytes = b""
    """Signature lists: what guests' updates revoked."""
    shim: dict[str, bytes] = {}
    """The shim's variables by name."""

    def shims(self) -> Iterator[Variable]:
        """The shim's variables as they are placed back."""
        for name, data in sorted(self.shim.items()):
            yield Variable(name, SHIM, _ATTRIBUTES[name], data)

    def encode(self) -> bytes:
        """The one form that the vault's digest is of."""
        return encode_canonical({"dbx": self.dbx, "shim": self.shim})


def after(content: bytes, before: Kept, *, shim_ran: bool, spared: Collection[bytes]) -> Kept:
    """What is kept after a start whose machine left the store `content`.

    `shim_ran`: the start was one in which the shim could run, so that its variables had been
    placed; otherwise they stay as they were. `spared`: hashes and certificates that are never
    revoked. Raises ValueError when the store is none, or there is too much of it.
    """
    found = {(each.vendor, each.name): each for each in store.read(content)}
    revoked = list(signatures.read(before.dbx))
    if dbx := found.get((store.SECURITY, "dbx")):
        revoked += (each for each in signatures.read(dbx.data) if each.data not in spared)
    shim = before.shim
    if shim_ran:
        shim = {
            name: each.data
            for name, attributes in _ATTRIBUTES.items()
            if (each := found.get((SHIM, name))) and each.attributes == attributes
        }
        if level := _newest(before.shim.get(SBAT_LEVEL), shim.pop(SBAT_LEVEL, None)):
            shim[SBAT_LEVEL] = level
    kept = Kept(signatures.write(revoked), shim)
    if len(kept.encode()) > SIZE_LIMIT_BYTES:
        raise ValueError(f"variables of more than {SIZE_LIMIT_BYTES} bytes")
    return kept


def load(state_folder: Path, digest: bytes) -> Kept:
    """What is kept under `digest`, the vault's; nothing where that is empty.

    Raises ChipRefusalError, `corrupt`, when the file is missing or another one.
    """
    if not digest:
        return Kept()
    path = _path(state_folder, digest)
    try:
        with path.open("rb") as file:
            content = file.read(SIZE_LIMIT_BYTES + 1)
        if hashlib.sha256(content).digest() != digest:
            raise ValueError("it was changed")
        return _decode(content)
    except (OSError, ValueError) as error:
        stopped_by = error.strerror if isinstance(error, OSError) else error
        raise ChipRefusalError(
            f"reading the guest's variables from {path}",
            stopped_by,
            "put the chip's state folder back as it was, or `restore`",
            code="corrupt",
            link="firmware",
        ) from None


def save(state_folder: Path, kept: Kept) -> bytes:
    """Write `kept` durably beside what was kept before; returns its digest, for the vault."""
    content = kept.encode()
    digest = hashlib.sha256(content).digest()
    files.write_atomically(_path(state_folder, digest), content)
    return digest


def forget(state_folder: Path, but: bytes = b"") -> None:
    """Remove whatever was kept, `but` what has this digest. Raises SpacegrayError."""
    spared = _path(state_folder, but)
    for path in state_folder.glob(f"*{SUFFIX}"):
        if path != spared:
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise SpacegrayError(
                    f"removing {path}", error.strerror, "remove it by hand", link="chip"
                ) from None


def _newest(*levels: bytes | None) -> bytes | None:
    """Of the shim's revocation levels the one dated last; what bears no date is none."""
    dated = [(match[1], level) for level in levels if level and (match := _SBAT.match(level))]
    return max(dated, default=(b"", None))[1]


def _decode(content: bytes) -> Kept:
    try:
        fields = decode_map(content)
    except PeerError as error:
        raise ValueError(str(error)) from None
    try:
        kept = msgspec.convert(fields, Kept, builtin_types=(bytes,))
    except msgspec.ValidationError:
        raise ValueError("it is damaged") from None
    if kept.encode() != content or not _ATTRIBUTES.keys() >= kept.shim.keys():
        raise ValueError("it is not of this form")
    return kept


def _path(state_folder: Path, digest: bytes) -> Path:
    return state_folder / f"{digest.hex()}{SUFFIX}"
