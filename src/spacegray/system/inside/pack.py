"""From an unpacked Debian system to the parts of an image, within the build's namespace.

Called as `pack.main(root, folder)`: `root` is the system that mmdebstrap made, `folder` (below
it) holds `recipe.json` and our own guest files and receives the RESULTS. They depend on the
packages, the recipe and the guest files only.
"""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

from spacegray.system.inside import cpio, erofs, tree
from spacegray.system.inside.modules import Modules, index

MOUNT_POINTS = (
    "data", "dev", "home", "opt", "proc", "root", "run", "sys", "tmp", "usr/local", "volume",
    "etc", "var",
)  # fmt: skip
KEPT_OUTSIDE = ("dev", "proc", "run", "sys")
"""Top-level folders of the build's root that are not the system's content."""

RESULTS = ("system.erofs", "initramfs", "recovery", "vmlinuz", "stub", "os-release", "facts.json")
STUB = "usr/lib/systemd/boot/efi/linuxx64.efi.stub"


def main(root: Path, folder: Path) -> None:
    """Make the RESULTS in `folder`."""
    recipe: dict[str, Any] = json.loads((folder / "recipe.json").read_text())
    (release,) = (path.name for path in (root / "usr/lib/modules").iterdir())
    modules = Modules(root, release)
    for name in ("initramfs", "recovery"):
        early = folder / f"{name}-tree"
        fill_initramfs(root, early, folder / "guest", modules, name, recipe[name])
        (folder / name).write_bytes(cpio.pack(early))
    shutil.copyfile(root / f"boot/vmlinuz-{release}", folder / "vmlinuz")
    shutil.copyfile(root / STUB, folder / "stub")
    shutil.copyfile(root / "usr/lib/os-release", folder / "os-release")
    facts = {"kernel_release": release, "packages": packages(root), "releases": releases(root)}
    (folder / "facts.json").write_text(json.dumps(facts))

    sealed = seal(root, folder, modules, recipe)
    erofs.pack(sealed, folder / "system.erofs", epoch_seconds=recipe["epoch"], uuid=recipe["uuid"])
    count = erofs.verify(folder / "system.erofs", sealed, folder / "extracted")
    print(f"compared {count} files with their source", flush=True)


def seal(root: Path, folder: Path, modules: Modules, recipe: dict[str, Any]) -> Path:
    """The tree that goes under the seal."""
    sealed = folder / "sealed"
    sealed.mkdir()
    if "pick" in recipe:
        tree.copy(root, sealed, tree.with_libraries(root, recipe["pick"]))
        tree.link_applets(sealed, sealed / "usr/bin/busybox")
        modules.install(sealed, recipe["modules"])
        index(sealed, root, modules.release)
    else:
        modules.install(root, recipe["modules"])
        index(root, root, modules.release)
        for entry in sorted(root.iterdir()):
            if entry.name not in KEPT_OUTSIDE and entry not in folder.parents and entry != folder:
                entry.rename(sealed / entry.name)
        tree.prune(sealed, recipe["prune"])
    for mount_point in MOUNT_POINTS:
        (sealed / mount_point).mkdir(parents=True, exist_ok=True)
    (sealed / "tmp").chmod(0o1777)
    (sealed / "root").chmod(0o700)
    for layer in ("common", recipe["edition"]):
        tree.overlay(folder / "guest" / layer, sealed)
    tree.link(sealed, recipe["links"])
    for path, mode in recipe["modes"].items():
        (sealed / path).chmod(int(mode, 8))
    return sealed


def fill_initramfs(
    root: Path, target: Path, guest: Path, modules: Modules, name: str, recipe: dict[str, Any]
) -> None:
    """The tree of the archive `name`: `init`, its programs, the modules and their order."""
    tree.copy(root, target, tree.with_libraries(root, recipe["programs"]))
    tree.link_applets(target, target / "usr/bin/busybox")
    tree.link(target, {name: f"usr/{name}" for name in tree.MERGED})
    tree.overlay(guest / "common", target, recipe["shared"])
    tree.overlay(guest / name / "root", target)
    for folder in ("dev", "proc", "run", "sys", "sysroot", "tmp", "modules"):
        (target / folder).mkdir()
    for order, names in (("order", "modules"), ("order-on-demand", "modules_on_demand")):
        paths = modules.ordered(recipe[names])
        for path in paths:
            (target / "modules" / file_name(path)).write_bytes(modules.content(path))
        listing = "".join(f"{file_name(path)}\n" for path in paths)
        (target / "modules" / order).write_text(listing)


def releases(root: Path) -> list[str]:
    """The InRelease files that apt checked and used for this build."""
    found = sorted((root / "var/lib/apt/lists").glob("*_InRelease"))
    return [path.read_text(errors="replace") for path in found]


def file_name(path: str) -> str:
    """A module's own name, decompressed: `kernel/fs/ext4/ext4.ko.xz` is `ext4.ko`."""
    return path.rsplit("/", 1)[-1].removesuffix(".xz")


def packages(root: Path) -> dict[str, str]:
    """The versions of the packages that went into the build."""
    archives = sorted((root / "var/cache/apt/archives").glob("*.deb"))
    if archives:  # only unpacked: there is no database, but the archives are still there
        fields = [path.stem.split("_") for path in archives]
        return {name: version.replace("%3a", ":") for name, version, _ in fields}
    command = ["chroot", str(root), "dpkg-query", "-W", "-f", "${Package} ${Version}\n"]
    listing = subprocess.run(command, capture_output=True, text=True, check=True)
    return dict(line.split(" ", 1) for line in listing.stdout.splitlines())
