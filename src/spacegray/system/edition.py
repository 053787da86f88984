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


class Initramfs(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What goes into an initramfs beside the files of its folder, the same for all editions.

    `modules` are loaded at the start, `modules_on_demand` when they are called for.
    """

    packages: list[str] = []
    programs: list[str]
    shared: list[str] = []
    modules: list[str]
    modules_on_demand: list[str]


INITRAMFS: Final = ("initramfs", "recovery")
"""The archives that each edition has: the system's own, and the recovery system, which is one."""


def initramfs(name: str) -> Initramfs:
    """The archive `name`, one of INITRAMFS."""
    return msgspec.convert(_read(GUEST / name / f"{name}.toml"), Initramfs)


def packages(edition: Edition) -> list[str]:
    """All packages that this edition and its archives are made of."""
    needed = [*edition.packages, *(each for name in INITRAMFS for each in initramfs(name).packages)]
    return list(dict.fromkeys(needed))


def trees(edition: Edition) -> list[Path]:
    """The folders of guest files that this edition uses."""
    return [GUEST / "common", GUEST / edition.name, *(GUEST / name for name in INITRAMFS)]


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
