"""Where things lie: XDG folders, all of them overridden by SPACEGRAY_HOME.

The chip's state lies apart from the workstation's folder on purpose: whoever copies the one
has not got the other.
"""

import dataclasses
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from spacegray.errors import UsageError

NAME_PATTERN = re.compile(r"[a-z][a-z0-9-]{0,31}")
"""A workstation's name: also its host name, so lower case and short."""
HOST_NAME = ".host"
"""The folder beside the chips' state folders that no workstation's name can be."""

Slot = Literal["a", "b"]
"""Each of the two places for a whole system: one is in use, the next is made in the other."""
SLOTS: tuple[Slot, ...] = get_args(Slot)


def other_slot(slot: Slot) -> Slot:
    """The slot beside this one."""
    return "b" if slot == "a" else "a"


@dataclass(frozen=True)
class SlotPaths:
    """What of one system lies outside the disk, because it is needed before the disk is read."""

    folder: Path

    @property
    def firmware(self) -> Path:
        """The machine's firmware image."""
        return self.folder / "firmware.fd"

    @property
    def variables(self) -> Path:
        """The empty variable store that belongs to it."""
        return self.folder / "variables.fd"

    @property
    def recovery(self) -> Path:
        """The recovery system, as a medium that starts."""
        return self.folder / "recovery.img"


@dataclass(frozen=True)
class WorkstationPaths:
    """The folders and files of one workstation."""

    name: str
    folder: Path
    state_folder: Path
    run: Path

    @property
    def spec(self) -> Path:
        return self.folder / "spec.toml"

    @property
    def installed(self) -> Path:
        """What was restored onto the disk: edition, partitions, digests."""
        return self.folder / "installed.json"

    @property
    def state(self) -> Path:
        return self.folder / "state.json"

    @property
    def events(self) -> Path:
        return self.folder / "events.jsonl"

    @property
    def logs(self) -> Path:
        return self.folder / "logs"

    def slot(self, slot: Slot) -> SlotPaths:
        """The files of the system in this slot."""
        return SlotPaths(self.folder / slot)

    @property
    def receipts(self) -> Path:
        """What the chip signed when it was erased."""
        return self.folder / "receipts"

    @property
    def service_record(self) -> Path:
        """What was done on the repair bench, each entry signed by the chip (docs/service.md)."""
        return self.folder / "service" / "record"

    @property
    def under_way(self) -> Path:
        """The job on the repair bench that is not finished, if there is one."""
        return self.folder / "service" / "under-way.json"

    @property
    def bundle_note(self) -> Path:
        """When a recovery bundle was made last, and where it was written to."""
        return self.folder / "recovery.json"

    @property
    def unfinished(self) -> Path:
        """There while it is being created or removed: nothing of it is of value then."""
        return self.state_folder / "unfinished"

    @property
    def chip_facts(self) -> Path:
        """What the chip said of itself when it was last spoken to."""
        return self.state_folder / "known.json"

    @property
    def lock(self) -> Path:
        return self.run / "lock"

    @property
    def holder(self) -> Path:
        """Who holds the lock of a machine that is off, and what for."""
        return self.run / "holder"

    @property
    def mailbox(self) -> Path:
        return self.run / "mailbox"

    @property
    def control(self) -> Path:
        return self.run / "control"

    @property
    def agent(self) -> Path:
        """Where the running machine's QEMU guest agent is to be reached."""
        return self.run / "agent"

    @property
    def ssh_control(self) -> Path:
        return self.run / "ssh"

    @property
    def ssh_key(self) -> Path:
        """The owner's key: apart from the folder, as a copy of that must open nothing."""
        return self.state_folder / "ssh" / "id_ed25519"

    @property
    def known_hosts(self) -> Path:
        return self.state_folder / "ssh" / "known_hosts"

    @property
    def host_state(self) -> Path:
        """What the chips share that are sealed with this host's TPM: one folder for all."""
        return self.state_folder.parent / HOST_NAME

    @property
    def provision(self) -> Path:
        """What the next start has to tell the guest; gone once it has."""
        return self.state_folder / "provision"

    @property
    def continues(self) -> Path:
        """The head of the service record that this chip, on a new logic board, has to go on with.

        Beside the chip's own files: who may write to the workstation's folder has no say in it.
        """
        return self.state_folder / "continues"

    @property
    def took_over(self) -> Path:
        """There where this chip, from a recovery bundle, has taken the disk over from the one
        before, until that is gone.
        """
        return self.state_folder / "took-over"

    def beside(self, word: str) -> "WorkstationPaths":
        """The same with another state folder, beside the own: of a chip not yet, or no more, its.

        No workstation's name begins with a dot, so that it is nobody else's.
        """
        other = self.state_folder.with_name(f".{self.name}.{word}")
        return dataclasses.replace(self, state_folder=other)


@dataclass(frozen=True)
class Paths:
    """The roots under which everything of one user lies."""

    workstations: Path
    state: Path
    cache: Path
    run: Path

    @classmethod
    def current(cls, environment: Mapping[str, str] | None = None) -> "Paths":
        """The roots for this process, from SPACEGRAY_HOME or the XDG base directories."""
        env = os.environ if environment is None else environment
        if home := env.get("SPACEGRAY_HOME"):
            root = Path(home).absolute()
            return cls(root / "workstations", root / "state", root / "cache", root / "run")

        def xdg(variable: str, default: str) -> Path:
            value = env.get(variable, "")
            base = Path(value) if value.startswith("/") else Path.home() / default
            return base / "spacegray"

        state = xdg("XDG_STATE_HOME", ".local/state")
        # Not XDG_RUNTIME_DIR: it differs between a desktop session and sudo or cron, and two
        # that look in different places would each start the same machine.
        return cls(
            xdg("XDG_DATA_HOME", ".local/share"),
            state,
            xdg("XDG_CACHE_HOME", ".cache"),
            state / ".run",
        )

    @property
    def authority(self) -> Path:
        """The signing authority's own folder: no workstation's, and no part of any of them."""
        return self.state / ".authority"

    @property
    def providers(self) -> Path:
        """The folders of the service providers that this host plays, each with keys of its own."""
        return self.state / ".providers"

    def provider(self, name: str) -> Path:
        """The folder of the provider `name`; raises UsageError for a name that cannot be."""
        _check_name("service provider", name)
        return self.providers / name

    @property
    def console_log(self) -> Path:
        """In a folder of its own: it is all that the console, confined, may write to."""
        return self.state / ".console" / "console.log"

    def workstation(self, name: str) -> WorkstationPaths:
        """The folders of the workstation `name`; raises UsageError for a name that cannot be."""
        _check_name("workstation", name)
        return WorkstationPaths(name, self.workstations / name, self.state / name, self.run / name)


def _check_name(what: str, name: str) -> None:
    """Raise UsageError for a name that can be no folder's."""
    if not NAME_PATTERN.fullmatch(name):
        raise UsageError(
            f"looking for the {what} {name!r}",
            "a name is 1 to 32 lower-case letters, digits and hyphens, a letter first",
            "choose another name",
        )
