"""Child processes: none outlives its parent, none dumps core, each has only what it was given."""

import contextlib
import ctypes
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from spacegray.confinement import Reach, confine

STOP_SECONDS = 5.0
"""How long a child may take to end after SIGTERM, before SIGKILL."""

_PR_SET_PDEATHSIG = 1
_KEPT_VARIABLES = (
    "PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "TMPDIR",
    "PYTHONPATH",
    "SPACEGRAY_HOME",
    "SPACEGRAY_VAULTD",
    "SPACEGRAY_SSDD",
    "SPACEGRAY_AUTHORITYD",
    "SPACEGRAY_TPM",
    "XDG_DATA_HOME",
    "XDG_STATE_HOME",
    "XDG_CACHE_HOME",
    "XDG_RUNTIME_DIR",
)
_libc = ctypes.CDLL(None, use_errno=True)


def minimal_environment() -> dict[str, str]:
    """The variables that children need, and no others of the user's."""
    return {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}


def python(module: str) -> list[str]:
    """The command that runs a module of ours as a program.

    Nothing is imported from the folder in which the user happens to be: anybody may have written
    a module there that is named as one of ours or of Python's.
    """
    return [sys.executable, "-P", "-m", module]


def child_setup(reach: Reach | None = None) -> Callable[[], None]:
    """What a child does between fork and exec, for `preexec_fn`.

    It dies with its parent, leaves no core and, where `reach` is given, is confined to it.
    The caller must have no other threads: it runs Python code after fork.
    """
    parent = os.getpid()

    def prepare() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if reach is not None:
            confine(reach)

    return prepare


def spawn(
    command: Sequence[str | Path],
    *,
    descriptors: Sequence[int] = (),
    reach: Reach | None = None,
    confines_itself: bool = False,
    environment: Mapping[str, str] | None = None,
    stdin: int = subprocess.DEVNULL,
    stdout: int | None = None,
    stderr: int | None = None,
    folder: Path | None = None,
) -> "subprocess.Popen[bytes]":
    """Start a child that keeps exactly `descriptors` beside its standard streams.

    One that `confines_itself` ends with its parent and dumps no core by its own doing; it starts
    sooner, as nothing of this process is copied for the sake of what is done before exec. Raises
    OSError when the program cannot be started.
    """
    return subprocess.Popen(
        [str(word) for word in command],
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        cwd=folder,
        pass_fds=tuple(descriptors),
        env=dict(environment) if environment is not None else minimal_environment(),
        preexec_fn=None if confines_itself else child_setup(reach),
        start_new_session=True,
    )


def stop(child: "subprocess.Popen[bytes]", *, timeout_seconds: float = STOP_SECONDS) -> int:
    """End a child: SIGTERM, then after `timeout_seconds` SIGKILL; returns its exit status."""
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            child.kill()
    return child.wait()


def identity(pid: int) -> str | None:
    """A process's unmistakable name: its number may be reused, number and start time not."""
    import psutil  # The chip starts sooner without it.

    with contextlib.suppress(psutil.Error):
        return f"{pid}@{psutil.Process(pid).create_time():.2f}"
    return None


def alive(identity_: str) -> bool:
    """Whether the process that once had this `identity` still runs (a zombie does not)."""
    pid, _, started = identity_.partition("@")
    import psutil

    with contextlib.suppress(psutil.Error, ValueError):
        process = psutil.Process(int(pid))
        return (
            f"{process.create_time():.2f}" == started and process.status() != psutil.STATUS_ZOMBIE
        )
    return False


def pid_of(identity_: str) -> int:
    """The number in an `identity`."""
    return int(identity_.partition("@")[0])


def boot_id() -> str:
    """This boot of the host (proc(5), random/boot_id)."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
