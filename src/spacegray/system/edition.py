"""Editions: what each system consists of, read from `guest/`.

An edition is one TOML file in `guest/editions/` and the trees `guest/common` and `guest/NAME`
that are laid over the packages. The files are part of the program and trusted.
"""

import hashlib
import tomllib
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from spacegray.errors import UsageError

GUEST: Final = Path(__file__).parent / "guest"


class Edition(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one edition is made of; `pick` (keep only these) or `prune` (remove these)."""

    name: str
    variant: Literal["extract", "essential"]
    packages: list[str]
    modules: list[str]
    links: dict[str, str]
    modes: dict[str, str]
    command_line: list[str] = []
    pick: list[str] | None = None
    prune: list[str] | None = None
    masked: list[str] = []

    @property
    def all_links(self) -> dict[str, str]:
        """The links to make, those of masked units among them."""
        return {**self.links, **{f"etc/systemd/system/{unit}": "/dev/null" for unit in self.masked}}

    @property
    def hook(self) -> str:
        """mmdebstrap's name for the moment after the last package."""
        return "extract-hook" if self.variant == "extract" else "customize-hook"


def load(name: str) -> Edition:
    """The edition `name`; raises UsageError when there is none of that name."""
    path = GUEST / "editions" / f"{name}.toml"
    known = sorted(file.stem for file in path.parent.glob("*.toml"))
    if name not in known:
        raise UsageError(
            f"looking for the edition {name!r}",
            "there is none of that name",
            f"choose one of {', '.join(known)}",
        )
    return msgspec.convert({"name": name, **_read(path)}, Edition)


def initramfs() -> dict[str, Any]:
    """What goes into the initramfs, the same for all editions."""
    return _read(GUEST / "initramfs" / "initramfs.toml")


def trees(edition: Edition) -> list[Path]:
    """The folders of guest files that this edition uses."""
    return [GUEST / "common", GUEST / edition.name, GUEST / "initramfs"]


def digest(folders: list[Path]) -> str:
    """SHA-256 over the names, kinds and contents of all files below `folders`, in hex."""
    total = hashlib.sha256()
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                name = path.relative_to(folder.parent).as_posix()
                total.update(f"{name}\0{path.stat().st_size}\0".encode())
                total.update(path.read_bytes())
    return total.hexdigest()


def _read(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return tomllib.load(file)
