"""One start of the machine: everything it gets, frozen first and compared then.

The vault says what starts, by which rules, and what its ticket names; nothing else is handed over.
When the machine is off, what it left in its variable store is looked at (`keeping`).
"""

import os
import socket
import sys
import time
from pathlib import Path
from typing import Final

import msgspec

from spacegray.chip import images, keeping, messages, variables
from spacegray.chip.boot_state import Components
from spacegray.chip.controller import Opened
from spacegray.chip.core import Core, Handler, Left, Reply, Started
from spacegray.chip.images import Frozen
from spacegray.chip.part import Watcher
from spacegray.chip.recovery_port import RecoveryPort
from spacegray.chip.refusal import ChipRefusalError
from spacegray.chip.revocations import revoked
from spacegray.chip.vault_words import VaultRefusalError
from spacegray.errors import SpacegrayError
from spacegray.links import LinkEvent, Status
from spacegray.sockets import close_all

LINKS_LIMIT: Final = 16
"""How many links of a start are remembered."""
SHOWN_DIGITS: Final = 16
"""Digits of a digest that are shown to a person."""
_POLICIES: Final = {"full": "Full Security", "medium": "Medium Security", "none": "No Security"}
_DOING: Final = "starting the machine"


class Starting:
    """Answers `prepare_start`, and hears what came of it."""

    def __init__(self, core: Core, watcher: Watcher) -> None:
        self._core = core
        self._watcher = watcher
        self._port: RecoveryPort | None = None
        self.handlers: dict[type, Handler] = {
            messages.PrepareStart: self._prepare,
            messages.Report: self._report,
        }

    def release_disk(self) -> None:
        """Close the disk if only the recovery port has it open."""
        if self._port is not None:
            self._port.release_disk()

    def machine_off(self) -> None:
        """The machine is off: its port is closed, and what it left is taken over.

        Harmless when there was none. Raises SpacegrayError when that cannot be kept; then it is
        tried again next time.
        """
        port, self._port = self._port, None
        if port is not None:
            port.close()
        left = self._core.left
        if left is not None:
            self._take_over(left)
            self._core.left = None
            left.close()

    def _prepare(self, request: messages.PrepareStart, _: list[int]) -> Reply:
        core, recovery = self._core, request.target == "recovery"
        self.machine_off()
        self._refuse_early(recovery=recovery)
        core.started = None
        begun = core.vault.begin_start(request.target)
        known = core.remembered.slots.get(begun.slot)
        if known is None:
            raise ChipRefusalError(
                _DOING,
                "chip.json does not say where the system lies",
                f"put the chip's state folder back as it was, or `reinstall {core.place.name}`",
                code="corrupt",
            )
        components = begun.entry.components
        kept = keeping.load(core.place.state_folder, begun.variables)
        plan = variables.Plan(
            target=request.target,
            policy=begun.policy,
            other_systems=begun.other_systems,
            image=components.recovery_kernel if recovery else components.kernel,
            esp=known.esp,
            kept=kept,
        )
        started = Started(
            request.target, begun.slot, begun.trying, begun.policy, time.time(), links=[]
        )
        ecid, policy = core.remembered.ecid, _POLICIES.get(begun.policy, begun.policy)
        started.links.append(_seen("chip", f"vault open, ECID {ecid}, {policy}"))
        descriptors: list[int] = []
        try:
            self._hand_over(plan, started, components, descriptors)
            if recovery:
                self._hand_recovery(components, started, descriptors)
            else:
                connection, opened = core.disk.start("vhost-user-blk", strict=request.strict)
                descriptors.append(connection.detach())
                started.links.append(_seen("disk", _opened(opened, strict=request.strict)))
            if plan.secure_boot:
                # Ours too: what the machine leaves in it is looked at when it is off. Without
                # Secure Boot any program may have written it, revocations and all.
                core.left = Left(os.dup(descriptors[1]), kept, shim_ran=plan.shim_may_run)
        except BaseException:
            close_all(descriptors)
            raise
        core.started = started
        return Reply(
            {
                "links": [msgspec.to_builtins(each) for each in started.links],
                "firmware_version": known.source,
                "policy": begun.policy,
                "slot": begun.slot,
                "trying": begun.trying,
                "secure_boot": plan.secure_boot,
            },
            descriptors,
        )

    def _refuse_early(self, *, recovery: bool) -> None:
        """Refuse what would fail later, before it costs a system that is tried one of its tries."""
        if self._core.disk.opened:
            raise SpacegrayError(
                _DOING, "its disk is in use", "stop what uses it, then try again", link="disk"
            )
        status = self._core.vault.status()
        if not recovery and status.password and not status.unlocked:
            raise VaultRefusalError(_DOING, "password", "")
        if not recovery:
            self._core.disk.refuse_new(_DOING)

    def _hand_over(
        self,
        plan: variables.Plan,
        started: Started,
        expected: Components,
        descriptors: list[int],
    ) -> None:
        """Firmware image and variable store, as the ticket names them."""
        core = self._core
        paths = core.place.slot(started.slot)
        firmware = self._frozen(paths.firmware, expected.firmware, "firmware")
        descriptors.append(firmware.descriptor)
        template = self._frozen(paths.variables, expected.variables, "firmware")
        try:
            content = variables.build(template, core.identity, plan, name=core.place.name)
        finally:
            template.close()
        descriptors.append(images.writable_copy(content, "variables"))
        words = [f"SHA-256 {firmware.sha256[:SHOWN_DIGITS]}… as its ticket says"]
        words += [f"slot {started.slot}, tried"] if started.trying else []
        started.links.append(_seen("firmware", ", ".join(words)))

    def _hand_recovery(
        self, expected: Components, started: Started, descriptors: list[int]
    ) -> None:
        """The recovery system's medium, and its end of a port of its own."""
        path = self._core.place.slot(started.slot).recovery
        medium = self._frozen(path, expected.recovery, "kernel")
        descriptors.append(medium.descriptor)
        ours, machines = socket.socketpair()
        descriptors.append(machines.detach())
        self._port = RecoveryPort(self._core, ours, self._watcher)

    def _frozen(self, path: Path, digest: bytes, link: str) -> Frozen:
        """The file at `path`, which has to be what the ticket names; else SpacegrayError `link`."""
        anew = f"`reinstall {self._core.place.name}` makes it anew; your data stays"
        found = images.freeze(path, link=link, next_step=f"put the file back, or {anew}")
        expected = digest.hex()
        if found.sha256 == expected:
            return found
        found.close()
        raise SpacegrayError(
            f"checking {path}",
            f"expected SHA-256 {expected[:SHOWN_DIGITS]}…, found {found.sha256[:SHOWN_DIGITS]}…",
            f"put the file back as it was, or {anew}",
            link=link,
        )

    def _report(self, request: messages.Report, _: list[int]) -> Reply:
        started = self._core.started
        if started is None:
            raise ChipRefusalError(
                "noting what was seen of a start",
                "nothing was started",
                "start the machine first",
                code="not_started",
            )
        if len(started.links) < LINKS_LIMIT:
            started.links.append(_seen(request.link, request.detail, request.status))
        return Reply()

    def _take_over(self, left: Left) -> None:
        """Keep of what the machine left what may be kept."""
        core = self._core
        slots = [entry for entry in core.vault.boot().slots.values() if entry is not None]
        ours = [core.identity.vendor, core.identity.kek, core.identity.pk]
        for entry in slots:
            ours += (entry.components.kernel, entry.components.recovery_kernel)
        content = os.pread(left.descriptor, os.fstat(left.descriptor).st_size, 0)
        try:
            kept = keeping.after(
                content, left.kept, shim_ran=left.shim_ran, spared={*revoked(), *ours}
            )
        except ValueError as error:
            # Whoever broke out of its guest can leave anything there. Nothing is lost by it.
            print(
                f"chip: of the guest's variables nothing is kept: {error}",
                file=sys.stderr,
                flush=True,
            )
            return
        if kept != left.kept:
            folder = core.place.state_folder
            digest = keeping.save(folder, kept)
            core.vault.keep_variables(digest)
            keeping.forget(folder, digest)


def _seen(link: str, detail: str, status: Status = "ok") -> LinkEvent:
    return LinkEvent(link=link, status=status, detail=detail, at=time.time())


def _opened(opened: Opened, *, strict: bool) -> str:
    words = ["both modules open, newest state"]
    if opened.recovered:
        words.append("recovered after a power cut")
    if strict:
        words.append("strict")
    return ", ".join(words)
