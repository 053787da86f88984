"""The chip's process: `python -m spacegray.chip`, started by `spacegray.chip.launch`.

Prints `ready` once the mailbox listens. Ends on SIGTERM, with its parent, or with status 1
and one last line `chip: link LINK failed (CODE): …` on standard error when it cannot go on; the
code is there where the vault had a word for it.
"""

import argparse
import contextlib
import socket
import sys
from pathlib import Path
from typing import get_args

from spacegray import files
from spacegray.chip import manifest
from spacegray.chip.core import Place
from spacegray.chip.firmware import Firmware
from spacegray.chip.launch import FAILURE_PREFIX, LOCK_NAME, READY
from spacegray.chip.mailbox import Loop
from spacegray.chip.messages import Seal
from spacegray.chip.tpm import Tpm
from spacegray.confinement import Reach, confine
from spacegray.errors import SpacegrayError
from spacegray.sockets import bind_unix

_SYSTEM = ("/usr", "/bin", "/lib", "/lib64", "/etc", "/proc", "/dev")


def main(arguments: list[str] | None = None) -> int:
    """Run one chip; returns its exit status."""
    options = _parse(arguments)
    place = Place(
        name=options.name,
        state_folder=options.state,
        folder=options.folder,
        run=options.run,
        vault_program=options.vaultd,
        ssd_program=options.ssdd,
    )
    try:
        _run(place, new=options.new, tpm=_tpm(options))
    except SpacegrayError as error:
        return _fail(error)
    except OSError as error:
        return _fail(
            SpacegrayError(
                f"starting the chip of {place.name}",
                f"{error.filename or 'the host'}: {error.strerror}",
                "see `spacegray doctor`",
                link="chip",
            )
        )
    return 0


def _fail(error: SpacegrayError) -> int:
    code = getattr(error, "code", None)
    word = f" ({code})" if code else ""
    print(f"{FAILURE_PREFIX}{error.link or 'chip'} failed{word}: {error}", file=sys.stderr)
    return error.exit_status


def _tpm(options: argparse.Namespace) -> Tpm | None:
    """The host's TPM, if this chip's seal is in it; opened now, out of reach later."""
    seal: Seal | None = options.seal
    with contextlib.suppress(SpacegrayError):
        seal = manifest.read(options.state).seal
    return Tpm.connect(options.tpm, options.host_state) if seal == "tpm2" else None


def _run(place: Place, *, new: bool, tpm: Tpm | None) -> None:
    with files.locked(files.make_private(place.state_folder) / LOCK_NAME) as free:
        if not free:
            raise SpacegrayError(
                f"starting the chip of {place.name}",
                "it runs already",
                "stop that workstation first",
                link="chip",
            )
        _confine(place, host_state=None if tpm is None else tpm.host_state)
        loop = Loop()
        loop.stop_on_signals()
        firmware = Firmware(place, loop, tpm)
        try:
            if not new:
                firmware.open()
            _serve(place, loop, firmware)
        finally:
            firmware.stop()
        if firmware.failure is not None:
            raise firmware.failure


def _serve(place: Place, loop: Loop, firmware: Firmware) -> None:
    mailbox = files.make_private(place.run) / "mailbox"
    with bind_unix(mailbox) as listener:
        try:
            print(READY, flush=True)
            loop.serve(listener, firmware.answer, lambda: firmware.failure is not None)
        finally:
            mailbox.unlink(missing_ok=True)


def _confine(place: Place, *, host_state: Path | None) -> None:
    """Leave this process and all it starts only the files of this chip.

    `host_state`: the map of the host's TPM, for the vault of a chip that is sealed with it.
    """
    ours = Path(__file__).resolve().parents[2]
    read = (
        *map(Path, (*_SYSTEM, sys.prefix, sys.base_prefix)),
        ours,
        place.vault_program,
        place.ssd_program,
    )
    write = (
        place.state_folder,
        place.folder,
        files.make_private(place.run),
        Path("/dev/null"),
        *([files.make_private(host_state)] if host_state else []),
    )
    try:
        confine(Reach(read, write, sockets=(socket.AF_UNIX,), processes=True, modes=True))
    except OSError as error:
        raise SpacegrayError(
            "confining the chip", error, "see `spacegray doctor`", link="chip"
        ) from None


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m spacegray.chip", description=__doc__)
    parser.add_argument("--name", required=True)
    for option in ("--state", "--folder", "--run"):
        parser.add_argument(option, required=True, type=Path)
    for program in ("--vaultd", "--ssdd"):
        parser.add_argument(program, required=True, type=Path)
    for option in ("--tpm", "--host-state"):
        parser.add_argument(option, required=True, type=Path)
    parser.add_argument("--new", action="store_true", help="open nothing")
    parser.add_argument("--seal", choices=get_args(Seal), help="what is to seal a new chip")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
