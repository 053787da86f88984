"""Choosing and placing the files of a system.

All paths are relative to the root they are taken from, without a leading slash, with the merged
/usr resolved (`usr/lib/...`, never `lib/...`). The packages' signatures were checked by apt; the
trees here are trusted.
"""

import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

LOADER = "/usr/lib64/ld-linux-x86-64.so.2"
MERGED = ("bin", "lib", "lib64", "sbin")
ELF_MAGIC = b"\x7fELF"
EXECUTABLE_MODE = 0o755
FILE_MODE = 0o644


def merged(path: str) -> str:
    """`path` without a leading slash and with the merged /usr resolved."""
    path = path.lstrip("/")
    return f"usr/{path}" if path.split("/", 1)[0] in MERGED else path


def resolve(source: Path, paths: Iterable[str]) -> list[str]:
    """The single files and links that `paths` name: a final / means a folder's whole content.

    A link brings its target along. Raises FileNotFoundError for a path that does not exist.
    """
    found: dict[str, None] = {}
    waiting = [merged(path) for path in paths]
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        full = source / path
        if path.endswith("/"):
            waiting += [
                os.path.relpath(Path(folder, name), source)
                for folder, _, names in os.walk(full)
                for name in names
            ]
            continue
        full.lstat()
        found[path] = None
        if full.is_symlink():
            waiting.append(merged(link_target(path, full.readlink())))
    return sorted(found)


def link_target(path: str, destination: Path) -> str:
    """Where a link at `path` leads, as a path of the same root."""
    if destination.is_absolute():
        return os.path.normpath(destination)
    return os.path.normpath(Path(path).parent / destination)


def is_elf(path: Path) -> bool:
    """Whether this is a regular file with ELF's magic number."""
    if path.is_symlink() or not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(ELF_MAGIC)) == ELF_MAGIC


def with_libraries(source: Path, paths: Iterable[str]) -> list[str]:
    """`paths` and the shared libraries they need, asked of the system's own loader."""
    chosen = resolve(source, paths)
    needed: list[str] = []
    for path in chosen:
        if not is_elf(source / path):
            continue
        listing = subprocess.run(
            ["chroot", source, LOADER, "--list", f"/{path}"], capture_output=True, text=True
        )
        if listing.returncode == 0:  # otherwise it is static
            needed += [LOADER, *libraries(listing.stdout)]
    return resolve(source, [*chosen, *needed])


def libraries(listing: str) -> list[str]:
    """The paths in the loader's `name => path (address)` lines.

    Raises FileNotFoundError for a library that was not found.
    """
    paths = []
    for line in listing.splitlines():
        if "=> not found" in line:
            raise FileNotFoundError(line.strip())
        _, arrow, rest = line.partition("=> ")
        if arrow:
            paths.append(rest.split(" (")[0].strip())
    return paths


def copy(source: Path, target: Path, paths: Iterable[str]) -> None:
    """Copy files and links with owner, mode and extended attributes; folders are 0755 root."""
    for path in paths:
        destination = target / path
        destination.parent.mkdir(parents=True, exist_ok=True)
        if os.path.lexists(destination):
            continue
        shutil.copy2(source / path, destination, follow_symlinks=False)
        status = (source / path).lstat()
        os.chown(destination, status.st_uid, status.st_gid, follow_symlinks=False)
        if not destination.is_symlink():
            destination.chmod(status.st_mode & 0o7777)  # chown took set-user-id away


def overlay(source: Path, target: Path, names: Iterable[str] | None = None) -> None:
    """Lay our own files over the system: owner root, 0755 for scripts and 0644 for the rest.

    All that lie below `source`, or only `names`.
    """
    if names is None:
        names = [path.relative_to(source).as_posix() for path in source.rglob("*")]
    for name in names:
        file, destination = source / name, target / name
        if file.is_dir():
            continue
        destination.parent.mkdir(parents=True, exist_ok=True)
        destination.unlink(missing_ok=True)
        content = file.read_bytes()
        destination.write_bytes(content)
        os.chown(destination, 0, 0)
        destination.chmod(EXECUTABLE_MODE if content.startswith(b"#!") else FILE_MODE)


def link(target: Path, links: Mapping[str, str]) -> None:
    """Make the symbolic links `path -> destination`, replacing what is there."""
    for path, destination in links.items():
        name = target / path
        name.parent.mkdir(parents=True, exist_ok=True)
        name.unlink(missing_ok=True)
        name.symlink_to(destination)


def link_applets(target: Path, busybox: Path) -> None:
    """One link in usr/bin for each of busybox's applets that nothing else provides."""
    applets = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True)
    for applet in applets.stdout.split():
        places = [target / "usr/bin" / applet, target / "usr/sbin" / applet]
        if not any(os.path.lexists(place) for place in places):
            places[0].symlink_to("busybox")


def prune(target: Path, patterns: Iterable[str]) -> None:
    """Remove what the glob patterns match: files, links and whole folders."""
    for pattern in patterns:
        for path in list(target.glob(pattern)):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
