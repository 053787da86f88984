"""Building a system image, or finding it in the cache.

Invariants: a folder below `CACHE/systems` that bears a key as its name is whole; work in progress
lies in folders that begin with a dot and is cleaned away by the next build. One build at a time
for a cache. Trusted: the package archive's signatures (apt checks them), this program's files.
"""

import dataclasses
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
import uuid
from pathlib import Path
from typing import Any, Final

import msgspec

from spacegray.errors import SpacegrayError
from spacegray.files import locked, make_private, sync_folder, write_atomically
from spacegray.progress import Progress
from spacegray.system import archive, debootstrap, edition, kernel_image, verity
from spacegray.system.image import MANIFEST, Manifest, SystemImage, load

__all__ = ["SystemImage", "build"]

SYSTEMS: Final = "systems"
WORK_PREFIX: Final = ".building-"
KEPT_IMAGES: Final = 2
"""Images of one edition that stay in the cache: the newest, and one that may be in use."""

TOOLS: Final = {
    "mmdebstrap": ("mmdebstrap", "--version"),
    "erofs-utils": ("mkfs.erofs", "-V"),
    "cryptsetup-bin": ("veritysetup", "--version"),
}
"""Debian package -> command that tells its version, which is part of the key."""

NAMESPACE: Final = uuid.UUID("6c2a4e0e-5b0c-4f0e-9b53-5a1d0f3f7d11")
"""For the volumes' UUIDs, which are derived from the key."""

COMMAND_LINE: Final = (
    "console=tty0",
    "console=ttyS0",
    "loglevel=4",
    "fbcon=font:TER16x32",
    "panic=1",
    "ro",
    "net.ifnames=0",
    "audit=0",
    "lsm=landlock,lockdown,yama,bpf",
    "8250.nr_uarts=1",
    "cryptomgr.notests",
    "rcupdate.rcu_expedited=1",
)
"""The signed command line; docs/system-image.md says why each word is there."""

RECOVERY_COMMAND_LINE: Final = tuple(word for word in COMMAND_LINE if word != "ro")
"""The recovery system's: it has no other root than its archive."""


def build(name: str, *, mirror: str, cache: Path, progress: Progress) -> SystemImage:
    """The current image of the edition `name`, from the cache where its inputs are unchanged.

    `mirror` is a Debian archive's address. Where it gives no answer, the newest image of this
    edition is used, with a note. Raises SpacegrayError.
    """
    chosen = edition.load(name)
    systems = make_private(cache / SYSTEMS)
    try:
        current = archive.look(mirror, progress.note)
    except archive.UnreachableError as error:
        if older := newest(systems, name):
            progress.note(f"{mirror} gives no answer ({error}); using the {name} built earlier")
            return older
        raise archive.offline_error(name, mirror, error) from None
    tools = tool_versions()
    key = cache_key(chosen, current, tools)
    if found := load(systems / key):
        return found
    with locked(systems / ".lock") as at_once:
        if at_once:
            return _build_locked(chosen, current, tools, systems, progress)
    progress.note("another build is under way; waiting for it")
    with locked(systems / ".lock", timeout_seconds=None):
        return load(systems / key) or _build_locked(chosen, current, tools, systems, progress)


def cache_key(chosen: edition.Edition, current: archive.Archive, tools: dict[str, str]) -> str:
    """SHA-256, in hex, over everything that influences the image."""
    own = Path(__file__).parent
    inputs = {
        "edition": chosen.name,
        "recipe": hashlib.sha256(msgspec.json.encode(chosen)).hexdigest(),
        "guest": edition.digest(edition.trees(chosen)),
        "code": edition.digest([own / "inside"]) + _digest(sorted(own.glob("*.py"))),
        "archive": [current.digest, current.epoch_seconds],
        "tools": tools,
    }
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()


def newest(systems: Path, name: str) -> SystemImage | None:
    """The image of the edition `name` that was built last, or None."""
    images = _images(systems, name)
    return images[0] if images else None


def tool_versions() -> dict[str, str]:
    """The versions of the programs that make an image; raises SpacegrayError for missing ones."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    commands = {package: shutil.which(tool[0], path=path) for package, tool in TOOLS.items()}
    missing = sorted(package for package, command in commands.items() if command is None)
    if missing:
        raise SpacegrayError(
            "building a system",
            f"this host lacks {', '.join(missing)}",
            f"install them: apt install {' '.join(missing)}",
        )
    versions = {}
    for package, command in commands.items():
        answer = subprocess.run(
            [str(command), *TOOLS[package][1:]], capture_output=True, text=True, check=False
        )
        versions[package] = (answer.stdout + answer.stderr).strip().splitlines()[0]
    return versions


def _build_locked(
    chosen: edition.Edition,
    current: archive.Archive,
    tools: dict[str, str],
    systems: Path,
    progress: Progress,
) -> SystemImage:
    """Build while the lock is held."""
    _clean(systems)
    key = cache_key(chosen, current, tools)
    doing = f"building the system {chosen.name}"
    work = Path(tempfile.mkdtemp(prefix=WORK_PREFIX, dir=systems))
    try:
        parts, results = work / "parts", work / "image"
        parts.mkdir()
        results.mkdir()
        recipe = _recipe(chosen, current, key)
        debootstrap.stage(work / "stage", chosen, recipe)
        total = len(debootstrap.STAGES) + 1
        progress.step(doing, 0, total)
        with debootstrap.temporary_chroots() as chroots:
            debootstrap.run(
                chosen, current, work / "stage", parts, chroots,
                lambda number: progress.step(doing, number, total),
            )  # fmt: skip
        progress.step(doing, total - 1, total)
        facts = json.loads((parts / "facts.json").read_text())
        # The archive may have changed since it was asked; the key names what was really used.
        # Otherwise it stays: a key made now could name program files newer than those that ran.
        used = dataclasses.replace(current, digest=archive.digest(facts["releases"]))
        if used != current:
            key = cache_key(chosen, used, tools)
        image = _assemble(chosen, used, key, facts, parts, results)
        for path in results.iterdir():
            _sync(path)
        shutil.rmtree(systems / key, ignore_errors=True)
        results.rename(systems / key)
        sync_folder(systems)
        progress.step(doing, total, total)
    except debootstrap.BuildFailedError as error:
        log = systems / f"failed-{chosen.name}.log"
        shutil.copyfile(work / "parts/build.log", log)
        raise SpacegrayError(doing, error, _next_step(str(error), log)) from None
    except subprocess.CalledProcessError as error:
        said = str(error.stderr or "").strip() or error
        raise SpacegrayError(doing, said, "see what `doctor` says of this host") from None
    except OSError as error:
        raise SpacegrayError(
            doing, error, "make room in the cache's and in the temporary folder, then try again"
        ) from None
    except ValueError as error:
        raise SpacegrayError(doing, error, "see what `doctor` says of this host") from None
    finally:
        shutil.rmtree(work, ignore_errors=True)
    for old in _images(systems, chosen.name)[KEPT_IMAGES:]:
        shutil.rmtree(old.folder, ignore_errors=True)
    return SystemImage(systems / key, image)


def _assemble(
    chosen: edition.Edition,
    current: archive.Archive,
    key: str,
    facts: dict[str, Any],
    parts: Path,
    results: Path,
) -> Manifest:
    """From the parts that came out of the namespace: the seal, the kernel images, the manifest."""
    (parts / "system.erofs").rename(results / "system.erofs")
    seal = verity.seal(results / "system.erofs", results / "system.verity")
    command_line = " ".join([*COMMAND_LINE, *chosen.command_line, seal.parameter])
    kernel = _kernel_image(parts, facts, "initramfs", command_line)
    recovery = _kernel_image(parts, facts, "recovery", " ".join(RECOVERY_COMMAND_LINE))
    (results / "kernel.efi").write_bytes(kernel)
    (results / "recovery.efi").write_bytes(recovery)
    manifest = Manifest(
        edition=chosen.name,
        key=key,
        root_hash=seal.root_hash,
        kernel_release=facts["kernel_release"],
        command_line=command_line,
        epoch_seconds=current.epoch_seconds,
        kernel_bytes=len(kernel),
        recovery_bytes=len(recovery),
        system_bytes=(results / "system.erofs").stat().st_size,
        verity_bytes=(results / "system.verity").stat().st_size,
        packages=facts["packages"],
    )
    write_atomically(results / MANIFEST, msgspec.json.format(msgspec.json.encode(manifest)))
    return manifest


def _kernel_image(parts: Path, facts: dict[str, Any], initramfs: str, command_line: str) -> bytes:
    """The unified kernel image of the archive `initramfs`, not signed."""
    return kernel_image.assemble(
        (parts / "stub").read_bytes(),
        {
            ".osrel": (parts / "os-release").read_bytes(),
            ".cmdline": command_line.encode() + b"\0",
            ".uname": facts["kernel_release"].encode() + b"\0",
            ".initrd": (parts / initramfs).read_bytes(),
            ".linux": (parts / "vmlinuz").read_bytes(),
        },
    )


def _recipe(chosen: edition.Edition, current: archive.Archive, key: str) -> dict[str, Any]:
    """What `inside.pack` is told."""
    recipe: dict[str, Any] = {
        "edition": chosen.name,
        "modules": chosen.modules,
        "links": chosen.all_links,
        "modes": chosen.modes,
        **{name: msgspec.to_builtins(edition.initramfs(name)) for name in edition.INITRAMFS},
        "epoch": current.epoch_seconds,
        "uuid": str(uuid.uuid5(NAMESPACE, key)),
    }
    if chosen.pick is not None:
        recipe["pick"] = chosen.pick
    else:
        recipe["prune"] = chosen.prune or []
    return recipe


def _images(systems: Path, name: str) -> list[SystemImage]:
    """The whole images of one edition, the newest first."""
    found = [image for path in systems.iterdir() if (image := load(path))]
    mine = [image for image in found if image.edition == name]
    return sorted(mine, key=lambda image: image.folder.stat().st_mtime, reverse=True)


def _clean(systems: Path) -> None:
    """Remove what interrupted builds left; the lock is held, so that none of it is in use."""
    for work in systems.glob(f"{WORK_PREFIX}*"):
        shutil.rmtree(work, ignore_errors=True)


def _next_step(reason: str, log: Path) -> str:
    if "No space left" in reason:
        return "make room in the cache's and in the temporary folder, then try again"
    if "subuid" in reason or "newuidmap" in reason:
        return "install uidmap and give this user a range in /etc/subuid and /etc/subgid"
    return f"the whole report is in {log}"


def _digest(paths: list[Path]) -> str:
    total = hashlib.sha256()
    for path in paths:
        total.update(path.name.encode() + b"\0" + path.read_bytes())
    return total.hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
