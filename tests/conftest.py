"""What the tests of the whole machine share: homes, the command line, a running workstation.

Every test runs as the user that the product runs as. System images are shared with that
user's own cache; everything else lies in a folder of its own that is removed afterwards.
"""

import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from spacegray.apt_sources import PUBLIC_MIRROR, debian_mirror
from spacegray.console import launch as consoles
from spacegray.paths import Paths
from spacegray.progress import Silent
from spacegray.system.build import SystemImage, build

# Who runs the tests in the background has had some signals ignored for all that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)
for _number in (signal.SIGQUIT, signal.SIGHUP):
    signal.signal(_number, signal.SIG_DFL)

ROOT = Path(__file__).parents[1]
PASSWORD = "correct-horse-7"
COMMAND_SECONDS = 900


@dataclass
class Cli:
    """Runs `./run` with a home of its own."""

    home: Path
    extra: dict[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "SPACEGRAY_HOME": str(self.home), **self.extra}

    @property
    def paths(self) -> Paths:
        return Paths.current(self.environment)

    def __call__(
        self, *words: str, check: bool = True, stdin: bytes = b"", seconds: float = COMMAND_SECONDS
    ) -> "subprocess.CompletedProcess[str]":
        """Run one command line to its end; with `check` it must succeed."""
        done = subprocess.run(
            [str(ROOT / "run"), *words],
            input=stdin.decode(),
            capture_output=True,
            text=True,
            env=self.environment,
            timeout=seconds,
            check=False,
        )
        if check:
            assert done.returncode == 0, f"{words}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done

    def popen(self, *words: str) -> "subprocess.Popen[str]":
        """Start a command line in the background, in a process group of its own."""
        return subprocess.Popen(
            [str(ROOT / "run"), *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=self.environment,
            start_new_session=True,
        )

    def show(self, name: str = "pro") -> dict[str, Any]:
        """`show --format json`."""
        facts: dict[str, Any] = json.loads(self("show", name, "--format", "json").stdout)
        return facts

    def shell(
        self, *words: str, name: str = "pro", check: bool = True
    ) -> "subprocess.CompletedProcess[str]":
        """A command in the guest."""
        return self("shell", name, "--", *words, check=check)

    def events(self, name: str = "pro") -> list[dict[str, Any]]:
        """The event log."""
        output = self("logs", name, "--format", "json").stdout
        return [json.loads(line) for line in output.splitlines()]


@dataclass
class Running:
    """A workstation that was started once for several tests."""

    cli: Cli
    name: str
    password: str


def own_cache() -> Path:
    """The user's own cache, whatever home is set: in it no system is built twice."""
    cache = Paths.current({k: v for k, v in os.environ.items() if k != "SPACEGRAY_HOME"}).cache
    cache.mkdir(parents=True, exist_ok=True)
    return cache


def make_home(prefix: str) -> Path:
    """A home whose system images are the user's own cache."""
    home = Path(tempfile.mkdtemp(prefix=f"spacegray-{prefix}-"))
    (home / "cache").symlink_to(own_cache())
    return home


def remove_home(cli: Cli) -> None:
    """Switch off and remove all of it."""
    for folder in (cli.home / "workstations").glob("*/installed.json"):
        cli("delete", folder.parent.name, "--yes", check=False)
    consoles.stop(cli.paths)
    shutil.rmtree(cli.home)


@pytest.fixture
def cli() -> Iterator[Cli]:
    """The command line with an empty home."""
    cli = Cli(make_home("test"))
    yield cli
    remove_home(cli)


@pytest.fixture(scope="session")
def shared_cli() -> Iterator[Cli]:
    """The command line with a home shared by the tests that change nothing for each other."""
    cli = Cli(make_home("shared"))
    yield cli
    remove_home(cli)


@pytest.fixture(scope="session")
def tiny() -> SystemImage:
    """The tiny edition's system."""
    mirror = debian_mirror() or PUBLIC_MIRROR
    return build("tiny", mirror=mirror, cache=own_cache(), progress=Silent())


@pytest.fixture(scope="session")
def created(shared_cli: Cli) -> Running:
    """A tiny workstation, created from the command line; off or on, as the last test left it."""
    create(shared_cli)
    return Running(shared_cli, "pro", PASSWORD)


def create(cli: Cli) -> None:
    """Create the tiny workstation `pro`."""
    cli(
        "create", "pro", "--edition", "tiny", "--yes", "--password-file", "-",
        stdin=PASSWORD.encode(),
    )  # fmt: skip


@pytest.fixture
def workstation(created: Running, request: pytest.FixtureRequest) -> Running:
    """A running tiny workstation; another one where a test that failed has broken it."""
    failed = request.session.testsfailed > 0
    done = created.cli("start", created.name, check=not failed)
    if done.returncode != 0:
        created.cli("delete", created.name, "--yes")
        create(created.cli)
        created.cli("start", created.name)
    return created


@pytest.fixture
def powered_off(created: Running) -> Running:
    """A tiny workstation that is off."""
    created.cli("stop", created.name)
    return created


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Name what could not be tested here, with the reason, and count it."""
    skipped = terminalreporter.stats.get("skipped", [])
    if skipped:
        terminalreporter.section(f"not tested on this machine: {len(skipped)}")
        for report in skipped:
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
            terminalreporter.line(f"{report.nodeid}: {reason}")
