"""What the chip remembers besides its keys: who it is, and where its systems came from and lie.

One file, `chip.json` in the chip's state folder, written at birth, when a system is put into a
slot, and when the chip is restored. It is authentic only as far as that folder is, and nothing
that decides what starts is in it: that the vault keeps.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

import msgspec

from spacegray import files
from spacegray.chip.messages import Esp, Seal
from spacegray.chip.refusal import ChipRefusalError
from spacegray.errors import SpacegrayError
from spacegray.paths import Slot

NAME: Final = "chip.json"
SIZE_LIMIT_BYTES: Final = 64 * 1024


class System(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is known of a slot beside its ticket: `source` says where its firmware is from.

    `since` is in UTC.
    """

    source: str
    since: datetime
    esp: Esp


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The content of `chip.json`; times are in UTC."""

    format: Literal[3] = 3
    ecid: str
    born: datetime
    seal: Seal
    slots: dict[Slot, System] = {}


def make(*, ecid: int, seal: Seal) -> Manifest:
    """The manifest of a chip born now, without a system."""
    return Manifest(ecid=show_ecid(ecid), born=_now(), seal=seal)


def with_system(manifest: Manifest, slot: Slot, *, source: str, esp: Esp) -> Manifest:
    """The same chip with another system in `slot` from now on."""
    system = System(source=source, since=_now(), esp=esp)
    return msgspec.structs.replace(manifest, slots=manifest.slots | {slot: system})


def without_systems(manifest: Manifest) -> Manifest:
    """The same chip with nothing to start."""
    return msgspec.structs.replace(manifest, slots={})


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


def show_ecid(ecid: int) -> str:
    """An ECID as people read it."""
    return f"0x{ecid:016x}"


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)
