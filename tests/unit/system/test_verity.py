"""Promise: the root hash covers every block of the system, and the same system has the same."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from spacegray.system import verity

SBIN = "/usr/sbin:/sbin"
VERITYSETUP = shutil.which("veritysetup", path=f"{os.environ.get('PATH', '')}:{SBIN}")

pytestmark = pytest.mark.skipif(VERITYSETUP is None, reason="cryptsetup-bin is not installed")


@pytest.fixture(autouse=True)
def _path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{os.environ.get('PATH', '')}:{SBIN}")


def check(volume: Path, tree: Path, seal: verity.Seal) -> int:
    """veritysetup's own verification of all blocks."""
    return subprocess.run(
        [
            str(VERITYSETUP), "verify", "--no-superblock", "--hash=sha256", f"--salt={seal.salt}",
            "--data-block-size=4096", "--hash-block-size=4096", f"--data-blocks={seal.blocks}",
            str(volume), str(tree), seal.root_hash,
        ],
        capture_output=True, check=False,
    ).returncode  # fmt: skip


def test_one_changed_byte_is_noticed_wherever_it_is(tmp_path: Path) -> None:
    volume, tree = tmp_path / "volume", tmp_path / "tree"
    content = os.urandom(300 * 4096)
    volume.write_bytes(content)
    seal = verity.seal(volume, tree)
    assert check(volume, tree, seal) == 0
    for place in (0, 150 * 4096 + 7, len(content) - 1):
        changed = bytearray(content)
        changed[place] ^= 1
        volume.write_bytes(changed)
        assert check(volume, tree, seal) != 0


def test_the_seal_depends_on_the_content_alone(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_bytes(b"a" * 8192)
    two.write_bytes(b"a" * 8192)
    first = verity.seal(one, tmp_path / "tree1")
    assert first == verity.seal(two, tmp_path / "tree2")
    assert first.parameter == f"spacegray.system=2,{first.root_hash},{first.salt}"


def test_a_volume_of_broken_blocks_is_refused(tmp_path: Path) -> None:
    (tmp_path / "v").write_bytes(b"x" * 5000)
    with pytest.raises(ValueError, match="whole blocks"):
        verity.seal(tmp_path / "v", tmp_path / "t")
