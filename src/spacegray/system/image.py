"""A system image as it lies in the cache: a folder that is never changed once it has its name."""

import contextlib
from pathlib import Path
from typing import Final

import msgspec

MANIFEST: Final = "manifest.json"


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What an image is; sizes in bytes. `epoch_seconds` is the archive's date."""

    edition: str
    key: str
    root_hash: str
    kernel_release: str
    command_line: str
    epoch_seconds: int
    kernel_bytes: int
    recovery_bytes: int
    system_bytes: int
    verity_bytes: int
    packages: dict[str, str]

    @property
    def epoch(self) -> int:
        """The system's security epoch: it grows with each state of the archive."""
        return self.epoch_seconds


class SystemImage(msgspec.Struct, frozen=True):
    """One built system; nothing in it belongs to a single machine."""

    folder: Path
    manifest: Manifest

    @property
    def kernel(self) -> Path:
        """The unified kernel image, not yet signed."""
        return self.folder / "kernel.efi"

    @property
    def recovery(self) -> Path:
        """The recovery system's unified kernel image, not yet signed."""
        return self.folder / "recovery.efi"

    @property
    def system(self) -> Path:
        """The erofs volume under the seal."""
        return self.folder / "system.erofs"

    @property
    def verity(self) -> Path:
        """The seal's hash tree."""
        return self.folder / "system.verity"

    @property
    def edition(self) -> str:
        return self.manifest.edition

    @property
    def root_hash(self) -> str:
        return self.manifest.root_hash


def load(folder: Path) -> SystemImage | None:
    """The image in `folder`, or None when there is no whole one."""
    with contextlib.suppress(OSError, msgspec.DecodeError):
        manifest = msgspec.json.decode((folder / MANIFEST).read_bytes(), type=Manifest)
        image = SystemImage(folder, manifest)
        expected = {
            image.kernel: manifest.kernel_bytes,
            image.recovery: manifest.recovery_bytes,
            image.system: manifest.system_bytes,
            image.verity: manifest.verity_bytes,
        }
        if all(path.stat().st_size == size for path, size in expected.items()):
            return image
    return None
