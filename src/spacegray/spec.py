"""The spec of a workstation: what its owner ordered, in one TOML file.

docs/spec.md lists every field with its values. What this host can give of it is another
matter, decided at power-on (`machine.board`).
"""

import tomllib
from datetime import date
from pathlib import Path
from typing import Any, Final, Literal, get_args

import msgspec

from spacegray.errors import UsageError

Cores = Literal[8, 10, 14, 18]
MemoryGb = Literal[32, 64, 128, 256]
Graphics = Literal["vega-56", "vega-64", "vega-64x"]
SsdTb = Literal[1, 2, 4]
Mount = Literal["stand", "vesa"]
Edition = Literal["tiny", "base"]
Seal = Literal["keyfile", "passphrase", "tpm2"]

CORES: Final = (8, 10, 14, 18)
MEMORY_GB: Final = (32, 64, 128, 256)
GRAPHICS: Final[tuple[str, ...]] = get_args(Graphics)
SSD_TB: Final = (1, 2, 4)
MOUNTS: Final[tuple[str, ...]] = get_args(Mount)
EDITIONS: Final[tuple[str, ...]] = get_args(Edition)
SEALS: Final[tuple[str, ...]] = get_args(Seal)

TERABYTE: Final = 1000**4
"""Disks are sold by the decimal terabyte."""


class Spec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One workstation as ordered; the defaults are the base model of 14 December 2017."""

    cores: Cores = 8
    memory_gb: MemoryGb = 32
    graphics: Graphics = "vega-56"
    ssd_tb: SsdTb = 1
    mount: Mount = "stand"
    ordered: str = ""
    edition: Edition = "base"
    user: str = "owner"
    strict: bool = False
    seal: Seal = "keyfile"

    def __post_init__(self) -> None:
        if not self.user.isascii() or not self.user.isidentifier() or not self.user.islower():
            raise ValueError("a user is lower-case letters, digits and _ (at `$.user`)")
        if self.user in ("root", "sshd", "nobody") or len(self.user) > USER_LIMIT_CHARACTERS:
            raise ValueError(
                f"a user is not one of the system's own and has at most "
                f"{USER_LIMIT_CHARACTERS} characters (at `$.user`)"
            )
        if self.ordered and not _is_day(self.ordered):
            raise ValueError("no day (at `$.ordered`)")

    @property
    def ordered_on(self) -> date | None:
        """The day of the order; None where the machine was ordered on none."""
        return date.fromisoformat(self.ordered) if self.ordered else None

    @property
    def ssd_bytes(self) -> int:
        return self.ssd_tb * TERABYTE


USER_LIMIT_CHARACTERS: Final = 32
SPEC_LIMIT_BYTES: Final = 64 * 1024

_TEMPLATE = """\
# The workstation as ordered. Values: docs/spec.md.
cores = {cores}          # 8, 10, 14 or 18
memory_gb = {memory_gb}     # 32, 64, 128 or 256
graphics = "{graphics}"  # vega-56, vega-64 or vega-64x
ssd_tb = {ssd_tb}         # 1, 2 or 4
edition = "{edition}"    # tiny or base
user = "{user}"      # the first user of the system
mount = "{mount}"     # stand or vesa: what carries the display
ordered = "{ordered}"  # the day of the order, YYYY-MM-DD: what was sold then; empty: of no day
strict = {strict}      # true: every flush of the disk is anchored in the chip, and takes longer
seal = "{seal}"    # keyfile, passphrase or tpm2: what seals the chip's keys, from birth on
"""


def parse(text: str, *, source: str) -> Spec:
    """The spec in `text`; raises UsageError that names `source`, the field and what may stand."""
    try:
        return build(tomllib.loads(text), source=source)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(
            f"reading the spec {source}", error, "correct that line (it is a TOML file)"
        ) from None


def build(fields: dict[str, Any], *, source: str) -> Spec:
    """A spec from single `fields`, the others at their defaults; raises UsageError."""
    try:
        return msgspec.convert(fields, Spec)
    except msgspec.ValidationError as error:
        raise UsageError(
            f"reading the spec {source}", _readable(error), "correct it; docs/spec.md lists all"
        ) from None


def replace(base: Spec, fields: dict[str, Any]) -> Spec:
    """`base` with some fields changed; raises UsageError where the result is no spec."""
    return build({**msgspec.structs.asdict(base), **fields}, source="with its options")


def load(path: Path) -> Spec:
    """Read a spec file; raises UsageError when there is none or it is wrong."""
    try:
        with path.open("rb") as file:
            content = file.read(SPEC_LIMIT_BYTES + 1)
        if len(content) > SPEC_LIMIT_BYTES:
            raise UsageError(
                f"reading the spec {path}", "the file is too long", "give a spec, see docs/spec.md"
            )
        return parse(content.decode(), source=str(path))
    except UnicodeDecodeError:
        raise UsageError(
            f"reading the spec {path}", "it is not UTF-8 text", "give a spec, see docs/spec.md"
        ) from None
    except OSError as error:
        raise UsageError(
            f"reading the spec {path}", error.strerror, "give the path of a readable file"
        ) from None


def dump(spec: Spec) -> str:
    """The spec as a commented TOML file that `parse` reads back."""
    strict = "true" if spec.strict else "false"
    return _TEMPLATE.format(**{**msgspec.structs.asdict(spec), "strict": strict})


def _readable(error: msgspec.ValidationError) -> str:
    """msgspec's message with the field named first and its choices said."""
    text = str(error)
    if "$.ordered" in text:
        return 'ordered is a day in quotes, "YYYY-MM-DD", or empty'
    for field, choices in (
        ("cores", CORES),
        ("memory_gb", MEMORY_GB),
        ("ssd_tb", SSD_TB),
        ("mount", MOUNTS),
        ("graphics", GRAPHICS),
        ("edition", EDITIONS),
        ("seal", SEALS),
    ):
        if f"$.{field}" in text:
            return f"{field} is one of {', '.join(map(str, choices))}"
    return text


def _is_day(text: str) -> bool:
    """Whether `text` is a day in the one form that everything here writes."""
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False
