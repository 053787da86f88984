"""Starting a chip: the process is the caller's child and dies with the caller's thread."""

import contextlib
import os
import re
import select
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from spacegray import files, process, programs
from spacegray.chip import privacy
from spacegray.chip import tpm as tpms
from spacegray.chip.client import ChipClient
from spacegray.chip.controller import PROGRAM_NAME
from spacegray.chip.launching import FAILURE_PREFIX, READY, Options
from spacegray.chip.messages import Seal
from spacegray.chip.refusal import ChipRefusalError
from spacegray.errors import SpacegrayError
from spacegray.paths import WorkstationPaths

READY_SECONDS: Final = 60.0
STOP_SECONDS: Final = 45.0
"""More than the chip gives its disk to close."""
VAULT_NAME: Final = "vaultd"
VAULT_VARIABLE: Final = "SPACEGRAY_VAULTD"
SSD_VARIABLE: Final = "SPACEGRAY_SSDD"

_FAILURE = re.compile(rf"{FAILURE_PREFIX}([a-z]+) failed(?: \(([a-z_]+)\))?: (.*?): (.*); (.*)")
_FAILURE_TAIL_BYTES = 4096


def tpm_place() -> Path:
    """Where this host's TPM is: SPACEGRAY_TPM (a device or a unix socket), else the kernel's."""
    return tpms.place()


def find_vaultd() -> Path:
    """The vault's program: SPACEGRAY_VAULTD, else installed beside Python, else as built.

    Raises SpacegrayError when it is nowhere.
    """
    return programs.find(VAULT_NAME, VAULT_VARIABLE, link="chip")


def find_ssdd() -> Path:
    """The disk controller's program, likewise: SPACEGRAY_SSDD, beside Python, as built."""
    return programs.find(PROGRAM_NAME, SSD_VARIABLE, link="chip")


@dataclass
class ChipProcess:
    """A running chip. As a context manager it stops the chip at the end."""

    process: "subprocess.Popen[bytes]"
    mailbox: Path
    _diagnostics: int
    _said_before_bytes: int

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def client(self) -> ChipClient:
        """A connection to it; raises SpacegrayError, saying why it ended if it has."""
        try:
            return ChipClient(self.mailbox)
        except SpacegrayError:
            raise self.failure() or SpacegrayError(
                "speaking to the chip", "it does not answer", "see `logs`", link="chip"
            ) from None

    def failure(self) -> SpacegrayError | None:
        """Why the chip ended by itself; None while it runs or when it was stopped in order."""
        if not self.process.poll():
            return None
        lines = self._said().splitlines()
        for line in reversed(lines):
            if match := _FAILURE.fullmatch(line):
                link, code, *words = match.groups()
                return ChipRefusalError(*words, code=code, link=link)
        status = self.process.returncode
        last = lines[-1] if lines else ""
        return SpacegrayError(
            "running the chip",
            f"it died (status {status}) {last}",
            "start the workstation again; see `logs`",
            link="chip",
        )

    def stop(self) -> None:
        """Stop it, which closes its disk in order. May be called again.

        Raises SpacegrayError when the disk could not be closed in order.
        """
        asked = self.process.poll() is None
        process.stop(self.process, timeout_seconds=STOP_SECONDS)
        error = self.failure() if asked else None
        if self._diagnostics >= 0:
            os.close(self._diagnostics)
            self._diagnostics = -1
        if error is not None:
            raise error

    def _said(self) -> str:
        if self._diagnostics < 0:
            return ""
        size = os.fstat(self._diagnostics).st_size
        start = max(self._said_before_bytes, size - _FAILURE_TAIL_BYTES)
        return os.pread(self._diagnostics, _FAILURE_TAIL_BYTES, start).decode(errors="replace")


def launch(
    paths: WorkstationPaths,
    *,
    new: bool = False,
    seal: Seal = "keyfile",
    tpm: Path | None = None,
    vaultd: Path | None = None,
    ssdd: Path | None = None,
    log: Path | None = None,
    timeout_seconds: float = READY_SECONDS,
) -> ChipProcess:
    """Start the chip of a workstation and wait until its mailbox listens.

    With `new` nothing is opened: for a birth under `seal`, and to destroy whatever there is.
    Otherwise it opens, and waits sealed where it needs its passphrase. `tpm`: where this host's
    TPM is, which counts only for that seal; SPACEGRAY_TPM or the kernel's where it is not said.
    What the chip says on standard error goes to the end of `log`, if that can be written. Call it
    from a thread that lives as long as the chip is to: the kernel ends the chip together with that
    thread. Raises SpacegrayError with the chip's own words, as ChipRefusalError where there is a
    code.
    """
    state_folder = files.make_private(paths.state_folder)
    privacy.tighten(state_folder, paths.name)
    options = Options(
        name=paths.name,
        state=str(state_folder),
        folder=str(paths.folder),
        run=str(files.make_private(paths.run)),
        vaultd=str(vaultd or find_vaultd()),
        ssdd=str(ssdd or find_ssdd()),
        tpm=str(tpm or tpms.place()),
        host_state=str(paths.host_state),
        new=new,
        seal=seal if new else None,
    )
    command = [*process.python("spacegray.chip"), *options.words()]
    diagnostics = _open_log(log)
    try:
        said_before = os.fstat(diagnostics).st_size
        child = process.spawn(command, stdout=subprocess.PIPE, stderr=diagnostics)
    except BaseException:
        os.close(diagnostics)
        raise
    chip = ChipProcess(child, paths.mailbox, diagnostics, said_before)
    try:
        _await_ready(chip, timeout_seconds)
    except BaseException:
        process.stop(child)
        os.close(diagnostics)
        raise
    return chip


def _open_log(log: Path | None) -> int:
    # Where there is no writing, the chip speaks all the same: it may be started to be erased.
    with contextlib.suppress(OSError):
        if log is not None:
            return os.open(log, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    return os.memfd_create("chip-diagnostics", os.MFD_CLOEXEC)


def _await_ready(chip: ChipProcess, timeout_seconds: float) -> None:
    output = chip.process.stdout
    assert output is not None
    deadline = time.monotonic() + timeout_seconds
    with output:
        while select.select([output], [], [], max(0.0, deadline - time.monotonic()))[0]:
            line = output.readline()
            if line.decode(errors="replace").strip() == READY:
                return
            if not line:
                chip.process.wait(timeout_seconds)
                raise chip.failure() or SpacegrayError(
                    "starting the chip", "it ended", "see `logs`", link="chip"
                )
    raise SpacegrayError(
        "starting the chip", f"not ready within {timeout_seconds:.0f} s", "see `logs`", link="chip"
    )
