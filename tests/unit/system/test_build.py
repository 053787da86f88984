"""Promise: a build is all or nothing, cleans up after killed ones, and is reused while current."""

import dataclasses
import json
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from spacegray.errors import SpacegrayError
from spacegray.system import archive, build, debootstrap, edition, kernel_image, verity
from spacegray.system.image import SystemImage

ARCHIVE = archive.Archive(("deb http://mirror trixie main",), archive.digest(["x"]), 1_700_000_000)
MIRROR = "http://mirror"


class Watcher:
    """Progress that remembers."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.steps: list[int] = []

    def step(self, label: str, done: int, total: int) -> None:
        self.steps.append(done)
        assert done <= total

    def note(self, text: str) -> None:
        self.notes.append(text)


class Packer:
    """Stands in for mmdebstrap: writes the results, or fails, and counts its calls."""

    def __init__(self) -> None:
        self.calls = 0
        self.fails: BaseException | None = None
        self.before: Callable[[], None] = lambda: None

    def __call__(
        self, chosen: edition.Edition, current: archive.Archive, staged: Path, results: Path,
        chroots: Path, on_stage: Callable[[int], None],
    ) -> None:  # fmt: skip
        self.calls += 1
        self.before()
        assert json.loads((staged / "recipe.json").read_text())["edition"] == chosen.name
        assert (staged / "lib/spacegray/system/inside/pack.py").is_file()
        (chroots / "mmdebstrap.half").mkdir()
        (results / "build.log").write_text("E: it broke\n")
        if self.fails is not None:
            raise self.fails
        on_stage(0)
        (results / "system.erofs").write_bytes(os.urandom(8192))
        for name in ("initramfs", "recovery", "vmlinuz", "stub", "os-release"):
            (results / name).write_bytes(b"x")
        facts = {"kernel_release": "6.12", "packages": {"a": "1"}, "releases": ["x"]}
        (results / "facts.json").write_text(json.dumps(facts))


@pytest.fixture
def packer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Packer:
    packer = Packer()

    def seal(volume: Path, tree: Path) -> verity.Seal:
        tree.write_bytes(b"t" * 4096)
        return verity.Seal(2, "ab" * 32, "cd" * 32)

    def remove(folder: Path) -> None:
        shutil.rmtree(folder)

    monkeypatch.setattr(archive, "look", lambda mirror, note: ARCHIVE)
    monkeypatch.setattr(build, "tool_versions", lambda: {"mmdebstrap": "1"})
    monkeypatch.setattr(debootstrap, "run", packer)
    monkeypatch.setattr(debootstrap, "remove_chroots", remove)
    monkeypatch.setattr(kernel_image, "assemble", lambda stub, sections: b"uki")
    monkeypatch.setattr(verity, "seal", seal)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return packer


def make(tmp_path: Path, watcher: Watcher | None = None, name: str = "tiny") -> SystemImage:
    return build.build(name, mirror=MIRROR, cache=tmp_path / "cache", progress=watcher or Watcher())


def leftovers(tmp_path: Path) -> list[str]:
    systems = tmp_path / "cache" / "systems"
    hidden = [path.name for path in systems.iterdir() if path.name.startswith(".building")]
    return hidden + [path.name for path in tmp_path.glob(f"{debootstrap.CHROOT_PREFIX}*")]


def test_a_second_build_uses_the_first_ones_result(packer: Packer, tmp_path: Path) -> None:
    one = make(tmp_path)
    two = make(tmp_path)
    assert packer.calls == 1
    assert one == two
    assert f"spacegray.system=2,{one.root_hash}," in one.manifest.command_line
    assert not leftovers(tmp_path)


def test_every_input_is_part_of_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = edition.load("tiny")
    tools = {"mmdebstrap": "1"}
    keys = [build.cache_key(tiny, ARCHIVE, tools)]
    keys.append(build.cache_key(edition.load("base"), ARCHIVE, tools))
    keys.append(build.cache_key(tiny, dataclasses.replace(ARCHIVE, digest="other"), tools))
    keys.append(build.cache_key(tiny, dataclasses.replace(ARCHIVE, epoch_seconds=1), tools))
    keys.append(build.cache_key(tiny, ARCHIVE, {"mmdebstrap": "2"}))
    monkeypatch.setattr(edition, "digest", lambda folders: "changed guest file")
    keys.append(build.cache_key(tiny, ARCHIVE, tools))
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), debootstrap.BuildFailedError("E: x")])
def test_a_build_that_ends_early_leaves_nothing_and_a_second_try_works(
    packer: Packer, tmp_path: Path, error: BaseException
) -> None:
    packer.fails = error
    with pytest.raises((KeyboardInterrupt, SpacegrayError)):
        make(tmp_path)
    assert not leftovers(tmp_path)
    packer.fails = None
    assert make(tmp_path).system.is_file()


def test_a_failed_build_keeps_its_report(packer: Packer, tmp_path: Path) -> None:
    packer.fails = debootstrap.BuildFailedError("E: it broke")
    with pytest.raises(SpacegrayError, match=r"building the system tiny: E: it broke; the whole"):
        make(tmp_path)
    assert "it broke" in (tmp_path / "cache/systems/failed-tiny.log").read_text()


def test_what_a_killed_build_left_is_removed_with_its_chroot(
    packer: Packer, tmp_path: Path
) -> None:
    work = tmp_path / "cache/systems/.building-old"
    work.mkdir(parents=True)
    chroots = tmp_path / f"{debootstrap.CHROOT_PREFIX}old"
    (chroots / "mmdebstrap.half").mkdir(parents=True)
    os.utime(chroots, (0, 0))
    make(tmp_path)
    assert not leftovers(tmp_path)


def test_without_the_archive_an_older_image_serves_with_a_note(
    packer: Packer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = make(tmp_path)

    def unreachable(mirror: str, note: Any) -> archive.Archive:
        raise archive.UnreachableError("no route to host")

    monkeypatch.setattr(archive, "look", unreachable)
    watcher = Watcher()
    assert make(tmp_path, watcher) == built
    assert "no route to host" in watcher.notes[0]
    with pytest.raises(SpacegrayError, match=r"--mirror"):
        make(tmp_path, name="base")


def test_a_damaged_cached_image_is_built_again(packer: Packer, tmp_path: Path) -> None:
    built = make(tmp_path)
    built.system.write_bytes(b"short")
    assert make(tmp_path).system.stat().st_size == 8192
    assert packer.calls == 2


def test_two_builders_build_once(packer: Packer, tmp_path: Path) -> None:
    waits = threading.Event()

    class Second(Watcher):
        def note(self, text: str) -> None:
            super().note(text)
            waits.set()

    second = Second()
    results: list[SystemImage] = []
    thread = threading.Thread(target=lambda: results.append(make(tmp_path, second)))

    def start_second() -> None:
        thread.start()
        assert waits.wait(30), "the second builder did not wait"

    packer.before = start_second
    results.append(make(tmp_path))
    thread.join(30)
    assert packer.calls == 1
    assert results[0] == results[1]
    assert "another build" in second.notes[0]


def test_the_key_names_what_the_build_really_used(
    packer: Packer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stale = dataclasses.replace(ARCHIVE, digest="an hour ago")
    monkeypatch.setattr(archive, "look", lambda mirror, note: stale)
    assert make(tmp_path).manifest.key == build.cache_key(
        edition.load("tiny"), ARCHIVE, {"mmdebstrap": "1"}
    )


def test_program_files_edited_during_a_build_do_not_get_its_result(
    packer: Packer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once seen: the result of the old files was stored under the key of the new ones."""
    before = build.cache_key(edition.load("tiny"), ARCHIVE, {"mmdebstrap": "1"})
    packer.before = lambda: monkeypatch.setattr(edition, "digest", lambda folders: "edited")
    assert make(tmp_path).manifest.key == before
    packer.before = lambda: None
    make(tmp_path)
    assert packer.calls == 2


def test_old_images_go_the_newest_two_stay(
    packer: Packer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4):
        tools = {"mmdebstrap": str(number)}
        monkeypatch.setattr(build, "tool_versions", lambda tools=tools: tools)
        built = make(tmp_path)
        os.utime(built.folder, (number, number))
    assert len(list((tmp_path / "cache/systems").glob("*/manifest.json"))) == build.KEPT_IMAGES


def test_a_missing_tool_is_named_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name, path: None)
    with pytest.raises(SpacegrayError, match="apt install cryptsetup-bin erofs-utils mmdebstrap"):
        build.tool_versions()
