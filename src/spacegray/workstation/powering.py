"""Power on: what the chip verified goes to QEMU, as descriptors; nothing else does."""

import contextlib
import subprocess
from dataclasses import dataclass, field

from spacegray import process
from spacegray.chip.client import ChipClient
from spacegray.chip.client import Start as Prepared
from spacegray.errors import SpacegrayError
from spacegray.links import Target
from spacegray.machine import board as boards
from spacegray.paths import Slot, WorkstationPaths
from spacegray.spec import Spec
from spacegray.workstation.journal import Journal
from spacegray.workstation.streams import Pair


@dataclass
class Channels:
    """Between the supervisor and one QEMU."""

    serial: Pair = field(default_factory=Pair)
    guest: Pair = field(default_factory=Pair)
    monitor: Pair = field(default_factory=Pair)
    agent: Pair = field(default_factory=Pair)

    def all(self) -> tuple[Pair, ...]:
        """Each of them."""
        return (self.serial, self.guest, self.monitor, self.agent)

    def close(self) -> None:
        """Close both ends of each."""
        for pair in self.all():
            pair.close()


@dataclass(frozen=True)
class Powered:
    """A machine that was switched on."""

    qemu: "subprocess.Popen[bytes]"
    slot: Slot
    trying: bool
    """Whether the chip starts a new system that has yet to come up."""


def power_on(
    paths: WorkstationPaths,
    spec: Spec,
    mailbox: ChipClient,
    journal: Journal,
    board: boards.Board,
    channels: Channels,
    *,
    target: Target,
    disk: int | None,
) -> Powered:
    """Have the chip prepare a start for `target`, and start QEMU; `disk` is the external one.

    QEMU has its ends of the `channels` then, and nobody else. Raises SpacegrayError.
    """
    with contextlib.ExitStack() as handed_over:
        for pair in channels.all():
            handed_over.callback(pair.theirs.close)
        started = handed_over.enter_context(
            mailbox.prepare_start(target=target, strict=spec.strict)
        )
        journal.judged(slot=started.slot, trying=started.trying, policy=started.policy)
        for event in started.links:
            journal.link(event.link, event.status, event.detail, at=event.at)
        descriptors = _descriptors(started, channels, disk if target == "external" else None)
        identity = boards.Identity(paths.name, int(mailbox.show()["ecid"], 16))
        paths.logs.mkdir(exist_ok=True)
        with (paths.logs / "qemu.log").open("wb") as log:
            try:
                qemu = process.spawn(
                    boards.command(board, descriptors, identity),
                    descriptors=descriptors.all(),
                    reach=boards.reach(board),
                    stdout=log.fileno(),
                    stderr=log.fileno(),
                )
            except OSError as error:
                raise SpacegrayError(
                    "starting QEMU", error, "see `doctor`", link="machine"
                ) from None
    return Powered(qemu, started.slot, started.trying)


def _descriptors(started: Prepared, channels: Channels, disk: int | None) -> boards.Descriptors:
    def given(descriptor: int) -> int | None:
        return descriptor if descriptor >= 0 else None

    return boards.Descriptors(
        firmware=started.firmware,
        variables=started.variables,
        disk=given(started.disk),
        medium=given(started.medium),
        recovery_port=given(started.port),
        external=disk,
        monitor=channels.monitor.theirs.fileno(),
        serial=channels.serial.theirs.fileno(),
        guest_port=channels.guest.theirs.fileno(),
        agent_port=channels.agent.theirs.fileno(),
    )
