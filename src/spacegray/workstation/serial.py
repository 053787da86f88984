"""What the serial console tells about the boot chain.

The firmware's and the kernel's own words are matched, nothing else; the guest's line for a
link counts as progress only, never as proof that it runs (that takes the nonce, see
`guest_port`). Everything here comes from the guest and may be any bytes at all.
"""

import re
from dataclasses import dataclass

from spacegray.links import Status, Target, chain

LINE_LIMIT_BYTES = 4096
"""A longer line is cut: the guest decides how long its lines are."""

_ESCAPE = re.compile(rb"\x1b(?:\[[0-9;?=]*[A-Za-z]|[()][A-Z0-9]|[=>78c])")
_GUEST_LINK = re.compile(r"spacegray: link (\w+) (ok|failed)\b ?(.*)")
_REFUSED = re.compile(r"BdsDxe: failed to (?:load|start) .*?: (.+)$")
_NOTHING_TO_BOOT = re.compile(r"BdsDxe: No bootable option")
_STARTED = re.compile(r"BdsDxe: starting Boot0000\b")
_ANOTHER_OPTION = re.compile(r"BdsDxe: loading Boot(?!0000)([0-9A-F]{4})")
"""The chip's variables name one boot option, 0000; any other is a way around it."""
_CORRUPTED = re.compile(r"device-mapper: verity: .*(?:is corrupted|corrupt)")
_PANIC = re.compile(r"Kernel panic - not syncing: (.+)")
_LOADER_REFUSED = re.compile(
    r"(Something has gone seriously wrong: .+|Verif\w+ shim SBAT data failed.*"
    r"|Verification failed: .+|.*bad shim signature.*|.*prohibited by secure boot policy.*)"
)
"""What shim and GRUB say of an image that they do not start."""
_KERNEL_SPEAKS = re.compile(r"EFI stub: |Linux version ")


@dataclass(frozen=True)
class Sighting:
    """A line that says something about a link."""

    link: str
    status: Status
    detail: str
    fatal: bool = True
    """Whether a failure ends the start; a corrupted block of a running system need not."""
    refused: bool = False
    """Whether Secure Boot refused the image that the chip's boot option names."""


class SerialWatch:
    """Splits the serial stream into lines and tells what they say of a start for `target`."""

    def __init__(self, target: Target = "main") -> None:
        self._target = target
        self._rest = b""
        self._kernel_spoke = False
        """From then on the words of firmware and loaders are anybody's."""

    def feed(self, data: bytes) -> list[Sighting]:
        """The sightings in the lines that `data` completes."""
        *lines, self._rest = re.split(rb"[\r\n]+", self._rest + data)
        self._rest = self._rest[-LINE_LIMIT_BYTES:]
        sightings = (self._sighting(line[:LINE_LIMIT_BYTES]) for line in lines)
        return [found for found in sightings if found is not None]

    def _sighting(self, raw: bytes) -> Sighting | None:
        line = _plain(raw)
        seen = _of_the_guest(line, self._target)
        if seen is not None or _KERNEL_SPEAKS.search(line):
            self._kernel_spoke = True
        if seen is not None or self._kernel_spoke:
            return seen
        return _of_the_firmware(line, self._target)


def _of_the_guest(line: str, target: Target) -> Sighting | None:
    """What a line of the kernel, or of what it started, says."""
    if match := _GUEST_LINK.search(line):
        link, status, detail = match.groups()
        if link not in _guest_links(target, status):
            return None
        return Sighting(link, "ok" if status == "ok" else "failed", printable(detail))
    if target == "main" and _CORRUPTED.search(line):
        return Sighting("system", "failed", printable(line), fatal=False)
    if match := _PANIC.search(line):
        link = "system" if target == "main" else chain(target)[-1]
        return Sighting(link, "failed", f"kernel panic: {printable(match[1])}")
    return None


def _of_the_firmware(line: str, target: Target) -> Sighting | None:
    """What a line of the firmware, or of a loader that it started, says."""
    foreign = target in ("other", "external")
    if match := _REFUSED.search(line):
        return _refusal(match[1])
    if foreign and _STARTED.search(line):
        return Sighting("kernel", "ok", "the firmware accepted the loader and started it")
    if foreign and (match := _LOADER_REFUSED.search(line)):
        return Sighting("kernel", "failed", f"the loader refused: {printable(match[1])}")
    if _NOTHING_TO_BOOT.search(line):
        return Sighting("kernel", "failed", "the firmware found nothing that may start")
    if match := _ANOTHER_OPTION.search(line):
        detail = f"the firmware turned to another boot option (Boot{match[1]})"
        return Sighting("kernel", "failed", detail)
    return None


def printable(text: str, limit: int = 300) -> str:
    """The guest's text with nothing in it that a terminal or a page could act upon."""
    return "".join(character for character in text if character.isprintable())[:limit]


def _plain(raw: bytes) -> str:
    return _ESCAPE.sub(b"", raw).decode("utf-8", "replace").strip()


def _guest_links(target: Target, status: str) -> tuple[str, ...]:
    """What a guest of ours may speak of: not what the host sees itself, nor that it is up."""
    if target in ("other", "external"):
        return ()
    links = chain(target)
    return links[links.index("kernel") : len(links) - (status == "ok")]


def _refusal(status: str) -> Sighting:
    status = printable(status)
    if "Access Denied" in status or "Security Violation" in status:
        detail = f"Secure Boot refused the kernel image ({status})"
        return Sighting("kernel", "failed", detail, refused=True)
    return Sighting("kernel", "failed", f"the firmware could not load the kernel image ({status})")
