"""The host's package sources: which Debian mirror does this host use itself.

Reads both of apt's formats (sources.list(5)). Third parties also serve suites called
`bookworm` with a component `main`, so a source counts as Debian's by what its own downloaded
Release file says, and without one by its key ring or its address.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

PUBLIC_MIRROR: Final = "http://deb.debian.org/debian"
SOURCE_LIMIT_BYTES: Final = 1024 * 1024

_ONE_LINE = re.compile(r"deb\s+(?:\[(?P<options>[^]]*)\]\s*)?(?P<uri>\S+)\s+(?P<rest>\S+\s.*)")
_SUITE = re.compile(r"[a-z]+")
"""A release's name or class; updates, security, backports and third parties have more in it."""


@dataclass(frozen=True)
class Source:
    """One binary-package source: a URI with one suite of it."""

    uri: str
    suite: str
    components: tuple[str, ...]
    signed_by: str


def debian_mirror(root: Path = Path("/")) -> str | None:
    """The first mirror of the Debian main archive among the sources under `root`, if any."""
    for source in sources(root):
        if "main" in source.components and _SUITE.fullmatch(source.suite):
            for uri in _plain(source.uri, root):
                if _serves_debian(source, uri, root):
                    return uri.rstrip("/")
    return None


def sources(root: Path = Path("/")) -> Iterator[Source]:
    """All enabled binary-package sources under `root`, in apt's order."""
    folder = root / "etc/apt"
    for path in [folder / "sources.list", *sorted((folder / "sources.list.d").glob("*"))]:
        text = _read(path)
        if path.suffix == ".list":
            yield from _one_line_format(text)
        elif path.suffix == ".sources":
            yield from _deb822(text)


def _one_line_format(text: str) -> Iterator[Source]:
    for line in text.splitlines():
        if found := _ONE_LINE.match(line.split("#")[0].strip()):
            suite, *components = found["rest"].split()
            options = dict(
                option.partition("=")[::2] for option in (found["options"] or "").split()
            )
            yield Source(found["uri"], suite, tuple(components), options.get("signed-by", ""))


def _deb822(text: str) -> Iterator[Source]:
    for stanza in re.split(r"\n[ \t]*\n", text):
        fields = _fields(stanza)
        types = fields.get("types", "").split()
        if "deb" not in types or fields.get("enabled", "yes").lower() in ("no", "false", "0"):
            continue
        components = tuple(fields.get("components", "").split())
        for uri in fields.get("uris", "").split():
            for suite in fields.get("suites", "").split():
                yield Source(uri, suite, components, fields.get("signed-by", ""))


def _fields(stanza: str) -> dict[str, str]:
    """The fields of one deb822 stanza, names in lower case, continuation lines joined."""
    fields: dict[str, str] = {}
    name = ""
    for line in stanza.splitlines():
        if line.startswith("#"):
            continue
        if line[:1] in (" ", "\t"):
            if name:
                fields[name] += " " + line.strip()
        elif ":" in line:
            name, _, value = line.partition(":")
            name = name.strip().lower()
            fields[name] = value.strip()
    return fields


def _plain(uri: str, root: Path) -> list[str]:
    """The http(s) addresses behind `uri`; Debian's cloud images name a file with a list."""
    if uri.startswith("mirror+file:"):
        listed = _read(root / uri.removeprefix("mirror+file:").lstrip("/"))
        first_words = (line.split()[0] for line in listed.splitlines() if line.strip())
        return [word for word in first_words if _is_http(word)]
    return [uri] if _is_http(uri) else []


def _is_http(uri: str) -> bool:
    return uri.startswith(("http://", "https://"))


def _serves_debian(source: Source, uri: str, root: Path) -> bool:
    release = _release(source.suite, uri, root)
    if release:
        return "\nOrigin: Debian\n" in release and "\nLabel: Debian\n" in release
    address = urlsplit(uri)
    return (
        "debian-archive" in source.signed_by
        or (address.hostname or "").endswith("debian.org")
        or address.path.rstrip("/").endswith("/debian")
    )


def _release(suite: str, uri: str, root: Path) -> str:
    """What apt downloaded of that suite's Release file, or nothing."""
    address = urlsplit(uri)
    where = f"{address.netloc}{address.path}".rstrip("/").replace("_", "%5f").replace("/", "_")
    for kind in ("InRelease", "Release"):
        if text := _read(root / f"var/lib/apt/lists/{where}_dists_{suite}_{kind}"):
            return "\n" + text
    return ""


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(SOURCE_LIMIT_BYTES).decode(errors="replace")
    except OSError:
        return ""
