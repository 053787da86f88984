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
from spacegray.links import LINKS
from spacegray.machine import board as boards
from spacegray.machine import network
from spacegray.machine import outcome as outcomes
from spacegray.machine.accelerator import Accelerator
from spacegray.paths import WorkstationPaths
from spacegray.qmp import GoneError, Qmp, QmpError
from spacegray.spec import Spec
from spacegray.workstation import agent, guest_port, ssh
from spacegray.workstation.journal import Journal
from spacegray.workstation.logs import CappedLog, last_line
from spacegray.workstation.serial import SerialWatch
from spacegray.workstation.streams import Pair, exit_status

LINK_SECONDS = {
    "machine": 10.0,
    "kernel": 20.0,
    "system": 15.0,
    "data": 30.0,
    "login": 60.0,
}
"""How long each link may take after the one before it, with KVM; scaled for emulation."""
POWERDOWN_RETRY_SECONDS = 10.0
"""After the guest was asked over its port, how long until the power button is pressed too."""
EXIT_SECONDS = 5.0
"""How long QEMU may take to end after its last event."""

RECONNECT_SECONDS = 2.0
PANIC_WORDS_SECONDS = 0.7
"""Less than the guest's kernel waits before it resets (panic=1 on its command line)."""
REPORT_LIMIT = 64
"""How many entries in state and event log one start's guest may cause by what it says."""

Ending = Literal["off", "reset", "failed"]


@dataclass(frozen=True)
class Outcome:
    """How a start ended."""

    ending: Ending
    reason: str
    link: str | None = None


class Start:
    """One start; `run` returns when the machine is off again."""

    def __init__(
        self,
        paths: WorkstationPaths,
        spec: Spec,
        chip: ChipProcess,
        mailbox: ChipClient,
        accelerator: Accelerator,
        journal: Journal,
        *,
        provision: bytes | None,
    ) -> None:
        self._paths = paths
        self._spec = spec
        self._chip = chip
        self._mailbox = mailbox
        self._accelerator = accelerator
        self._journal = journal
        self._provision = provision
        self._nonce = guest_port.new_nonce()
        self._greeted = False
        self._reached = "disk"
        self._progress = asyncio.Event()
        self._end: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._tasks: set[asyncio.Task[None]] = set()
        self._serial, self._guest, self._monitor, self._agent = (Pair() for _ in range(4))
        self._qemu: subprocess.Popen[bytes] | None = None
        self._master: subprocess.Popen[bytes] | None = None
        self._qmp: Qmp | None = None
        self._stopping = False
        self._ended: outcomes.Outcome | None = None
        self._monitored = False
        self._reports_left = REPORT_LIMIT

    async def run(self, board: boards.Board) -> Outcome:
        """Start the machine, watch it until it is off; raises SpacegrayError if it cannot start."""
        try:
            self._power_on(board)
            self._watch(self._run_monitor())
            self._watch(self._read_serial())
            self._watch(self._read_guest())
            self._watch(agent.relay(self._paths, self._agent))
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

    # Power on

    def _power_on(self, board: boards.Board) -> None:
        with contextlib.ExitStack() as handed_over:
            for pair in (self._serial, self._guest, self._monitor, self._agent):
                handed_over.callback(pair.theirs.close)
            started = handed_over.enter_context(
                self._mailbox.prepare_start(strict=self._spec.strict)
            )
            for event in started.links:
                self._journal.link(event.link, event.status, event.detail, at=event.at)
            descriptors = boards.Descriptors(
                firmware=started.firmware,
                variables=started.variables,
                disk=started.disk,
                monitor=self._monitor.theirs.fileno(),
                serial=self._serial.theirs.fileno(),
                guest_port=self._guest.theirs.fileno(),
                agent_port=self._agent.theirs.fileno(),
            )
            identity = boards.Identity(self._paths.name, int(self._mailbox.show()["ecid"], 16))
            self._paths.logs.mkdir(exist_ok=True)
            with (self._paths.logs / "qemu.log").open("wb") as log:
                try:
                    self._qemu = process.spawn(
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
            self._finish("failed", error.stopped_by, link=error.link or self._next_link())
        elif error is not None and not self._end.done():
            self._end.set_exception(error)

    def _finish(self, ending: Ending, reason: str, *, link: str | None = None) -> None:
        if not self._end.done():
            self._end.set_result(Outcome(ending, reason, link))

    def _next_link(self) -> str:
        position = LINKS.index(self._reached) + 1
        return LINKS[min(position, len(LINKS) - 1)]

    def _pass(self, link: str, detail: str) -> None:
        """The boot chain got past `link`; what lies before it needs no word of its own."""
        if LINKS.index(link) <= LINKS.index(self._reached):
            return
        self._reached = link
        self._journal.link(link, "ok", detail)
        self._progress.set()

    def _fail(self, link: str, detail: str) -> None:
        if self._end.done():
            return
        self._journal.link(link, "failed", detail)
        self._finish("failed", detail, link=link)

    def _may_report(self) -> bool:
        """Whether the guest may still cause an entry; it must not fill the host's disk."""
        self._reports_left -= 1
        return self._reports_left >= 0

    async def _await_links(self) -> None:
        """Nothing new for too long: the guest hangs."""
        while self._reached != LINKS[-1]:
            link = self._next_link()
            seconds = LINK_SECONDS[link] * self._accelerator.timeout_factor
            self._progress.clear()
            try:
                await asyncio.wait_for(self._progress.wait(), seconds)
            except TimeoutError:
                if not self._stopping:
                    self._fail(
                        link, f"nothing more was heard for {seconds:.0f} s after {self._reached!r}"
                    )
                return

    async def _run_monitor(self) -> None:
        try:
            self._qmp = await Qmp.connect(self._monitor.ours)
            await self._qmp.wait_running()
            self._pass("machine", f"QEMU runs with {self._accelerator.name}")
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
                self._fail(self._next_link(), ended.text)

    async def _read_serial(self) -> None:
        watch = SerialWatch()
        log = CappedLog(self._paths.logs / "serial.log")
        with contextlib.closing(log):
            async for data in self._serial.receive():
                log.write(data)
                for seen in watch.feed(data):
                    if seen.status == "ok":
                        await self._greet()
                        self._pass(seen.link, seen.detail)
                    elif seen.fatal or self._reached != LINKS[-1]:
                        self._fail(seen.link, seen.detail)
                    elif self._may_report():
                        self._journal.link(seen.link, "failed", seen.detail)

    async def _greet(self) -> None:
        """Tell the guest this start's nonce, once its kernel runs.

        Not before: firmware that has a driver for the port (OVMF since 2023) reads it as a console.
        """
        if not self._greeted:
            self._greeted = True
            with contextlib.suppress(OSError):
                await self._guest.send(guest_port.greeting(self._nonce, self._provision))

    async def _read_guest(self) -> None:
        rest = b""
        async for data in self._guest.receive():
            *lines, rest = (rest + data).split(b"\n")
            if len(rest) > guest_port.LINE_LIMIT_BYTES:
                raise SpacegrayError(
                    "listening to the guest", "it sent an endless line", "see `logs`", link="login"
                )
            for line in lines:
                await self._hear(line)

    async def _hear(self, line: bytes) -> None:
        try:
            ready = guest_port.parse_ready(line, self._nonce)
        except guest_port.GuestError as error:
            if self._may_report():
                self._journal.note(f"the guest was not believed: {error}")
            return
        if ready is None or self._reached == LINKS[-1] or self._qmp is None:
            return
        port = await network.forward_ssh(self._qmp)
        ssh.trust(self._paths, ready.host_key)
        if ready.provisioned:
            self._paths.provision.unlink(missing_ok=True)
        secure = ready.secure_boot and not ready.setup_mode
        self._journal.ready(secure_boot=secure, kernel=ready.kernel, ssh_port=port)
        state = "on" if secure else "OFF"
        self._pass("login", f"Linux {ready.kernel}, Secure Boot {state}, boot {ready.boot_id}")
        self._journal.change("running")
        self._watch(self._keep_connected(port))

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
            self._fail(self._next_link(), ended.text)
        elif ended is None or ended.kind == "stopped":
            text = last_line(self._paths.logs / "qemu.log") or f"its exit status was {status}"
            self._fail("machine", f"QEMU was killed or failed: {text}")
        elif ended.kind == "reset":
            self._finish("reset", ended.text)
        elif self._reached == LINKS[-1]:
            self._finish("off", ended.text)
        else:
            self._fail(self._next_link(), f"{ended.text} before it was up")

    async def _drain(self) -> None:
        """Wait until the readers have seen the end of what QEMU wrote and reported."""
        while not (self._serial.ended and self._guest.ended and self._monitored):
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
                if self._reached == LINKS[-1]:
                    await self._ask_to_power_off()
                self._cut_power()
        except TimeoutError:
            self._journal.note(
                f"the guest did not shut down in {timeout_seconds:.0f} s; the power was cut"
            )
            self._cut_power()

    async def _ask_to_power_off(self) -> None:
        with contextlib.suppress(OSError):
            await self._guest.send(b"poweroff\n")
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
        for pair in (self._serial, self._guest, self._monitor, self._agent):
            pair.close()
