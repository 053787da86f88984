"""The verbs of the disk: ssd show, ssd verify, ssd accept, target-disk, export, import."""

import sys
from pathlib import Path
from typing import Any, cast

from spacegray import host
from spacegray.cli import output
from spacegray.cli.asking import Asker, Files
from spacegray.cli.everyday import confirmed
from spacegray.cli.interrupts import told_to_end
from spacegray.cli.writing import must_be_elsewhere
from spacegray.paths import Paths
from spacegray.progress import Silent
from spacegray.spec import Seal
from spacegray.workstation import image, recovery, ssd
from spacegray.workstation import target as targets
from spacegray.workstation.api import Workstation

SHOWN_RANGES = 20
"""How many ranges of bad blocks a table shows; JSON has all of them."""


def show(name: str, files: Files, *, as_json: bool) -> None:
    """What the SSD says of itself."""
    facts = ssd.report(_find(name), Asker(name, files))
    if as_json:
        output.as_json(facts)
        return
    output.table(("", facts["name"]), _summary(facts))
    print()
    rows = [(module["path"], output.size(module["allocated_bytes"])) for module in facts["modules"]]
    output.table(("module", "on the host"), rows)


def verify(name: str, files: Files, *, as_json: bool) -> int:
    """Read and authenticate everything; returns the exit status, 1 where something is bad."""
    workstation = _find(name)
    with told_to_end(), output.Bars() as bars:
        asker = Asker(name, files, pause=bars.paused)
        found = ssd.verify(workstation, Silent() if as_json else bars, asker)
    if as_json:
        output.as_json({"name": name, **found.as_dict()})
        return 1 if found.bad_blocks else 0
    if not found.bad_blocks:
        print(f"{name}: all {found.checked_blocks} blocks in use are as they were written")
        return 0
    rows = [
        (
            _blocks(each),
            each.as_dict()["offset_bytes"],
            each.as_dict()["length_bytes"],
            each.partition,
        )
        for each in found.bad[:SHOWN_RANGES]
    ]
    output.table(("bad blocks", "first byte", "bytes", "partition"), rows)
    if len(found.bad) > SHOWN_RANGES:
        print(f"and {len(found.bad) - SHOWN_RANGES} more ranges; --format json has them all")
    print(f"{name}: {found.bad_blocks} of {found.checked_blocks} blocks in use are bad")
    return 1


def target(name: str, path: Path, files: Files) -> None:
    """Serve the plain disk until Ctrl-C or SIGTERM."""

    def ready(at: Path) -> None:
        print(f"{name} is in target disk mode: nbd+unix:///?socket={at}", flush=True)
        print(f"  nbdcopy 'nbd+unix:///?socket={at}' FILE   copies it out; Ctrl-C ends", flush=True)

    with told_to_end():
        targets.serve(_find(name), path, ready, owner=Asker(name, files))
    print(f"{name} is off; its disk is closed")


def export(name: str, file: Path, format_: str | None, files: Files, *, replace: bool) -> None:
    """Copy the plain disk into an image."""
    wanted, workstation = format_ or image.format_of(file), _find(name)
    must_be_elsewhere(workstation.at, file, f"exporting the disk of {name} to {file}")
    with told_to_end(), output.Bars() as bars:
        asker = Asker(name, files, pause=bars.paused)
        image.export(workstation, file, wanted, owner=asker, replace=replace, progress=bars)
    print(f"{name} is exported to {file} ({wanted}, {output.size(_allocated(file))} on the host)")
    print("it holds the plain disk: keep it as you would the machine")


def import_(name: str, file: Path, format_: str | None, files: Files, *, ask: bool) -> None:
    """Put an image in place of all that is on the disk."""
    workstation = _find(name)
    # Whoever writes a script has said what is to be imported; at a terminal it may be a slip.
    if ask and sys.stdin.isatty() and not workstation.empty:
        question = f"Replace all that is on the disk of {name}? Type its name: "
        if not confirmed(f"importing {file}", "this replaces its disk", question, name):
            print("nothing was changed")
            return
    wanted = format_ or image.format_of(file)
    with told_to_end(), output.Bars() as bars:
        asker = Asker(name, files, ask=ask, pause=bars.paused)
        image.import_(workstation, file, wanted, owner=asker, progress=bars)
    print(f"{file} is imported; `start {name}` powers it on")


def accept(name: str, files: Files) -> None:
    """Take an older disk for the newest."""
    whole = recovery.accept(_find(name), Asker(name, files))
    print(f"{name} takes its disk as it is for the newest; the chip has counted that")
    if not whole:
        print(f"something of that state is missing: `ssd verify {name}` names what")


def export_recovery(name: str, file: Path, files: Files, *, replace: bool) -> None:
    """Write the bundle for a new chip."""
    workstation = _find(name)
    doing = f"exporting the recovery bundle of {name} to {file}"
    must_be_elsewhere(workstation.at, file, doing)
    recovery.export(workstation, Asker(name, files), file, replace=replace)
    print(f"the recovery bundle of {name} is in {file}; it opens with the recovery key alone")
    print("keep both away from this host, and apart from each other; after the next `erase`,")
    print("`restore` or `import`, and after a new `recovery-key`, make another")


def import_recovery(
    name: str,
    file: Path,
    files: Files,
    *,
    mirror: str | None,
    seal: str | None,
    replace: bool,
) -> None:
    """Have a new chip take the disk over."""
    paths = Paths.current()
    workstation = Workstation.find(paths, name)
    with told_to_end(), output.Bars() as bars:
        recovery.import_(
            paths,
            workstation,
            Asker(name, files, pause=bars.paused),
            file,
            mirror=mirror or host.mirror(),
            seal=cast(Seal | None, seal),
            replace=replace,
            progress=bars,
        )
    print(f"{name} is back; `start {name}` powers it on")
    print(f"its new chip has no password yet (`password set {name}`); the recovery key stays")


def _find(name: str) -> Workstation:
    return Workstation.find(Paths.current(), name)


def _summary(facts: dict[str, Any]) -> list[tuple[str, object]]:
    def bytes_(key: str) -> str:
        return output.size(facts[key])

    rows: list[tuple[str, object]] = [
        ("health", facts["health"] + (f": {facts['reason']}" if facts["reason"] else "")),
        ("capacity", bytes_("capacity_bytes")),
        ("strict", "yes: every flush is anchored" if facts["strict"] else "no"),
    ]
    if facts["opens"] is None:
        return rows
    amplification = facts["write_amplification"]
    return [
        *rows,
        ("used", bytes_("used_bytes")),
        ("physical", bytes_("physical_bytes")),
        ("spare", bytes_("spare_bytes")),
        ("write amplification", "none yet" if amplification is None else amplification),
        ("cleaned", f"{facts['blocks_cleaned']} blocks, {facts['segments_cleaned']} segments"),
        ("trimmed", f"{facts['trimmed_blocks']} blocks"),
        ("read errors", facts["errors"]),
        ("opened", f"{facts['opens']} times, {facts['power_cuts']} of them after a power cut"),
    ]


def _blocks(bad: ssd.Range) -> str:
    last = bad.block + bad.count - 1
    return f"{bad.block}" if bad.count == 1 else f"{bad.block} to {last}"


def _allocated(file: Path) -> int:
    """What a file takes on the host, in bytes (stat's blocks are of 512 bytes)."""
    return file.stat().st_blocks * 512
