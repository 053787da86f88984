"""Systems that nothing can start, small and made at once: for installing, not for booting."""

import hashlib
import random
from pathlib import Path

import msgspec

from spacegray.system.image import MANIFEST, Manifest, SystemImage
from tests.support.chip import unsigned_image

EPOCH = 1_700_000_000
IMAGE_BYTES = 64 << 10
SYSTEM_BYTES = 1 << 20
VERITY_BYTES = 64 << 10


def made(folder: Path, dice: random.Random, *, epoch: int = EPOCH) -> SystemImage:
    """A system image in the new `folder`, of what the dice say."""
    folder.mkdir()
    system = dice.randbytes(SYSTEM_BYTES)
    contents = {
        "kernel.efi": unsigned_image(dice.randbytes(IMAGE_BYTES)),
        "recovery.efi": unsigned_image(dice.randbytes(IMAGE_BYTES)),
        "system.erofs": system,
        "system.verity": dice.randbytes(VERITY_BYTES),
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    manifest = Manifest(
        edition="tiny",
        key=folder.name,
        root_hash=hashlib.sha256(system).hexdigest(),
        kernel_release="6.12-test",
        command_line="",
        epoch_seconds=epoch,
        kernel_bytes=len(contents["kernel.efi"]),
        recovery_bytes=len(contents["recovery.efi"]),
        system_bytes=SYSTEM_BYTES,
        verity_bytes=VERITY_BYTES,
        packages={},
    )
    (folder / MANIFEST).write_bytes(msgspec.json.encode(manifest))
    return SystemImage(folder, manifest)
