"""Attack: cut an `import --recovery` off, and look for a second chip with the key to the disk.

Promise: after an erase there is none, wherever it was cut off. After an interruption or an error
the old chip opens the disk with its password as before, or the error names the command that goes
on from there.
"""

import contextlib
import functools
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from spacegray.chip import manifest
from spacegray.chip.client import ChipClient
from spacegray.errors import SpacegrayError, StoppedError
from spacegray.nbd import NbdClient
from spacegray.progress import Silent
from spacegray.spec import Seal
from spacegray.workstation import board, create, hold, life, recovery, under_way, unlock
from spacegray.workstation.install import System
from spacegray.workstation.unlock import Answer, Given, Kind, Nobody, Owner, Standing
from tests.support import ssd
from tests.support.authority import EPOCH
from tests.support.bench import FILLED_BLOCKS, GENERATION, Bench, made
from tests.support.chip import SYSTEM
from tests.support.cut import Steps, cut
from tests.support.tpm import emulated_tpm
from tests.support.vaultd import secret

PASSWORD = b"correct horse"
STEPS: Steps = (
    (hold, "running_chip"),
    (recovery, "build"),
    (create, "destroy_chip"),
    (create, "note_chip"),
    (create, "note_system"),
    (ChipClient, "adopt_bundle"),
    (ChipClient, "check_disk"),
    (ChipClient, "close_disk"),
    (recovery, "install"),
    (recovery, "write_atomically"),
    (unlock, "attempt"),
    (manifest, "read"),
    (board, "exchange"),
    (under_way, "take_over"),
    (under_way, "set_aside"),
    (Path, "rename"),
    (os, "unlink"),
)
"""Whatever changes something on the way, or is a moment between two such."""


@dataclass(frozen=True)
class Typist:
    """An owner who knows the recovery key, and the passphrase or password."""

    recovery_key: Path

    def give(self, doing: str, kind: Kind, _: Standing, last: Answer | None) -> Given:
        """What is asked for, once."""
        if last is not None:
            raise SpacegrayError(doing, last.stopped_by, last.next_step)
        if kind == "recovery_key":
            return Given(kind, os.open(self.recovery_key, os.O_RDONLY))
        with secret(PASSWORD) as word:
            return Given(kind, os.dup(word))

    def new(self, doing: str, kind: Kind) -> Given:
        """The same word for all that is new."""
        return self.give(doing, kind, Standing(), None)


@dataclass(frozen=True)
class Locked:
    """A workstation with a password, a recovery key and a bundle, which lie beside its home."""

    bench: Bench
    kept: Path

    @property
    def owner(self) -> Typist:
        """Its owner."""
        return Typist(self.kept / "key")

    @property
    def bundle(self) -> Path:
        """Its recovery bundle."""
        return self.kept / "bundle"

    def copied(self, to: Path) -> "Locked":
        """A copy of the home; key and bundle are the same."""
        return Locked(self.bench.copied(to), self.kept)

    def import_(self, seal: Seal | None = None) -> None:
        """`import --recovery --yes`, without a system to install."""
        it = self.bench
        recovery.import_(
            it.paths, it.workstation, self.owner, self.bundle,
            mirror="none", seal=seal, replace=True, progress=Silent(),
        )  # fmt: skip

    def opens(self, owner: Owner | None = None) -> bool:
        """Whether its disk opens and has what was written."""
        it = self.bench
        with hold.chip(it.at, "reading", "being read", owner, wants="served") as chip:
            with NbdClient(chip.mailbox.open_disk("nbd")) as disk:
                found = [ssd.read(disk, block) for block in range(FILLED_BLOCKS)]
            chip.mailbox.close_disk()
        return found == [ssd.content(GENERATION, block) for block in range(FILLED_BLOCKS)]

    def alone(self) -> bool:
        """Whether there is no chip but its own."""
        state = self.bench.at.state_folder
        return [each.name for each in state.parent.glob("*pro*")] == [state.name]


def locked(home: Path, seal: Seal = "keyfile") -> Locked:
    """A new one in the new folder `home`."""
    it = Locked(made(home, seal=seal), home.parent)
    with hold.chip(it.bench.at, "locking", "being locked", wants="disk") as chip:
        with secret(PASSWORD) as word:
            chip.mailbox.set_password(word)
        reader, writer = os.pipe()
        with open(reader, "rb") as said, secret(PASSWORD) as word:
            chip.mailbox.make_recovery_key(writer, word)
            os.close(writer)
            it.owner.recovery_key.write_bytes(said.read())
    recovery.export(it.bench.workstation, it.owner, it.bundle, replace=False)
    return it


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Locked:
    """One that is never opened again."""
    return locked(tmp_path_factory.mktemp("cut") / "home")


@pytest.fixture(autouse=True)
def _no_system(monkeypatch: pytest.MonkeyPatch) -> None:
    """None is made and none is installed: that is `test_recovery.py`'s matter."""
    system = System(edition="tiny", root_hash=SYSTEM.hex(), kernel="6.12", epoch=EPOCH)
    monkeypatch.setattr(recovery, "build", lambda *_, **__: None)
    monkeypatch.setattr(recovery, "install", lambda *_, **__: system)


def put_back(folder: Path, copy: Path) -> None:
    """What somebody copied comes back in place of what there is."""
    shutil.rmtree(folder)
    subprocess.run(["cp", "-a", "--sparse=always", str(copy), str(folder)], check=True)


def nothing_opens(it: Locked, copy: Path) -> None:
    """Each state folder that is left, moved into place beside a copied workstation's folder."""
    at = it.bench.at
    left = [each for each in at.state_folder.parent.glob("*pro*") if each.is_dir()]
    aside = at.state_folder.parent / "aside"
    for each in left:
        if at.state_folder.exists():
            at.state_folder.rename(aside)
        (aside if each == at.state_folder else each).rename(at.state_folder)
        put_back(at.folder, copy)
        for owner in (Nobody(), it.owner):
            with contextlib.suppress(SpacegrayError):
                assert not it.opens(owner), f"{each.name} opens what was erased"
            with contextlib.suppress(SpacegrayError):
                recovery.accept(it.bench.workstation, it.owner)
        shutil.rmtree(aside, ignore_errors=True)


def killed_everywhere(first: Locked, folder: Path, then: Callable[[Locked, Path], object]) -> None:
    """`then` after a kill before each step of an import, each time on a copy of its own."""
    whole = first.copied(folder / "whole")
    steps = cut(whole.import_, STEPS, None)
    assert steps > len(STEPS)
    assert whole.opens()
    for number in range(1, steps + 1):
        it = first.copied(folder / "home")
        cut(it.import_, STEPS, number)
        then(it, folder)
        it.bench.remove()


@pytest.mark.parametrize("again", [False, True], ids=["erase", "restore"])
def test_wherever_it_was_killed_an_erase_reaches_every_chip(
    first: Locked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, again: bool
) -> None:
    monkeypatch.setattr(life, "build", lambda *_, **__: None)
    monkeypatch.setattr(life, "lay_anew", lambda *_, **__: None)

    def erase(it: Locked, folder: Path) -> None:
        at, copy = it.bench.at, folder / "copy"
        subprocess.run(["cp", "-a", "--sparse=always", str(at.folder), str(copy)], check=True)
        if again:
            life.restore(
                it.bench.paths, it.bench.workstation, it.owner,
                mirror="none", password_hash="none", progress=Silent(),
            )  # fmt: skip
        else:
            life.erase(it.bench.workstation)
        nothing_opens(it, copy)
        shutil.rmtree(copy)

    killed_everywhere(first, tmp_path, erase)


def test_wherever_it_was_killed_one_chip_opens_the_disk_or_the_bundle_does(
    first: Locked, tmp_path: Path
) -> None:
    """Once one has opened it, there is no other left that took its place."""
    seen = set()

    def judge(it: Locked, _: Path) -> None:
        try:
            assert it.opens(it.owner)
            seen.add("opened")
        except SpacegrayError:
            seen.add("bundle")
            it.import_()
            assert it.opens()
        assert not it.bench.at.beside("old").state_folder.exists()
        assert not it.bench.at.took_over.exists()

    killed_everywhere(first, tmp_path, judge)
    assert "opened" in seen


class Interrupted:
    """Ctrl-C before the step of a number, or right after it; each step comes once."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, number: int, *, after: bool, steps: Steps = STEPS
    ) -> None:
        self.steps = 0
        self._number, self._after = number, after
        for place, name in steps:
            monkeypatch.setattr(place, name, self._watched(getattr(place, name)))

    def _watched(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*words: Any, **named: Any) -> Any:
            self.steps += 1
            now = self.steps == self._number
            if now and not self._after:
                raise KeyboardInterrupt
            try:
                return function(*words, **named)
            finally:
                if now:
                    raise KeyboardInterrupt

        return call


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_wherever_it_is_interrupted_it_is_as_before_or_the_way_on_is_named(
    first: Locked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    with monkeypatch.context() as keys:
        counted = Interrupted(keys, 0, after=after)
        first.copied(tmp_path / "whole").import_()
    seen = set()
    for number in range(1, counted.steps + 1):
        it = first.copied(tmp_path / "home")
        with monkeypatch.context() as keys:
            Interrupted(keys, number, after=after)
            with pytest.raises((KeyboardInterrupt, StoppedError)) as caught:
                it.import_()
        # Interrupted while it let go; its process would have ended.
        it.bench.at.holder.unlink(missing_ok=True)
        seen.add(caught.type)
        if caught.type is StoppedError:
            assert f"`import --recovery pro {it.bundle} --yes`" in str(caught.value)
            it.import_()
            assert it.opens(), "there is no password any more"
        elif number < counted.steps:
            with pytest.raises(SpacegrayError, match="password"):
                it.opens()
            assert it.opens(it.owner)
        else:
            assert it.opens(), "all was done, and the workstation let go"
        assert it.alone()
        it.bench.remove()
    assert seen == {KeyboardInterrupt, StoppedError}


def test_an_installation_that_fails_leaves_the_new_chip_and_names_the_way_on(
    first: Locked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    it = first.copied(tmp_path / "home")

    def full(*_: object, **__: object) -> None:
        raise SpacegrayError("writing", "No space left on device", "make room")

    with monkeypatch.context() as while_full:
        while_full.setattr(recovery, "install", full)
        with pytest.raises(SpacegrayError, match=r"make room; .*`import --recovery pro .* --yes`"):
            it.import_()
    assert it.alone()
    assert it.opens()
    it.import_()
    assert it.opens()


def test_another_disks_bundle_leaves_the_old_chip_as_it_was(first: Locked, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other, it = locked(tmp_path / "other" / "home"), first.copied(tmp_path / "home")
    with pytest.raises(SpacegrayError) as caught:
        Locked(it.bench, other.kept).import_()
    assert "goes on from there" not in str(caught.value)
    assert it.alone()
    assert it.opens(it.owner)


def test_in_a_tpm_nothing_of_it_is_left_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed with the system half installed; and before anything says whose the disk is."""
    with emulated_tpm() as tpm:
        monkeypatch.setenv("SPACEGRAY_TPM", str(tpm.socket))
        for name in ("nothing", "install", "write_atomically"):
            folder = tmp_path / name
            folder.mkdir()
            it, copy = locked(folder / "home", "tpm2"), folder / "copy"
            if name == "nothing":
                life.erase(it.bench.workstation)
                erased = len(tpm.indices())
            else:
                cut(functools.partial(it.import_, "tpm2"), ((recovery, name),), 1)
                assert len(tpm.indices()) > erased
                shutil.copytree(it.bench.at.folder, copy)
                life.erase(it.bench.workstation)
                assert it.alone()
                assert len(tpm.indices()) == erased
                nothing_opens(it, copy)
            create.remove(it.bench.at)


def test_interrupted_in_a_tpm_the_way_on_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The TPM forgets the old chip when the new one is made, before the disk is taken over."""
    with emulated_tpm() as tpm:
        monkeypatch.setenv("SPACEGRAY_TPM", str(tpm.socket))
        it = locked(tmp_path / "home", "tpm2")
        for name in ("adopt_bundle", "check_disk", "close_disk"):
            with monkeypatch.context() as keys:
                Interrupted(keys, 1, after=True, steps=((ChipClient, name),))
                with pytest.raises(StoppedError, match=r"`import --recovery pro .* --yes`"):
                    it.import_("tpm2")
            it.import_("tpm2")
            assert it.opens()
        create.remove(it.bench.at)
        assert tpm.indices() == []


def test_what_an_erase_does_not_reach_is_said(
    first: Locked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new chip in a TPM that is not there any more; when it is back, all goes."""
    it = first.copied(tmp_path / "home")
    with emulated_tpm() as tpm:
        monkeypatch.setenv("SPACEGRAY_TPM", str(tpm.socket))
        cut(lambda: it.import_("tpm2"), ((recovery, "write_atomically"),), 1)
        new = it.bench.at.beside("new").state_folder
        assert new.exists()
        assert tpm.indices()
        with monkeypatch.context() as away:
            away.setenv("SPACEGRAY_TPM", str(tmp_path / "none"))
            with pytest.raises(SpacegrayError, match="but not those of the chip in") as caught:
                life.erase(it.bench.workstation)
            assert str(new) in str(caught.value)
            with pytest.raises(SpacegrayError):
                it.opens(it.owner)
        life.erase(it.bench.workstation)
        assert it.alone()
        assert tpm.indices() == []
