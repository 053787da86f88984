"""The set-up itself: what `./run` does for an ordinary user before there is anything to run.

Nothing is installed here: see tests/support/checkout.py. Root's way is in test_set_up_root.py.
"""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.checkout import FAST_SECONDS, RUN_SECONDS, SOURCES, Checkout, one_line


@pytest.fixture
def checkout() -> Iterator[Checkout]:
    folder = Path(tempfile.mkdtemp(prefix="spacegray-set-up-"))
    folder.chmod(0o755)
    yield Checkout(folder)
    shutil.rmtree(folder)


# What is done, and what is not done again


def test_each_step_is_done_once_and_said(checkout: Checkout):
    done = checkout("run", "list")
    assert done.returncode == 0, done.stderr
    assert checkout.calls() == ["pip", "cargo", "npm ci", "npm build", "cli list"]
    assert [line.split()[0] for line in done.stderr.splitlines()] == [
        "Installing", "Building", "Building",
    ]  # fmt: skip
    done = checkout("run", "list")
    assert checkout.calls() == ["cli list"]
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("changed", "again"),
    [
        ("src/spacegray/cli/__main__.py", []),
        ("setup/steps.sh", []),
        ("pyproject.toml", ["pip"]),
        ("silicon/Cargo.toml", ["cargo"]),
        ("web/src/main.ts", ["npm build"]),
        ("web/package-lock.json", ["npm ci", "npm build"]),
    ],
)
def test_a_change_repeats_only_what_depends_on_it(
    checkout: Checkout, changed: str, again: list[str]
):
    checkout.set_up()
    with (checkout.folder / changed).open("a") as file:
        file.write("# changed\n")
    assert checkout("run", "list").returncode == 0
    assert checkout.calls() == [*again, "cli list"]
    checkout("run", "list")
    assert checkout.calls() == ["cli list"]


def test_a_touched_file_repeats_nothing(checkout: Checkout):
    checkout.set_up()
    for name in SOURCES:
        (checkout.folder / name).touch()
    checkout("run", "list")
    assert checkout.calls() == ["cli list"]


def test_what_the_tests_set_up_is_enough_to_run(checkout: Checkout):
    # What it downloads lies where it runs.
    done = checkout("test", "tests/unit", APT="[[ $* != *download* ]] || : >loader.deb")
    assert done.returncode == 0, done.stderr
    calls = checkout.calls()
    apt = [call for call in calls if call.startswith("apt-get")]
    assert [call.split()[-1] for call in apt] == ["update", "grub-efi-amd64-signed"]
    kept = [call for call in calls if call not in apt]
    unpacked = ["dpkg-deb --extract"]
    assert kept == ["pip", "cargo", "npm ci", "npm build", *unpacked, "pytest"]
    checkout("run", "list")
    assert checkout.calls() == ["cli list"]


def test_a_moved_checkout_is_set_up_again(checkout: Checkout):
    checkout.set_up()
    moved = checkout.folder.with_name("moved")
    checkout.folder.rename(moved)
    checkout.folder = moved
    checkout.environment["CHECKOUT"] = str(moved)
    checkout("run", "list")
    assert checkout.calls() == ["pip", "cli list"]


def test_nothing_to_do_takes_no_time(checkout: Checkout):
    checkout.set_up()

    def once() -> float:
        before = time.monotonic()
        checkout("run", "list")
        return time.monotonic() - before

    assert min(once() for _ in range(10)) < FAST_SECONDS


# From where, and with which words


def test_words_and_exit_status_are_passed_on(checkout: Checkout):
    checkout.set_up()
    done = checkout("run", "shell", "pro", "--", "a  b", CLI="exit 7")
    assert done.returncode == 7
    assert checkout.calls() == ["cli shell pro -- a  b"]


def test_a_link_to_run_and_any_folder_will_do(checkout: Checkout):
    checkout.set_up()
    link = checkout.folder.parent / "spacegray"
    link.symlink_to(checkout.folder / "run")
    done = subprocess.run(
        [*checkout.before, str(link), "list"],
        env={**checkout.environment, "CDPATH": "/:/tmp"},
        cwd="/",
        check=False,
    )
    assert done.returncode == 0
    assert checkout.calls() == ["cli list"]


def test_neither_home_nor_path_is_needed(checkout: Checkout):
    checkout.set_up()
    done = subprocess.run(
        [*checkout.before, "/bin/bash", str(checkout.folder / "run"), "list"],
        env={key: checkout.environment[key] for key in ("CALLS", "CHECKOUT")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert checkout.calls() == ["cli list"]


def test_a_checkout_that_is_set_up_may_be_read_only(checkout: Checkout):
    checkout.set_up()
    with read_only(checkout):
        assert checkout("run", "list").returncode == 0
    assert checkout.calls() == ["cli list"]


# What cannot be had


class read_only:  # noqa: N801  # reads as a word of the test
    """The checkout's folders, not to be written to meanwhile."""

    def __init__(self, checkout: Checkout) -> None:
        self.folders = [checkout.folder, checkout.folder / ".build"]

    def __enter__(self) -> None:
        for folder in self.folders:
            folder.chmod(0o555)

    def __exit__(self, *_: object) -> None:
        for folder in self.folders:
            folder.chmod(0o755)


def test_a_read_only_checkout_is_one_line(checkout: Checkout):
    with read_only(checkout):
        line = one_line(checkout("run", "list"))
    assert "cannot write there (Permission denied); use a checkout of your own" in line
    assert checkout.calls() == []


def test_missing_packages_without_root_are_named(checkout: Checkout):
    checkout.remove("mmdebstrap", "sudo")
    line = one_line(checkout("run", "list"))
    assert "only root can install them; as root: apt-get install" in line
    assert line.endswith(" mmdebstrap")
    assert checkout.calls() == []


def test_a_password_is_not_asked_where_nobody_is(checkout: Checkout):
    checkout.remove("mmdebstrap")
    line = one_line(checkout("run", "list", SUDO="exit 1"))
    assert "only root can install them" in line
    assert checkout.calls() == ["sudo -n"]


def test_packages_are_named_before_they_are_installed(checkout: Checkout):
    checkout.remove("mmdebstrap", "mcopy")
    tools = checkout.tools
    done = checkout(
        "run", "list", APT=f'case "$*" in *" install "*) ln -s /bin/true "{tools}/mcopy" ;; esac'
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[1] == "Installing system packages: mmdebstrap mtools"
    calls = checkout.calls()
    assert "apt-get -q -y -o DPkg::Lock::Timeout=120 update" in calls
    assert calls[-1] == "cli list"


def test_no_apt_is_one_line(checkout: Checkout):
    checkout.remove("mmdebstrap", "apt-get")
    line = one_line(checkout("run", "list"))
    assert "neither Debian nor Ubuntu" in line
    assert line.endswith("install the like of: mmdebstrap")


@pytest.mark.parametrize("rust", ["1.84.1", ""])
def test_no_rust_and_no_way_to_one_is_one_line(checkout: Checkout, rust: str):
    if not rust:
        checkout.remove("rustc", "cargo")
    hide = {"HOME": str(checkout.home)}
    if any(Path("/usr/lib").glob("rust-*/bin/rustc")):
        pytest.skip("this machine has a Rust of Debian's or Ubuntu's under /usr/lib")
    line = one_line(checkout("run", "list", RUST=rust, **hide))
    assert "no Rust 1.85 or newer, and no package with one; install it (https://rustup.rs)" in line


def test_rust_is_taken_from_where_the_system_has_one(checkout: Checkout):
    if any(Path("/usr/lib").glob("rust-*/bin/rustc")):
        pytest.skip("this machine has a Rust of Debian's or Ubuntu's under /usr/lib")
    done = checkout(
        "run", "list", RUST="1.75.0", APT_CACHE="""
        case "$*" in
        "policy rustc") echo "  Candidate: 1.75.0+dfsg0" ;;
        *pkgnames*) printf 'rustc-1.%s\\n' 74 89 85 89-doc ;;
        "policy "*-1.89) echo "  Candidate: 1.89.0+dfsg-0ubuntu" ;;
        esac""",
    )  # fmt: skip
    assert "Installing system packages: cargo-1.89 rustc-1.89" in done.stderr


def test_no_network_for_packages_is_one_line(checkout: Checkout):
    checkout.remove("mmdebstrap")
    line = one_line(
        checkout(
            "run",
            "list",
            APT="echo \"E: Temporary failure resolving 'deb.debian.org'\"; exit 100",
        )
    )
    assert "Temporary failure resolving 'deb.debian.org'; " in line


def test_no_network_for_python_is_one_line_and_the_next_try_begins_anew(checkout: Checkout):
    line = one_line(
        checkout("run", "list", PIP="echo 'Failed to establish a new connection'; exit 1")
    )
    assert "connect this host to the network" in line
    # A broken-off installation is not built upon: this makes the environment from the beginning,
    # with the real Python, which then finds no package index.
    done = checkout("run", "list", PIP_INDEX_URL="http://127.0.0.1:9/", PIP_RETRIES="1")
    assert "Making the Python environment" in done.stderr
    assert "connect this host to the network" in one_line(done)


def test_a_full_disk_is_named(checkout: Checkout):
    line = one_line(
        checkout("run", "list", CARGO="echo 'error: No space left on device'; exit 101")
    )
    assert line.startswith("spacegray: building the Rust programs: the disk is full; see ")
    checkout.calls()
    assert checkout("run", "list").returncode == 0
    assert checkout.calls() == ["cargo", "npm ci", "npm build", "cli list"]


# Broken off, and two at once


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + RUN_SECONDS
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_ctrl_c_leaves_nothing_that_the_next_try_trips_over(checkout: Checkout):
    reached = checkout.home / "reached"
    first = checkout.popen("run", "list", CARGO=f"touch '{reached}'; exec sleep 600")
    wait_for(reached)
    os.killpg(first.pid, signal.SIGINT)
    first.communicate(timeout=RUN_SECONDS)
    assert first.returncode != 0
    assert checkout.calls() == ["pip", "cargo"]
    assert checkout("run", "list").returncode == 0
    assert checkout.calls() == ["cargo", "npm ci", "npm build", "cli list"]


def test_two_at_once_take_turns(checkout: Checkout):
    reached, gate = checkout.home / "reached", checkout.home / "gate"
    first = checkout.popen("run", "list", CARGO=f"touch '{reached}'; cat '{gate}'")
    os.mkfifo(gate)
    wait_for(reached)
    second = checkout.popen("run", "show")
    assert second.stderr is not None
    assert second.stderr.readline().startswith("Waiting for another set-up")
    gate.write_text("go on")
    for process in (first, second):
        process.communicate(timeout=RUN_SECONDS)
        assert process.returncode == 0
    calls = checkout.calls()
    assert sorted(calls) == ["cargo", "cli list", "cli show", "npm build", "npm ci", "pip"]
