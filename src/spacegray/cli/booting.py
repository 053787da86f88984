"""The verbs of what boots: recovery, update, reinstall, and the last start link by link."""

import contextlib
from typing import Any, Final

from spacegray import host, links
from spacegray.cli import attach, output
from spacegray.cli.asking import Asker, Files
from spacegray.cli.everyday import tell
from spacegray.cli.interrupts import told_to_end
from spacegray.errors import SpacegrayError
from spacegray.paths import Paths
from spacegray.workstation import hold
from spacegray.workstation import update as updates
from spacegray.workstation.api import Workstation
from spacegray.workstation.state import Record

TARGETS: Final = {
    "main": "its system",
    "other": "another system on its disk",
    "external": "an external disk",
    "recovery": "recovery",
}
"""What a start was of, as people read it."""


def recovery(
    name: str,
    files: Files,
    *,
    accelerator: str | None,
    timeout_seconds: float,
    headless: bool,
) -> None:
    """Start recovery, and show it on this terminal where there is one."""
    workstation = Workstation.find(Paths.current(), name)
    record = workstation.record()
    if record.state == "running":
        raise SpacegrayError(
            f"starting recovery of {name}", "it is running", f"`stop {name}` first"
        )
    if record.state != "recovery":
        with output.Bars() as bars:
            workstation.start(
                target="recovery",
                owner=Asker(name, files, pause=bars.paused),
                accelerator=accelerator,
                timeout_seconds=timeout_seconds,
                progress=bars,
                on_event=lambda event: tell(bars, event),
            )
    if headless or not attach.possible():
        print(f"{name} is in recovery; `recovery {name}` on a terminal or `open {name}` shows it")
        return

    def resize(rows: int, columns: int) -> None:
        # No more than a courtesy: without it recovery draws 80 columns and 24 rows.
        with contextlib.suppress(SpacegrayError):
            workstation.serial_size(rows, columns)

    print("Ctrl-] leaves; recovery goes on", flush=True)
    with workstation.serial_socket() as connection, told_to_end():
        how = attach.attach(connection, resize)
    if how == "left":
        print(f"{name} is still in recovery; `recovery {name}` comes back, `stop {name}` ends it")
    else:
        print(f"{name} has left recovery; `show {name}` says how it stands")


def update(
    name: str,
    files: Files,
    *,
    mirror: str | None,
    accelerator: str | None,
    timeout_seconds: float,
) -> None:
    """Build a new system, try it beside the old one, keep what comes up."""
    paths = Paths.current()
    workstation = Workstation.find(paths, name)
    asker = Asker(name, files)
    # It is stopped and started on the way.
    asker.must_have(f"updating {name}", hold.needs(workstation))
    with told_to_end(), output.Bars() as bars:
        asker.pause = bars.paused
        done = updates.update(
            paths,
            workstation,
            asker,
            mirror=mirror or host.mirror(),
            accelerator=accelerator,
            timeout_seconds=timeout_seconds,
            progress=bars,
            on_event=lambda event: tell(bars, event),
        )
    match done.kind:
        case "current":
            print(f"{name} is up to date: the newest system is the one it has")
        case "updated":
            print(f"{name} is updated: the new system came up and has taken the old one's place")
        case "fell_back":
            raise SpacegrayError(
                f"updating {name}",
                f"the new system did not come up ({done.reason})",
                f"it has its old one again; `logs {name}` says what failed",
            )


def reinstall(name: str, files: Files, *, mirror: str | None) -> None:
    """Put the system onto the disk anew; what its user has stays."""
    paths = Paths.current()
    workstation = Workstation.find(paths, name)
    with told_to_end(), output.Bars() as bars:
        same = updates.reinstall(
            paths,
            workstation,
            Asker(name, files, pause=bars.paused),
            mirror=mirror or host.mirror(),
            progress=bars,
        )
    if same:
        print(f"{name} has its system anew, and its data as it was; `start {name}` powers it on")
    else:
        print(
            f"{name} has a newer system beside its own, and its data as it was; `start {name}` "
            "tries it, and goes back to its own if it does not come up"
        )


def boot_log(name: str, *, as_json: bool) -> None:
    """The chain of the last start, link by link, with what was expected and found."""
    record = Workstation.find(Paths.current(), name).record()
    chain = passed(record.target, record.links)
    if as_json:
        output.as_json(
            {
                "name": name,
                "boot": record.boot,
                "target": record.target,
                "slot": record.slot,
                "trying": record.trying,
                "policy": record.policy,
                "state": record.state,
                "reason": record.reason,
                "next_step": record.next_step,
                "links": chain,
            }
        )
        return
    if not record.boot:
        print(f"{name} was never started; `start {name}` does")
        return
    print(f"start {record.boot} of {name}: {_outcome(record)}\n")
    rows: list[tuple[str, str, str, str]] = []
    for each in chain:
        after = "" if each["seconds"] is None else f"{each['seconds']:.1f} s"
        rows.append((each["link"], each["status"], after, each["detail"]))
        rows += [("", "", "", f"{key}: {each[key]}") for key in ("expected", "found") if each[key]]
    output.table(("link", "", "after", "seen"), rows)
    broken = next((each for each in chain if each["status"] == "failed"), None)
    if broken is not None:
        print(f"\n{broken['link']} should mean: {links.MEANING[broken['link']]}")
        if record.next_step:
            print(f"next: {record.next_step}")


def passed(target: links.Target, seen: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each link of `target`'s chain as it was seen last; those never reached are named too."""
    last = {each["link"]: each for each in seen}
    chain = []
    for link in links.chain(target):
        each = last.get(link, {})
        status = each.get("status", "not reached")
        detail = str(each.get("detail", ""))
        expected, found = output.findings(detail) if status == "failed" else (None, None)
        chain.append(
            {
                "link": link,
                "status": status,
                "detail": detail,
                "expected": expected,
                "found": found,
                "at": each.get("at"),
                "seconds": each.get("seconds"),
            }
        )
    return chain


def _outcome(record: Record) -> str:
    """What was started, under which policy, and how that stands."""
    words = [TARGETS[record.target]]
    if record.slot is not None:
        tried = ", which is being tried" if record.trying else ""
        words[0] += f" ({record.slot}{tried})"
    if record.policy is not None:
        words.append(f"policy {record.policy}")
    return ", ".join([*words, record.state])
