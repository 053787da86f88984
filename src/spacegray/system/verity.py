"""The seal: dm-verity's hash tree over the system volume, made by veritysetup.

There is no superblock: everything that the kernel needs to know of the tree (size, salt, root
hash) stands in the signed command line, so that nothing unsigned is parsed.
"""

import hashlib
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

BLOCK_BYTES: Final = 4096
ROOT_HASH: Final = re.compile(r"^Root hash:\s*([0-9a-f]{64})$", re.M)


@dataclass(frozen=True)
class Seal:
    """What the signed command line says of a sealed volume."""

    blocks: int
    root_hash: str
    salt: str

    @property
    def parameter(self) -> str:
        """The word on the kernel's command line; `guest/initramfs/init` reads it."""
        return f"spacegray.system={self.blocks},{self.root_hash},{self.salt}"


def seal(volume: Path, tree: Path) -> Seal:
    """Write the hash tree of `volume` to `tree`.

    The salt is derived from the content: the same volume has the same root hash, another has
    another salt. Raises subprocess.CalledProcessError or ValueError when veritysetup fails.
    """
    blocks, rest = divmod(volume.stat().st_size, BLOCK_BYTES)
    if rest:
        raise ValueError(f"{volume} is not made of whole blocks")
    with volume.open("rb") as file:
        salt = hashlib.file_digest(file, "sha256").hexdigest()
    command = [
        "veritysetup", "format", "--no-superblock", "--hash=sha256", f"--salt={salt}",
        f"--data-block-size={BLOCK_BYTES}", f"--hash-block-size={BLOCK_BYTES}",
        f"--data-blocks={blocks}", str(volume), str(tree),
    ]  # fmt: skip
    report = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = ROOT_HASH.search(report)
    if found is None:
        raise ValueError("veritysetup names no root hash")
    return Seal(blocks, found[1], salt)
