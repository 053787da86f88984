"""One start of the machine: from the chip's consent to the end of the processor.

The chip decides whether there is a start at all and hands over what it verified, as
descriptors. Then everything is observation: the firmware's and the guest's words on the serial
console, the guest's answer on its port, QEMU's events, the ends of processes. Whichever comes
first decides how the start ends.
"""

import asyncio
import contextlib
import socket
import subprocess
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Literal

from spacegray import process
from spacegray.chip.client import ChipClient
from spacegray.chip.launch import ChipProcess
from spacegray.errors import SpacegrayError
from spacegray.links import Target
from spacegray.machine import board as boards
from spacegray.machine import external, network
from spacegray.machine import outcome as outcomes
from spacegray.machine.accelerator import Accelerator
from spacegray.paths import Slot, WorkstationPaths
from spacegray.qmp import GoneError, Qmp, QmpError
from spacegray.spec import Spec
from spacegray.workstation import agent, create, ssh
from spacegray.workstation.chain import Chain
from spacegray.workstation.guest import Guest
from spacegray.workstation.guest_port import Ready, Wish
from spacegray.workstation.journal import Journal
from spacegray.workstation.logs import CappedLog, last_line
from spacegray.workstation.powering import Channels, power_on
from spacegray.workstation.serial import SerialWatch, Sighting
from spacegray.workstation.serial_relay import SerialRelay
from spacegray.workstation.streams import exit_status
from spacegray.workstation.telling import Telling

POWERDOWN_RETRY_SECONDS = 10.0
"""After the guest was asked over its port, how long until the power button is pressed too."""
EXIT_SECONDS = 5.0
"""How long QEMU may take to end after its last event."""

RECONNECT_SECONDS = 2.0
PANIC_WORDS_SECONDS = 0.7
"""Less than the guest's kernel waits before it resets (panic=1 on its command line)."""

Ending = Literal["off", "reset", "reinstall", "failed"]
_WISHED: dict[Wish, tuple[Ending, str]] = {
    "off": ("off", "shut down in recovery"),
    "restart": ("reset", "recovery asked for a restart"),
    "reinstall": ("reinstall", "recovery asked to have the system reinstalled"),
}


@dataclass(frozen=True)
class Outcome:
    """How a start ended."""

    ending: Ending
    reason: str
    link: str | None = None
    refused: bool = False
    """Whether Secure Boot refused the image; that link is not written down yet."""
    next_step: str = ""
    """What its owner does about it, where that is known better than from the link."""


class Start:
    """One start for `target`; `run` returns when the machine is off again.

    `disk` is the descriptor of an external disk: to start from, or else to be plugged in once the
    system's kernel runs.
    """

    def __init__(
        self,
        paths: WorkstationPaths,
        spec: Spec,
        chip: ChipProcess,
        mailbox: ChipClient,
        accelerator: Accelerator,
        journal: Journal,
        telling: Telling,
        *,
        target: Target,
        disk: int | None,
        provision: bytes | None,
    ) -> None:
        self._paths = paths
        self._spec = spec
        self._chip = chip
        self._mailbox = mailbox
        self._accelerator = accelerator
        self._journal = journal
        self._telling = telling
        self._target = target
        self._disk = disk
        self._chain = Chain(target, journal, telling)
        self._end: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._tasks: set[asyncio.Task[None]] = set()
        self._channels = Channels()
        self._relay = SerialRelay(self._channels.serial.send)
        self.guest = Guest(
            self._channels.guest,
            self._chain,
            journal,
            provision=provision,
            ready=self._come_up,
            wish=self._grant,
        )
        self._qemu: subprocess.Popen[bytes] | None = None
        self._master: subprocess.Popen[bytes] | None = None
        self._qmp: Qmp | None = None
        self._stopping = False
        self._ended: outcomes.Outcome | None = None
        self._monitored = False
        self._slot: Slot = "a"
        self.trying = False
        """Whether it is the first start of a new system, which has yet to come up."""

    @property
    def up(self) -> bool:
        """Whether it got to its last link."""
        return self._chain.up

    async def run(self, board: boards.Board) -> Outcome:
        """Start the machine, watch it until it is off; raises SpacegrayError if it cannot start."""
        try:
            powered = power_on(
                self._paths,
                self._spec,
                self._mailbox,
                self._journal,
                board,
                self._channels,
                target=self._target,
                disk=self._disk,
            )
            self._qemu, self.trying, self._slot = powered.qemu, powered.trying, powered.slot
            self._watch(self._run_monitor())
            self._watch(self._read_serial())
            self._watch(self.guest.listen())
            self._watch(agent.relay(self._paths, self._channels.agent))
            self._watch(self._await_exit())
            self._watch(self._await_chip())
            self._watch(self._await_links())
            return await self._end
        finally:
            await self._clean_up()

    # What the owner asks for

    async def stop(self, timeout_seconds: float) -> None:
        """Ask the guest to shut down; after `timeout_seconds` the power is cut."""
        if self._stopping:
            return
        self._stopping = True
        self._watch(self._shut_down(timeout_seconds))

    def cut(self, reason: str) -> None:
        """Cut the power, now; `reason` is why it is off then."""
        self._finish("off", reason)

    async def screen(self) -> socket.socket:
        """A new connection to the machine's screen, keyboard and pointer (RFB)."""
        if self._qmp is None:
            raise SpacegrayError(
                f"opening the screen of {self._paths.name}", "the machine is not on", "start it"
            )
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                await self._qmp.add_vnc_client(theirs.fileno())
            except BaseException:
                ours.close()
                raise
        return ours

    def serial(self) -> socket.socket:
        """A new connection to the serial console: bytes, both ways."""
        return self._relay.join()

    # Watching

    def _watch(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._watched)

    def _watched(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if isinstance(error, SpacegrayError):
            self._finish("failed", error.stopped_by, link=error.link or self._chain.next())
        elif error is not None and not self._end.done():
            self._end.set_exception(error)

    def _finish(
        self, ending: Ending, reason: str, *, link: str | None = None, refused: bool = False
    ) -> None:
        if not self._end.done():
            self._end.set_result(Outcome(ending, reason, link, refused))

    def _fail(self, link: str, detail: str) -> None:
        if not self._end.done():
            self._chain.note(link, "failed", detail)
            self._finish("failed", detail, link=link)

    async def _await_links(self) -> None:
        """Nothing new for too long: the guest hangs."""
        silent = await self._chain.silence(self._accelerator.timeout_factor)
        if silent is not None and not self._stopping:
            self._fail(self._chain.next(), silent)

    async def _run_monitor(self) -> None:
        try:
            self._qmp = await Qmp.connect(self._channels.monitor.ours)
            await self._qmp.wait_running()
            self._chain.go_past("machine", f"QEMU runs with {self._accelerator.name}")
            await self._read_events(self._qmp)
        except GoneError:
            # `_await_exit` says why, in QEMU's own words.
            pass
        finally:
            self._monitored = True

    async def _read_events(self, qmp: Qmp) -> None:
        async for event in qmp.events():
            ended = outcomes.outcome(event)
            self._ended = self._ended or ended
            if ended is not None and ended.kind == "panicked":
                # The kernel says why on the serial console, at about the same time.
                await asyncio.sleep(PANIC_WORDS_SECONDS)
                self._fail(self._chain.next(), ended.text)

    async def _read_serial(self) -> None:
        watch = SerialWatch(self._target)
        log = CappedLog(self._paths.logs / "serial.log")
        with contextlib.closing(log):
            async for data in self._channels.serial.receive():
                log.write(data)
                self._relay.feed(data)
                for seen in watch.feed(data):
                    await self._see(seen)

    async def _see(self, seen: Sighting) -> None:
        if seen.status == "ok":
            first = not self._chain.passed("kernel")
            await self.guest.greet()
            self._chain.go_past(seen.link, seen.detail)
            if first:
                await self._kernel_runs()
        elif seen.refused:
            self._finish("failed", seen.detail, link=seen.link, refused=True)
        elif self._chain.up and seen.fatal:
            # What it had passed by then was sound.
            self._fail(self._chain.next(), seen.detail)
        elif seen.fatal or not self._chain.up:
            self._fail(seen.link, seen.detail)
        elif self._chain.may_report():
            self._chain.note(seen.link, "failed", seen.detail)

    async def _kernel_runs(self) -> None:
        """The firmware starts nothing any more."""
        if self._target == "main" and self._disk is not None and self._qmp is not None:
            try:
                await external.plug(self._qmp, self._disk)
            except QmpError as error:
                raise SpacegrayError(
                    "plugging in the external disk", error.stopped_by, "see `logs`", link="machine"
                ) from None
            self._journal.note("the external disk is plugged in")
        if self._chain.up:
            # Of a system that is not ours, no more is seen.
            self._journal.change("running")

    def _grant(self, wish: Wish) -> None:
        """What recovery wants; it runs in memory alone, so there is nothing to shut down."""
        ending, reason = _WISHED[wish]
        self._finish(ending, reason)

    async def _come_up(self, ready: Ready) -> None:
        assert self._qmp is not None, "a guest that answers was started by a QEMU that runs"
        secure = ready.secure_boot and not ready.setup_mode
        state = "on" if secure else "OFF"
        detail = f"Linux {ready.kernel}, Secure Boot {state}, boot {ready.boot_id}"
        if ready.host_key is None:
            self._journal.ready(secure_boot=secure, kernel=ready.kernel)
            self._chain.go_past("recovery", detail)
            self._journal.change("recovery")
            return
        port = await network.forward_ssh(self._qmp)
        # One that a start before left would be a refused connection to whoever comes first.
        self._paths.ssh_control.unlink(missing_ok=True)
        ssh.trust(self._paths, ready.host_key)
        if ready.provisioned:
            self._paths.provision.unlink(missing_ok=True)
        self._journal.ready(secure_boot=secure, kernel=ready.kernel, ssh_port=port)
        self._chain.go_past("login", detail)
        await self._tell_it_came_up()
        self._journal.change("running")
        self._watch(self._keep_connected(port))

    async def _tell_it_came_up(self) -> None:
        try:
            await self._telling.came_up()
        except SpacegrayError as error:
            self._journal.note(str(error))
            return
        create.note_slot(self._paths, self._slot)
        if self.trying:
            self._journal.note("the new system came up: from now on it is the one that starts")

    async def _keep_connected(self, port: int) -> None:
        """The SSH connection that `shell` uses, made again when it breaks."""
        while True:
            with (self._paths.logs / "ssh.log").open("wb") as log:
                self._master = process.spawn(
                    ssh.master_command(self._paths, port=port, user=self._spec.user),
                    stdout=log.fileno(),
                    stderr=log.fileno(),
                    folder=self._paths.run,
                )
            await exit_status(self._master)
            await asyncio.sleep(RECONNECT_SECONDS)

    async def _await_exit(self) -> None:
        qemu = self._qemu
        assert qemu is not None
        status = await exit_status(qemu)
        # Its last words may still lie in the sockets.
        await asyncio.sleep(0)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._drain(), EXIT_SECONDS)
        ended = self._ended
        if self._stopping:
            self._finish("off", "shut down")
        elif ended is not None and ended.kind == "panicked":
            self._fail(self._chain.next(), ended.text)
        elif ended is None or ended.kind == "stopped":
            text = last_line(self._paths.logs / "qemu.log") or f"its exit status was {status}"
            self._fail("machine", f"QEMU was killed or failed: {text}")
        elif ended.kind == "reset":
            self._finish("reset", ended.text)
        elif self.up:
            self._finish("off", ended.text)
        else:
            self._fail(self._chain.next(), f"{ended.text} before it was up")

    async def _drain(self) -> None:
        """Wait until the readers have seen the end of what QEMU wrote and reported."""
        while not (self._channels.serial.ended and self._channels.guest.ended and self._monitored):
            await asyncio.sleep(0.01)

    async def _await_chip(self) -> None:
        await exit_status(self._chip.process)
        failure = self._chip.failure()
        if failure is None:
            self._fail("chip", "the chip was stopped")
        else:
            self._fail(failure.link or "chip", failure.stopped_by)

    # Power off

    async def _shut_down(self, timeout_seconds: float) -> None:
        try:
            async with asyncio.timeout(timeout_seconds):
                if self.up:
                    await self._ask_to_power_off()
                self._cut_power()
        except TimeoutError:
            self._journal.note(
                f"the guest did not shut down in {timeout_seconds:.0f} s; the power was cut"
            )
            self._cut_power()

    async def _ask_to_power_off(self) -> None:
        if self.guest.greeted:
            await self.guest.power_off()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(self._end), POWERDOWN_RETRY_SECONDS)
        if self._qmp is not None and not self._end.done():
            with contextlib.suppress(QmpError):
                await self._qmp.execute("system_powerdown")
        await asyncio.shield(self._end)

    def _cut_power(self) -> None:
        if self._qemu is not None:
            self._qemu.kill()
        self._finish("off", "shut down")

    async def _clean_up(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for child in (self._master, self._qemu):
            if child is not None:
                child.kill()
                child.wait()
        if self._qmp is not None:
            await self._qmp.close()
        await self._relay.close()
        self._channels.close()
