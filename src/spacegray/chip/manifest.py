"""What the chip remembers besides its keys: who it is, and which firmware it trusts.

One file, `chip.json` in the chip's state folder, written once at birth. It is authentic only
as far as that folder is: whoever may write there owns the chip's sealing key as well.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

import msgspec

from spacegray import files
from spacegray.chip.images import Frozen
from spacegray.errors import SpacegrayError

NAME: Final = "chip.json"
SIZE_LIMIT_BYTES: Final = 64 * 1024
SHOWN_DIGITS: Final = 16
"""Digits of a digest that are shown to a person."""


class Image(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One trusted image."""

    sha256: str
    size_bytes: int


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The content of `chip.json`; `born` is in UTC, `source` says where the images are from."""

    format: Literal[1] = 1
    ecid: str
    born: datetime
    source: str
    firmware: Image
    template: Image


def make(*, ecid: int, source: str, firmware: Frozen, template: Frozen) -> Manifest:
    """The manifest of a chip born now that trusts these two images."""
    return Manifest(
        ecid=show_ecid(ecid),
        born=datetime.now(UTC).replace(microsecond=0),
        source=source,
        firmware=_image(firmware),
        template=_image(template),
    )


def exists(state_folder: Path) -> bool:
    """Whether a chip was born completely in this folder."""
    return (state_folder / NAME).exists()


def write(state_folder: Path, manifest: Manifest) -> None:
    """Keep `manifest` durably; raises SpacegrayError when the host refuses."""
    content = msgspec.json.format(msgspec.json.encode(manifest), indent=2)
    files.write_atomically(state_folder / NAME, content + b"\n")


def read(state_folder: Path) -> Manifest:
    """The manifest kept in `state_folder`; raises SpacegrayError, link `chip`."""
    path = state_folder / NAME
    try:
        with path.open("rb") as file:
            return msgspec.json.decode(file.read(SIZE_LIMIT_BYTES), type=Manifest)
    except FileNotFoundError:
        stopped_by: object = "this chip was never born"
    except OSError as error:
        stopped_by = error.strerror
    except msgspec.DecodeError as error:
        stopped_by = f"the file is damaged ({error})"
    raise SpacegrayError(
        f"reading {path}",
        stopped_by,
        "put the chip's state folder back, or delete the workstation and create it again",
        link="chip",
    )


def check(remembered: Image, found: Frozen, path: Path, source: str) -> None:
    """Raise SpacegrayError, link `firmware`, unless `found`, from `path`, is `remembered`.

    `source` says where the original came from.
    """
    if found.sha256 == remembered.sha256 and found.size_bytes == remembered.size_bytes:
        return
    raise SpacegrayError(
        f"checking the firmware file {path}",
        f"it is not the one the chip remembers (SHA-256 {remembered.sha256[:SHOWN_DIGITS]}… "
        f"expected, {found.sha256[:SHOWN_DIGITS]}… found)",
        f"put the original file back ({source}), or delete the workstation and create it again",
        link="firmware",
    )


def show_ecid(ecid: int) -> str:
    """An ECID as people read it."""
    return f"0x{ecid:016x}"


def _image(frozen: Frozen) -> Image:
    return Image(sha256=frozen.sha256, size_bytes=frozen.size_bytes)
