"""The set-up for root and under sudo, in a user namespace where this is not root itself.

Nothing is installed here: see tests/support/checkout.py.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.checkout import RUN_SECONDS, Checkout, one_line

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
        "umask 077; mkdir own; cd own; "
        "echo 'cores = 8' >spec; echo word >word; echo phrase >other; "
        '"$RUN" up --spec spec --password-file=word --passphrase-file other --yes',
        CLI='for word; do case ${word#*=} in /dev/*) cat "${word#*=}" >>"$CALLS" ;; esac; done',
    )
    assert done.returncode == 0, done.stderr
    assert as_root.said()[-3:] == ["cores = 8", "word", "phrase"]


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
