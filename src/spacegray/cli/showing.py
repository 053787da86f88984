"""The verbs that only look: list, show, logs, doctor."""

import datetime
import sys
from pathlib import Path
from typing import Any, Final

from spacegray import host
from spacegray.cli import output
from spacegray.errors import SpacegrayError
from spacegray.links import chain
from spacegray.machine import accelerator
from spacegray.paths import Paths
from spacegray.workstation.api import Workstation

RAW_CHUNK_BYTES = 64 * 1024
_CHAINS: Final = {
    "main": "boot chain",
    "other": "boot chain, another system",
    "external": "boot chain, an external disk",
    "recovery": "boot chain, recovery",
}


def list_(*, as_json: bool) -> None:
    """All workstations, a line each; of one that is damaged, what is wrong."""
    paths = Paths.current()
    names = Workstation.names(paths)
    if as_json:
        output.as_json([_facts(paths, name) for name in names])
        return
    if not names:
        print("there is no workstation yet; `up` makes one")
        return
    output.table(
        ("name", "state", "edition", "ordered", "accelerator"),
        [_row(paths, name) for name in names],
    )


def _facts(paths: Paths, name: str) -> dict[str, Any]:
    try:
        return Workstation.find(paths, name).show()
    except SpacegrayError as error:
        return {"name": name, "state": "damaged", "reason": f"{error.stopped_by}"}


def _row(paths: Paths, name: str) -> tuple[object, ...]:
    try:
        workstation = Workstation.find(paths, name)
        record, spec = workstation.record(), workstation.spec
    except SpacegrayError as error:
        return name, "damaged", "", f"{error.stopped_by}", ""
    ordered = f"{spec.cores} cores, {spec.memory_gb} GB, {spec.graphics}, {spec.ssd_tb} TB"
    return name, record.state, spec.edition, ordered, record.accelerator


def show(name: str, *, as_json: bool) -> None:
    """One workstation, all of it."""
    facts = Workstation.find(Paths.current(), name).show()
    if as_json:
        output.as_json(facts)
        return
    output.table(("", facts["name"]), _summary(facts))
    print()
    rows = [(entry["name"], output.size(entry["size_bytes"])) for entry in _partitions(facts)]
    output.table(("partition", "size"), rows)
    if facts["links"]:
        print()
        passed = [
            (link["link"], link["status"], f"{link['seconds']:.1f} s", link["detail"])
            for link in facts["links"]
        ]
        output.table((_CHAINS[facts["target"]], "", "after", "seen"), passed)


def logs(name: str, *, kind: str, follow: bool, as_json: bool) -> None:
    """The event log, or one of the raw logs of the last start."""
    workstation = Workstation.find(Paths.current(), name)
    if kind != "events":
        _copy(workstation.at.logs / f"{kind}.log")
        return
    for event in workstation.events(follow=follow):
        if as_json:
            import json

            print(json.dumps(event), flush=True)
        elif (line := output.event_line(event)) is not None:
            at = datetime.datetime.fromtimestamp(event["at"]).strftime("%Y-%m-%d %H:%M:%S")
            print(f"{at}  {line}", flush=True)


def doctor(*, as_json: bool) -> None:
    """What this host has and lacks, and what that means."""
    paths = Paths.current()
    chosen = accelerator.choose(paths, None)
    checks = host.checks(paths, accelerator=chosen.name, accelerator_reason=chosen.reason)
    if as_json:
        output.as_json([check.as_dict() for check in checks])
        return
    for check in checks:
        found = f": {check.found}" if check.found else ""
        print(f"{check.status:<8} {check.name}{found} ({check.means})")
        if check.remedy and check.status != "ok":
            print(f"{'':<8} -> {check.remedy}")


def _summary(facts: dict[str, Any]) -> list[tuple[str, object]]:
    ordered, given, disk = facts["ordered"], facts["given"], facts["disk"]
    count = len(chain(facts["target"]))
    secure = {True: "on, says the guest's firmware", False: "OFF", None: "unknown while off"}
    reason = f" ({facts['reason']})" if facts["reason"] else ""
    rows: list[tuple[str, object]] = [
        ("state", facts["state"] + reason + (f" ({busy})" if (busy := facts["busy"]) else "")),
        ("secure boot", secure[facts["secure_boot"]]),
        ("startup security", _security(facts["chip"])),
        ("chip", _chip(facts)),
        ("edition", facts["edition"]),
    ]
    for key in ("cores", "memory_gb", "graphics", "ssd_tb"):
        got = f", given: {given[key]}" if key in given else ""
        rows.append((key.replace("_", " "), f"ordered: {ordered[key]}{got}"))
    if facts["accelerator"]:
        text = f"{facts['accelerator']} ({facts['accelerator_reason']})"
        rows.append(("accelerator", text))
    used = (
        f"{output.size(disk['used_bytes'])} of {output.size(disk['size_bytes'])} used on the host"
    )
    rows += [
        ("disk", used),
        ("links", f"{sum(link['status'] == 'ok' for link in facts['links'])} of {count}"),
        ("folder", facts["folder"]),
        ("state folder", facts["state_folder"]),
    ]
    return rows


def _chip(facts: dict[str, Any]) -> str:
    chip = facts["chip"]
    words = [str(facts["ecid"]), f"seal {chip['seal']}"]
    if chip["life"] is not None:
        words.append(chip["life"])
    if chip["password"] is not None:
        words.append("a password is set" if chip["password"] else "no password")
        words.append("a recovery key" if chip["recovery_key"] else "no recovery key")
    return ", ".join(words)


def _security(chip: dict[str, Any]) -> str:
    """Its settings in one line, as far as the chip was ever asked."""
    if chip["policy"] is None:
        return "not known yet"
    words = [{"none": "no security"}.get(chip["policy"], f"{chip['policy']} security")]
    words.append(f"external boot: {chip['external_boot']}")
    words.append(f"other systems: {chip['other_systems']}")
    words.append("a firmware password" if chip["firmware_password"] else "no firmware password")
    return ", ".join(words)


def _partitions(facts: dict[str, Any]) -> list[dict[str, Any]]:
    partitions: list[dict[str, Any]] = facts["disk"]["partitions"]
    return partitions


def _copy(path: Path) -> None:
    try:
        with path.open("rb") as file:
            while chunk := file.read(RAW_CHUNK_BYTES):
                sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()
    except FileNotFoundError:
        print(f"there is no {path.name} of a start yet", file=sys.stderr)
