"""Promise: a cached system is used exactly as long as the archive's packages are the same."""

from pathlib import Path

import pytest

from spacegray.system import archive

SUITES = ("trixie", "trixie-updates", "trixie-security")


def release(checksum: str, date: str = "Sat, 12 Sep 2026 07:55:41 UTC") -> str:
    return (
        f"-----BEGIN PGP SIGNED MESSAGE-----\nDate: {date}\nSHA256:\n"
        f" {checksum * 64} 56620099 main/binary-amd64/Packages\n"
    )


@pytest.fixture
def mirror(tmp_path: Path) -> str:
    for number, suite in enumerate(SUITES):
        base = tmp_path / ("debian-security" if suite.endswith("security") else "debian")
        (base / "dists" / suite).mkdir(parents=True)
        (base / "dists" / suite / "InRelease").write_text(release(str(number)))
    return f"file://{tmp_path}/debian"


def test_all_suites_are_asked_and_the_first_gives_the_date(mirror: str) -> None:
    notes: list[str] = []
    found = archive.look(mirror + "/", notes.append)
    assert [source.split()[2] for source in found.sources] == list(SUITES)
    assert found.epoch_seconds == 1789199741
    assert not notes


def test_another_date_alone_changes_nothing_another_package_list_does() -> None:
    one = archive.digest([release("a"), release("b")])
    assert one == archive.digest([release("b", "Mon, 01 Jan 2024 00:00:00 UTC"), release("a")])
    assert one != archive.digest([release("a"), release("c")])


def test_a_missing_security_suite_is_said_and_left_out(mirror: str, tmp_path: Path) -> None:
    (tmp_path / "debian-security/dists/trixie-security/InRelease").unlink()
    notes: list[str] = []
    found = archive.look(mirror, notes.append)
    assert len(found.sources) == 2
    assert len(notes) == 1
    assert "trixie-security" in notes[0]


@pytest.mark.parametrize("content", [None, "", "<html>captive portal</html>"])
def test_no_main_suite_means_unreachable(mirror: str, tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "debian/dists/trixie/InRelease"
    path.unlink()
    if content is not None:
        path.write_text(content)
    with pytest.raises(archive.UnreachableError):
        archive.look(mirror, lambda _: None)


def test_other_kinds_of_address_are_not_opened() -> None:
    with pytest.raises(archive.UnreachableError, match="no http"):
        archive.look("ftp://example.org/debian", lambda _: None)
