"""Running mmdebstrap: an unpacked Debian system in a user namespace, packed before it vanishes.

The chroot lies in a folder of its own below the temporary folder, because the namespace's users
must be able to reach it and a home is often closed to them. Its files belong to the caller's
subordinate users, so that it is removed with mmdebstrap's own help. Nothing here needs root.
"""

import contextlib
import ctypes
import json
import os
import select
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from spacegray import host
from spacegray.files import locked
from spacegray.process import minimal_environment
from spacegray.system.archive import SUITE, Archive
from spacegray.system.edition import Edition, packages, trees
from spacegray.system.inside.pack import RESULTS

PROGRAM: Final = "mmdebstrap"
PYTHON: Final = "/usr/bin/python3"
"""The host's own: the namespace's users may not reach the one that runs this."""

BIG_TEMPORARY: Final = "/var/tmp"
CHROOT_PREFIX: Final = "spacegray-build-"
STAGE: Final = "spacegray-build"
LOCK_NAME: Final = ".lock"
LEFT_SECONDS: Final = 60
"""A folder this old whose lock is free is nobody's: a new one is locked at once."""
STOP_SECONDS: Final = 30
POLL_SECONDS: Final = 0.5
READ_BYTES: Final = 64 * 1024
LOG_TAIL_LINES: Final = 200
NOT_INSTALLED: Final = (
    "/usr/share/doc/*", "/usr/share/man/*", "/usr/share/info/*", "/usr/share/locale/*",
    "/usr/share/gtk-doc/*", "/usr/share/lintian/*", "/usr/share/bug/*",
    "/etc/kernel/postinst.d/*",  # would make an initramfs that nobody boots
)  # fmt: skip

STAGES: Final = (
    "I: running apt-get update",
    "I: downloading packages with apt",
    "I: extracting archives",
    "I: installing essential packages",
    "I: installing remaining packages",
    "I: running special hook: sync-in",
    "I: running special hook: download",
    "I: removing tempdir",
)
"""Lines of mmdebstrap that begin a stage of the work."""

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


class BuildFailedError(Exception):
    """mmdebstrap, or what it ran, failed; the text says why in one line."""


def stage(folder: Path, edition: Edition, recipe: Mapping[str, Any]) -> None:
    """Lay out in `folder` what goes into the namespace: our files, our code, the recipe."""
    for tree in trees(edition):
        shutil.copytree(tree, folder / "guest" / tree.name)
    own = Path(__file__).parent
    code = folder / "lib/spacegray/system"
    shutil.copytree(own / "inside", code / "inside", ignore=lambda *_: ["__pycache__"])
    (code / "__init__.py").touch()
    (code.parent / "__init__.py").touch()
    (folder / "recipe.json").write_text(json.dumps(recipe))


def run(
    edition: Edition,
    archive: Archive,
    staged: Path,
    results: Path,
    chroots: Path,
    on_stage: Callable[[int], None],
) -> None:
    """Build in `chroots`; the RESULTS of `inside.pack` come to `results`, the log with them.

    `on_stage` is told the index in STAGES. However it ends, nothing is left running. Raises
    BuildFailedError.
    """
    log = results / "build.log"
    environment = {
        **minimal_environment(),
        "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin",
        "TMPDIR": str(chroots),
        "SOURCE_DATE_EPOCH": str(archive.epoch_seconds),
        "LC_ALL": "C.UTF-8",
    }
    child = subprocess.Popen(
        _command(edition, archive, staged, results),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment,
        start_new_session=True,
        preexec_fn=_end_with_parent(),
    )
    lines: list[str] = []
    try:
        with log.open("w") as file:
            for line in _output(child):
                file.write(line)
                lines = [*lines[-LOG_TAIL_LINES:], line.strip()]
                for number, beginning in enumerate(STAGES):
                    if line.startswith(beginning):
                        on_stage(number)
        status = child.wait()
    finally:
        _stop(child)
    if status != 0:
        raise BuildFailedError(reason(lines))


def reason(lines: list[str]) -> str:
    """The one line of a failed build's output that says most."""
    for sign in ("No space left on device", "newuidmap", "/etc/subuid", "user namespaces"):
        for line in lines:
            if sign in line:
                return line
    errors = [line for line in lines if line.startswith("E: ") or "Error: " in line]
    # Lines of progress are no reason: a killed mmdebstrap says nothing more after them.
    said = [line for line in lines if line and not line.startswith("I: ")]
    return (errors or said[-1:] or ["mmdebstrap was ended before it was done"])[0]


@contextlib.contextmanager
def temporary_chroots() -> Iterator[Path]:
    """A fresh folder for chroots that the namespace's users can enter; removed at the end.

    So are those that killed builds left behind: their locks are free.
    """
    parent = Path(os.environ.get("TMPDIR", BIG_TEMPORARY))
    for left in parent.glob(f"{CHROOT_PREFIX}*"):
        with contextlib.suppress(OSError):
            status = left.stat()
            old = time.time() - status.st_mtime > LEFT_SECONDS
            if old and status.st_uid == os.geteuid():
                with locked(left / LOCK_NAME) as free:
                    if free:
                        remove_chroots(left)
    folder = Path(tempfile.mkdtemp(prefix=CHROOT_PREFIX, dir=parent))
    folder.chmod(0o755)
    with locked(folder / LOCK_NAME):
        try:
            yield folder
        finally:
            remove_chroots(folder)


def remove_chroots(folder: Path) -> None:
    """Remove a folder of `temporary_chroots`, with the files of the namespace's users in it."""
    if not folder.is_dir() or not folder.name.startswith(CHROOT_PREFIX):
        return
    left = [str(path) for path in folder.iterdir()]
    if left:
        helper = [] if os.geteuid() == 0 else [PROGRAM, "--unshare-helper"]
        subprocess.run([*helper, "rm", "-rf", "--one-file-system", *left], capture_output=True)
    shutil.rmtree(folder, ignore_errors=True)


def _command(edition: Edition, archive: Archive, staged: Path, results: Path) -> list[str]:
    inside = f'"$1/{STAGE}/lib/spacegray/system/inside" "$1" "$1/{STAGE}"'
    hooks = [
        f'mkdir "$1/{STAGE}"',
        f"sync-in {shlex.quote(str(staged))} /{STAGE}",
        f"{PYTHON} -I {inside}",
        *(f"download /{STAGE}/{name} {shlex.quote(str(results / name))}" for name in RESULTS),
    ]
    excluded = [f"--dpkgopt=path-exclude={pattern}" for pattern in NOT_INSTALLED]
    # On another distribution apt believes that one's archive, and not Debian's.
    keys = [] if host.Host.current().is_debian else [f"--keyring={host.DEBIAN_KEYS}"]
    return [
        PROGRAM,
        f"--mode={'root' if os.geteuid() == 0 else 'unshare'}",
        f"--variant={edition.variant}",
        "--format=null",
        "--architectures=amd64",
        *keys,
        "--skip=cleanup",
        f"--include={','.join(packages(edition))}",
        "--dpkgopt=force-unsafe-io",
        *excluded,
        *(f"--{edition.hook}={hook}" for hook in hooks),
        SUITE,
        "/dev/null",
        *archive.sources,
    ]


def _end_with_parent() -> Callable[[], None]:
    """For preexec_fn: SIGTERM when the parent dies, upon which mmdebstrap cleans up."""
    parent = os.getpid()

    def prepare() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    return prepare


def _output(child: "subprocess.Popen[bytes]") -> Iterator[str]:
    """The lines that mmdebstrap and its children write, until it ended.

    Not until the pipe ended: what a killed mmdebstrap leaves behind would hold that open.
    """
    assert child.stdout is not None
    rest = b""
    while True:
        ended = child.poll() is not None
        if select.select([child.stdout], [], [], 0 if ended else POLL_SECONDS)[0]:
            data = os.read(child.stdout.fileno(), READ_BYTES)
            *lines, rest = (rest + data).split(b"\n")
            yield from (line.decode(errors="replace") + "\n" for line in lines)
            if data:
                continue
        if ended:
            return


def _stop(child: "subprocess.Popen[bytes]") -> None:
    """End mmdebstrap in order where it still runs, and whatever is left of its session."""
    if child.poll() is None:
        child.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(STOP_SECONDS)
    # Its children are other users inside their namespace; that namespace is ours to kill in.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    if child.stdout is not None:
        child.stdout.close()
