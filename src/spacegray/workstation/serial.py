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

    def feed(self, data: bytes) -> list[Sighting]:
        """The sightings in the lines that `data` completes."""
        *lines, self._rest = re.split(rb"[\r\n]+", self._rest + data)
        self._rest = self._rest[-LINE_LIMIT_BYTES:]
        sightings = (self._sighting(line[:LINE_LIMIT_BYTES]) for line in lines)
        return [found for found in sightings if found is not None]

    def _sighting(self, raw: bytes) -> Sighting | None:
        if self._target in ("main", "recovery"):
            return sighting(raw, self._target)
        # Once a system's kernel runs, the words of loaders are anybody's.
        line = _plain(raw)
        self._kernel_spoke = self._kernel_spoke or bool(_KERNEL_SPEAKS.search(line))
        if not self._kernel_spoke and (match := _LOADER_REFUSED.search(line)):
            return Sighting("kernel", "failed", f"the loader refused: {printable(match[1])}")
        return sighting(raw, self._target)


def sighting(raw: bytes, target: Target = "main") -> Sighting | None:
    """What one line says about the boot chain, if anything."""
    line = _plain(raw)
    foreign = target in ("other", "external")
    if match := _GUEST_LINK.search(line):
        link, status, detail = match.groups()
        if link not in _guest_links(target, status):
            return None
        return Sighting(link, "ok" if status == "ok" else "failed", printable(detail))
    if match := _REFUSED.search(line):
        return _refusal(match[1])
    if foreign and _STARTED.search(line):
        return Sighting("kernel", "ok", "the firmware accepted the loader and started it")
    if _NOTHING_TO_BOOT.search(line):
        return Sighting("kernel", "failed", "the firmware found nothing that may start")
    if match := _ANOTHER_OPTION.search(line):
        detail = f"the firmware turned to another boot option (Boot{match[1]})"
        return Sighting("kernel", "failed", detail)
    if target == "main" and _CORRUPTED.search(line):
        return Sighting("system", "failed", printable(line), fatal=False)
    if match := _PANIC.search(line):
        link = "system" if target == "main" else chain(target)[-1]
        return Sighting(link, "failed", f"kernel panic: {printable(match[1])}")
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
