"""What the chip remembers besides its keys: who it is, which firmware it trusts, what it signed.

One file, `chip.json` in the chip's state folder, written at birth, for each image that is
signed, and when the chip is restored. It is authentic only as far as that folder is.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

import msgspec

from spacegray import files
from spacegray.chip.images import Frozen
from spacegray.chip.messages import Seal
from spacegray.chip.refusal import ChipRefusalError
from spacegray.errors import SpacegrayError

NAME: Final = "chip.json"
SIZE_LIMIT_BYTES: Final = 64 * 1024
SHOWN_DIGITS: Final = 16
"""Digits of a digest that are shown to a person."""
SIGNED_LIMIT: Final = 8
"""How many signed images are remembered by their digests; older ones are only counted."""


class Image(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One trusted image."""

    sha256: str
    size_bytes: int


class Signed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One image that was signed; `since` is in UTC."""

    sha256: str
    since: datetime


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The content of `chip.json`; times are in UTC, `source` says where the images are from.

    `signed`: the newest images under this boot key, the oldest first; `signed_earlier` counts
    those before them. `adopted`: the boot key is another chip's, whose images start here too.
    """

    format: Literal[2] = 2
    ecid: str
    born: datetime
    seal: Seal
    source: str
    firmware: Image
    template: Image
    trusted_since: datetime
    signed: tuple[Signed, ...] = ()
    signed_earlier: int = 0
    adopted: bool = False


def make(
    *,
    ecid: int,
    seal: Seal,
    source: str,
    firmware: Frozen,
    template: Frozen,
    adopted: bool = False,
) -> Manifest:
    """The manifest of a chip born now that trusts these two images."""
    return Manifest(
        ecid=show_ecid(ecid),
        born=_now(),
        seal=seal,
        source=source,
        firmware=_image(firmware),
        template=_image(template),
        trusted_since=_now(),
        adopted=adopted,
    )


def trusting(manifest: Manifest, *, source: str, firmware: Frozen, template: Frozen) -> Manifest:
    """The same chip, trusting these two images instead from now on."""
    return msgspec.structs.replace(
        manifest,
        source=source,
        firmware=_image(firmware),
        template=_image(template),
        trusted_since=_now(),
    )


def without_signed(manifest: Manifest) -> Manifest:
    """The same chip with a new boot key, which has signed nothing yet."""
    return msgspec.structs.replace(manifest, signed=(), signed_earlier=0, adopted=False)


def with_signed(manifest: Manifest, sha256: str) -> Manifest:
    """The same chip, which has signed this image too; one it knows stays where it is."""
    if any(each.sha256 == sha256 for each in manifest.signed):
        return manifest
    signed = (*manifest.signed, Signed(sha256=sha256, since=_now()))
    forgotten = max(0, len(signed) - SIGNED_LIMIT)
    return msgspec.structs.replace(
        manifest,
        signed=signed[forgotten:],
        signed_earlier=manifest.signed_earlier + forgotten,
    )


def exists(state_folder: Path) -> bool:
    """Whether a chip was born completely in this folder."""
    return (state_folder / NAME).exists()


def write(state_folder: Path, manifest: Manifest) -> None:
    """Keep `manifest` durably; raises SpacegrayError when the host refuses."""
    content = msgspec.json.format(msgspec.json.encode(manifest), indent=2)
    files.write_atomically(state_folder / NAME, content + b"\n")


def remove(state_folder: Path) -> None:
    """Forget the chip, durably; harmless where there is none. Raises SpacegrayError."""
    path = state_folder / NAME
    try:
        path.unlink(missing_ok=True)
        files.sync_folder(state_folder)
    except OSError as error:
        raise SpacegrayError(
            f"removing {path}", error.strerror, "remove it by hand", link="chip"
        ) from None


def read(state_folder: Path) -> Manifest:
    """The manifest kept in `state_folder`; raises ChipRefusalError `unborn` or `corrupt`."""
    path, code = state_folder / NAME, "corrupt"
    try:
        with path.open("rb") as file:
            return msgspec.json.decode(file.read(SIZE_LIMIT_BYTES), type=Manifest)
    except FileNotFoundError:
        stopped_by: object = "this chip was never born"
        code = "unborn"
    except OSError as error:
        stopped_by = error.strerror
    except msgspec.DecodeError as error:
        stopped_by = f"the file is damaged ({error})"
    raise ChipRefusalError(
        f"reading {path}",
        stopped_by,
        "put the chip's state folder back, or delete the workstation and create it again",
        code=code,
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


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def _image(frozen: Frozen) -> Image:
    return Image(sha256=frozen.sha256, size_bytes=frozen.size_bytes)
