"""Promise: each edition is complete and says what it is made of in one file."""

import subprocess
from pathlib import Path

import pytest

from spacegray.errors import UsageError
from spacegray.spec import EDITIONS
from spacegray.system import edition

SCRIPTS = sorted(
    path
    for path in edition.GUEST.rglob("*")
    if path.is_file()
    and (path.read_bytes().startswith(b"#!/bin/sh") or path.parent.name == "spacegray")
)


@pytest.mark.parametrize("name", EDITIONS)
def test_every_edition_that_can_be_ordered_exists(name: str) -> None:
    chosen = edition.load(name)
    assert (chosen.pick is None) != (chosen.prune is None)
    assert "linux-image-amd64" in chosen.packages
    assert all(tree.is_dir() for tree in edition.trees(chosen))
    assert chosen.packages == list(dict.fromkeys(chosen.packages))


@pytest.mark.parametrize("name", edition.INITRAMFS)
def test_every_archive_has_a_first_program_and_its_packages_are_built_in(name: str) -> None:
    chosen = edition.initramfs(name)
    assert (edition.GUEST / name / "root/init").read_bytes().startswith(b"#!/bin/sh")
    assert all((edition.GUEST / "common" / path).is_file() for path in chosen.shared)
    for each in EDITIONS:
        packages = edition.packages(edition.load(each))
        assert set(chosen.packages) <= set(packages)
        assert packages == list(dict.fromkeys(packages))


def test_an_unknown_edition_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match="choose one of base, tiny"):
        edition.load("huge")


def test_nothing_of_one_machine_is_in_base() -> None:
    prune = edition.load("base").prune or []
    for path in ("etc/ssh/ssh_host_*", "etc/machine-id", "etc/resolv.conf", "etc/hostname"):
        assert path in prune


def test_a_changed_name_or_content_changes_the_digest(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("one")
    seen = {edition.digest([tmp_path])}
    (tmp_path / "a").write_text("two")
    seen.add(edition.digest([tmp_path]))
    (tmp_path / "a").rename(tmp_path / "b")
    seen.add(edition.digest([tmp_path]))
    assert len(seen) == 3


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_guest_scripts_are_plain_shell(script: Path) -> None:
    subprocess.run(["/bin/sh", "-n", script], check=True)
    text = script.read_text()
    assert "[[" not in text.replace("[[:space:]]", "")
    assert "function " not in text
