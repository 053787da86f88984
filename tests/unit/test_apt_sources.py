"""The mirror is the host's own Debian mirror; no third party's packages get into a system."""

from pathlib import Path

import pytest

from spacegray.apt_sources import debian_mirror, sources


def write(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


DEB822 = """\
# Types: deb
Types: deb deb-src
URIs: {uri}
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
"""


@pytest.mark.parametrize(
    "text",
    [
        DEB822.format(uri="http://mirror.example/debian/"),
        DEB822.format(uri="http://mirror.example/archive/20250520T000000Z").replace(
            "mirror.example/archive/20250520T000000Z", "mirror.example/debian"
        ),
        "Types: deb\nURIs:\n http://mirror.example/debian\nSuites:\n trixie\nComponents: main\n",
        "Enabled: no\n" + DEB822.format(uri="http://off.example/debian")
        + "\n" + DEB822.format(uri="http://mirror.example/debian"),
        "Types: deb-src\nURIs: http://src.example/debian\nSuites: trixie\nComponents: main\n\n"
        + DEB822.format(uri="ftp://old.example/debian http://mirror.example/debian"),
    ],
)  # fmt: skip
def test_the_mirror_of_a_deb822_file(tmp_path: Path, text: str) -> None:
    write(tmp_path, "etc/apt/sources.list.d/debian.sources", text)
    assert debian_mirror(tmp_path) == "http://mirror.example/debian"


def test_the_mirror_of_a_one_line_file(tmp_path: Path) -> None:
    write(
        tmp_path,
        "etc/apt/sources.list",
        "# deb http://commented.example/debian bookworm main\n"
        "deb cdrom:[Debian]/ bookworm main\n"
        "deb http://security.debian.org/debian-security bookworm-security main\n"
        "deb [ arch=amd64 signed-by=/k.gpg ] https://mirror.example/debian bookworm main # ours\n",
    )
    assert debian_mirror(tmp_path) == "https://mirror.example/debian"


@pytest.mark.parametrize(
    "line",
    [
        "deb https://packages.example.com/cloud cloud-sdk-bookworm main",
        "deb https://deb.torproject.example/torproject.org bookworm main",
        "deb https://download.docker.example/linux/debian bookworm stable",
        "deb https://packages.vendor.example/debian/12/prod bookworm main",
        "deb http://mirror.example/debian bookworm-backports main",
        "deb-src http://mirror.example/debian bookworm main",
        "deb",
        "",
    ],
)
def test_third_parties_and_partial_suites_are_no_mirror(tmp_path: Path, line: str) -> None:
    write(tmp_path, "etc/apt/sources.list.d/other.list", line + "\n")
    assert debian_mirror(tmp_path) is None


def test_what_the_archive_says_of_itself_counts_more_than_its_address(tmp_path: Path) -> None:
    for name, origin in (("fake.example", "Someone"), ("plain.example", "Debian")):
        write(tmp_path, f"etc/apt/sources.list.d/{name}.list", f"deb http://{name}/debian sid main")
        write(
            tmp_path,
            f"var/lib/apt/lists/{name}_debian_dists_sid_InRelease",
            f"-----BEGIN-----\nOrigin: {origin}\nLabel: {origin}\n",
        )
    assert debian_mirror(tmp_path) == "http://plain.example/debian"


def test_a_cloud_images_list_of_mirrors_is_followed(tmp_path: Path) -> None:
    write(
        tmp_path,
        "etc/apt/sources.list.d/debian.sources",
        DEB822.format(uri="mirror+file:///etc/apt/mirrors/debian.list"),
    )
    write(tmp_path, "etc/apt/mirrors/debian.list", "https://cdn.example/debian priority:1\n")
    assert debian_mirror(tmp_path) == "https://cdn.example/debian"


def test_disabled_and_foreign_files_are_not_read(tmp_path: Path) -> None:
    text = DEB822.format(uri="http://mirror.example/debian")
    write(tmp_path, "etc/apt/sources.list.d/debian.sources.disabled", text)
    assert list(sources(tmp_path)) == []
