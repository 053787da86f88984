"""Kernel modules: which are needed, in which order, unpacked with their signatures kept.

Under lockdown the kernel loads only modules that its builder signed; the signature is a trailer
of the .ko file, so that a module may be decompressed but never stripped.
"""

import lzma
import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

SIGNATURE_TRAILER = b"~Module signature appended~\n"
PACKED = ".xz"
INDEX_SOURCES = ("modules.builtin", "modules.builtin.modinfo", "modules.order")


class Modules:
    """The modules of one kernel under `root`, with their needs as depmod found them."""

    def __init__(self, root: Path, release: str) -> None:
        self.release = release
        self.folder = root / "usr/lib/modules" / release
        _depmod(root, release)
        self.needs: dict[str, list[str]] = {}
        self.path: dict[str, str] = {}
        for line in (self.folder / "modules.dep").read_text().splitlines():
            path, _, needed = line.partition(":")
            self.needs[path] = needed.split()
            self.path[module_name(path)] = path
        self.builtin = {
            module_name(line) for line in (self.folder / "modules.builtin").read_text().split()
        }

    def ordered(self, names: Iterable[str]) -> list[str]:
        """The paths of `names` and all they need, each after its needs.

        A name with a final / is a folder below `kernel/`; what is built into the kernel is left
        out. Raises FileNotFoundError for a name that the kernel does not have.
        """
        order: dict[str, None] = {}
        for name in names:
            if name.endswith("/"):
                chosen = sorted(path for path in self.needs if path.startswith(f"kernel/{name}"))
            elif module_name(name) in self.path:
                chosen = [self.path[module_name(name)]]
            elif module_name(name) in self.builtin:
                continue
            else:
                chosen = []
            if not chosen:
                raise FileNotFoundError(f"kernel module {name} in {self.release}")
            for path in chosen:
                # modules.dep lists what is needed last first, and completely.
                order.update(dict.fromkeys(reversed(self.needs[path])))
                order[path] = None
        return list(order)

    def content(self, path: str) -> bytes:
        """One module, decompressed; raises ValueError when it carries no signature."""
        packed = (self.folder / path).read_bytes()
        content = lzma.decompress(packed) if path.endswith(PACKED) else packed
        if not content.endswith(SIGNATURE_TRAILER):
            raise ValueError(f"the kernel module {path} is not signed")
        return content

    def install(self, target: Path, names: Iterable[str]) -> None:
        """Put `names` and their needs, decompressed, into the system `target`."""
        order = self.ordered(names)
        contents = {path.removesuffix(PACKED): self.content(path) for path in order}
        sources = {name: (self.folder / name).read_bytes() for name in INDEX_SOURCES}
        folder = target / "usr/lib/modules" / self.release
        shutil.rmtree(folder, ignore_errors=True)
        for path, content in {**contents, **sources}.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)


def index(target: Path, root: Path, release: str) -> None:
    """Write depmod's index of the modules installed in `target`, with the depmod of `root`."""
    inner = os.path.relpath(target, root)
    base = "/" if inner == "." else f"/{inner}"
    _depmod(root, "-b", f"{base}/usr", release)


def _depmod(root: Path, *arguments: str) -> None:
    """Run the system's own depmod; it tells of broken modules without failing, so that any word
    of it is a failure here."""
    command = ["chroot", str(root), "depmod", *arguments]
    said = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=True).stderr
    if said.strip():
        raise ValueError(f"depmod: {said.strip().splitlines()[0]}")


def module_name(path: str) -> str:
    """`kernel/fs/ext4/ext4.ko.xz` is `ext4`; hyphens and underscores are the same letter."""
    return path.rsplit("/", 1)[-1].split(".ko")[0].replace("-", "_")
