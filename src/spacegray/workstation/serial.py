"""What the serial console tells about the boot chain.

The firmware's and the kernel's own words are matched, nothing else; the guest's line for a
link counts as progress only, never as proof that it runs (that takes the nonce, see
`guest_port`). Everything here comes from the guest and may be any bytes at all.
"""

import re
from dataclasses import dataclass

from spacegray.links import LINKS, Status

LINE_LIMIT_BYTES = 4096
"""A longer line is cut: the guest decides how long its lines are."""

_ESCAPE = re.compile(rb"\x1b(?:\[[0-9;?=]*[A-Za-z]|[()][A-Z0-9]|[=>78c])")
_GUEST_LINK = re.compile(r"spacegray: link (\w+) (ok|failed)\b ?(.*)")
_REFUSED = re.compile(r"BdsDxe: failed to (?:load|start) .*?: (.+)$")
_NOTHING_TO_BOOT = re.compile(r"BdsDxe: No bootable option")
_ANOTHER_OPTION = re.compile(r"BdsDxe: loading Boot(?!0000)([0-9A-F]{4})")
"""The chip's variables name one boot option, 0000; any other is a way around it."""
_CORRUPTED = re.compile(r"device-mapper: verity: .*(?:is corrupted|corrupt)")
_PANIC = re.compile(r"Kernel panic - not syncing: (.+)")
_GUEST_LINKS = LINKS[LINKS.index("kernel") : LINKS.index("login")]
"""A guest may speak of these only."""


@dataclass(frozen=True)
class Sighting:
    """A line that says something about a link."""

    link: str
    status: Status
    detail: str
    fatal: bool = True
    """Whether a failure ends the start; a corrupted block of a running system need not."""


class SerialWatch:
    """Splits the serial stream into lines and tells what they say."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[Sighting]:
        """The sightings in the lines that `data` completes."""
        *lines, self._rest = re.split(rb"[\r\n]+", self._rest + data)
        self._rest = self._rest[-LINE_LIMIT_BYTES:]
        sightings = (sighting(line[:LINE_LIMIT_BYTES]) for line in lines)
        return [found for found in sightings if found is not None]


def sighting(raw: bytes) -> Sighting | None:
    """What one line says about the boot chain, if anything."""
    line = _ESCAPE.sub(b"", raw).decode("utf-8", "replace").strip()
    if match := _GUEST_LINK.search(line):
        link, status, detail = match.groups()
        if link not in _GUEST_LINKS:
            return None
        return Sighting(link, "ok" if status == "ok" else "failed", printable(detail))
    if match := _REFUSED.search(line):
        return Sighting("kernel", "failed", _refusal(match[1]))
    if _NOTHING_TO_BOOT.search(line):
        return Sighting("kernel", "failed", "the firmware found nothing that may start")
    if match := _ANOTHER_OPTION.search(line):
        detail = f"the firmware turned to another boot option (Boot{match[1]})"
        return Sighting("kernel", "failed", detail)
    if _CORRUPTED.search(line):
        return Sighting("system", "failed", printable(line), fatal=False)
    if match := _PANIC.search(line):
        return Sighting("system", "failed", f"kernel panic: {printable(match[1])}")
    return None


def printable(text: str, limit: int = 300) -> str:
    """The guest's text with nothing in it that a terminal or a page could act upon."""
    return "".join(character for character in text if character.isprintable())[:limit]


def _refusal(status: str) -> str:
    status = printable(status)
    if "Access Denied" in status or "Security Violation" in status:
        return (
            f"Secure Boot refused the kernel image ({status}): "
            "its signature is not by this chip, or the image was changed"
        )
    return f"the firmware could not load the kernel image ({status})"
