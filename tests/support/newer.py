"""Newer systems for tests of updating, made of the one there is: a cache of a home's own.

Where no archive answers, the image built last is taken for the newest. The same volume under
another salt has another seal, and its command line makes another kernel image.
"""

import hashlib
import os
import random
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import msgspec

from spacegray import host
from spacegray.progress import Silent
from spacegray.system.build import SYSTEMS, build
from spacegray.system.image import MANIFEST, Manifest, SystemImage
from tests.conftest import Cli

NOWHERE = ("--mirror", "http://127.0.0.1:9/debian")
"""The words for building from an archive that does not answer."""
HARMLESS = "cryptomgr.notests"
"""A word of the command line that may be missing from it."""
SALT = re.compile(r"(spacegray\.system=\d+,)[0-9a-f]{64},[0-9a-f]{64}")
"""The seal on the command line: number of blocks, root hash, salt."""


@dataclass
class OwnCache:
    """A home's cache with one image, which can be replaced by another."""

    folder: Path

    @property
    def image(self) -> SystemImage:
        """The image as it is now."""
        content = (self.folder / MANIFEST).read_bytes()
        return SystemImage(self.folder, msgspec.json.decode(content, type=Manifest))

    def newer(self, word: str, *, seconds: int = 60) -> SystemImage:
        """Replace it by one that is so much newer, with `word` on its command line."""
        assert len(word) == len(HARMLESS)
        now = self.image.manifest
        before = HARMLESS if HARMLESS in now.command_line else _word_like(now.command_line, word)
        salt = hashlib.sha256(word.encode()).hexdigest()
        root_hash = self._seal(salt)
        command_line = SALT.sub(rf"\g<1>{root_hash},{salt}", now.command_line)
        return self._change(now, command_line.replace(before, word), root_hash, seconds)

    def broken(self, *, seconds: int = 60) -> SystemImage:
        """Replace it by a newer one that finds no system volume with the seal it looks for."""
        now = self.image.manifest
        wrong = random.Random(now.root_hash).randbytes(32).hex()
        assert len(wrong) == len(now.root_hash)
        return self._change(now, now.command_line.replace(now.root_hash, wrong), wrong, seconds)

    def put(self, image: Path) -> None:
        """Replace it by a copy of the image in that folder."""
        shutil.rmtree(self.folder)
        shutil.copytree(image, self.folder, copy_function=os.link)

    def keep(self, folder: Path) -> Path:
        """A copy of it as it is now, in the new `folder`."""
        shutil.copytree(self.folder, folder, copy_function=os.link)
        return folder

    def _seal(self, salt: str) -> str:
        """Make the hash tree anew with this salt; returns the root."""
        tree = self.folder / "system.verity"
        tree.unlink()
        done = subprocess.run(
            [
                "veritysetup", "format", "--no-superblock", "--hash=sha256", f"--salt={salt}",
                "--data-block-size=4096", "--hash-block-size=4096",
                str(self.folder / "system.erofs"), str(tree),
            ],
            env={**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"},
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        found = re.search(r"Root hash:\s*([0-9a-f]{64})", done.stdout)
        assert found is not None, done.stdout
        return found[1]

    def _change(
        self, now: Manifest, command_line: str, root_hash: str, seconds: int
    ) -> SystemImage:
        path = self.folder / "kernel.efi"
        old, new = now.command_line.encode() + b"\0", command_line.encode() + b"\0"
        content = path.read_bytes()
        assert (content.count(old), len(old)) == (1, len(new))
        changed = msgspec.structs.replace(
            now,
            command_line=command_line,
            root_hash=root_hash,
            epoch_seconds=now.epoch_seconds + seconds,
        )
        for name, text in (
            ("kernel.efi", content.replace(old, new)),
            (MANIFEST, msgspec.json.encode(changed)),
        ):
            # The file may be another image's too.
            (self.folder / name).unlink()
            (self.folder / name).write_bytes(text)
        return self.image


def own_cache(cli: Cli, edition: str = "tiny") -> OwnCache:
    """Give the home of `cli` a cache of its own, with the newest image of `edition` alone."""
    shared = cli.home / "cache"
    image = build(edition, mirror=host.mirror(), cache=shared, progress=Silent())
    found = image.folder.resolve()
    shared.unlink()
    folder = shared / SYSTEMS / found.name
    folder.parent.mkdir(parents=True)
    shutil.copytree(found, folder, copy_function=os.link)
    return OwnCache(folder)


def _word_like(command_line: str, word: str) -> str:
    """The word that an earlier change put there."""
    stem = word.partition("=")[0]
    return next(each for each in command_line.split() if each.partition("=")[0] == stem)
