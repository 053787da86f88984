"""The package archive: which suites are used, and what state they are in now.

The state (digest of the package lists, date) decides whether a cached image is still current. It
is not trusted for anything else: apt checks the archive's signatures itself during the build.
"""

import hashlib
import re
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Final

from spacegray.errors import SpacegrayError

SUITE: Final = "trixie"
FETCH_SECONDS: Final = 20
RELEASE_LIMIT_BYTES: Final = 2_000_000
LISTS: Final = re.compile(r"^ ([0-9a-f]{64}) +[0-9]+ (main/binary-(?:amd64|all)/Packages)$", re.M)
DATE: Final = re.compile(r"^Date: (.+)$", re.M)


class UnreachableError(Exception):
    """The archive gave no answer that can be used."""


@dataclass(frozen=True)
class Suite:
    """One suite of the archive; an optional one may be missing on a mirror."""

    mirror: str
    name: str
    optional: bool = False

    @property
    def source(self) -> str:
        return f"deb {self.mirror} {self.name} main"

    @property
    def release_url(self) -> str:
        return f"{self.mirror}/dists/{self.name}/InRelease"


@dataclass(frozen=True)
class Archive:
    """The suites that answered, what their package lists are, and the main suite's date."""

    sources: tuple[str, ...]
    digest: str
    epoch_seconds: int


def suites(mirror: str) -> list[Suite]:
    """The suites of Debian 13 on `mirror`; security updates lie beside the main archive."""
    mirror = mirror.rstrip("/")
    return [
        Suite(mirror, SUITE),
        Suite(mirror, f"{SUITE}-updates", optional=True),
        Suite(f"{mirror}-security", f"{SUITE}-security", optional=True),
    ]


def look(mirror: str, note: Callable[[str], None]) -> Archive:
    """Ask each suite of `mirror` for its state.

    A suite that is not there is told by `note` and left out; raises UnreachableError when that is
    the main one.
    """
    present: list[tuple[Suite, str]] = []
    for suite in suites(mirror):
        try:
            present.append((suite, fetch(suite.release_url)))
        except (OSError, ValueError) as error:
            if not suite.optional:
                raise UnreachableError(str(error)) from None
            note(f"{suite.name} is not to be had from {suite.mirror} ({error}); going on without")
    return describe(present)


def fetch(url: str) -> str:
    """The InRelease file at `url`; raises OSError or ValueError."""
    if not url.startswith(("http://", "https://", "file:///")):
        raise ValueError(f"{url} is no http, https or file address")
    with urllib.request.urlopen(url, timeout=FETCH_SECONDS) as answer:
        content: bytes = answer.read(RELEASE_LIMIT_BYTES)
    text = content.decode(errors="replace")
    if not DATE.search(text) or not LISTS.search(text):
        raise ValueError(f"{url} is no release of Debian")
    return text


def digest(releases: list[str]) -> str:
    """SHA-256, in hex, over the checksums of the package lists in these InRelease texts.

    Their dates are left out: the security suite's changes several times a day without any package
    changing.
    """
    lists = sorted(
        f"{name} {checksum}" for text in releases for checksum, name in LISTS.findall(text)
    )
    return hashlib.sha256("\n".join(lists).encode()).hexdigest()


def describe(releases: list[tuple[Suite, str]]) -> Archive:
    """What the InRelease texts say, in the order of `suites`; the first one gives the date."""
    date = DATE.search(releases[0][1])
    assert date is not None
    return Archive(
        tuple(suite.source for suite, _ in releases),
        digest([text for _, text in releases]),
        int(parsedate_to_datetime(date[1]).timestamp()),
    )


def offline_error(edition: str, mirror: str, reason: object) -> SpacegrayError:
    """What to say when there is neither an archive nor an image made earlier."""
    return SpacegrayError(
        f"building the system {edition}",
        f"the package archive {mirror} gives no answer ({reason})",
        "check the network, or name another archive with --mirror",
    )
