"""The chip's process: `python -m spacegray.chip OPTIONS`, started by `spacegray.chip.launch`.

Prints `ready` once the mailbox listens. Ends on SIGTERM, with its parent, or with status 1
and one last line `chip: link LINK failed (CODE): …` on standard error when it cannot go on; the
code is there where the vault had a word for it.
"""

import contextlib
import socket
import sys
from pathlib import Path

from spacegray import files
from spacegray.chip import manifest
from spacegray.chip.core import Place
from spacegray.chip.firmware import Firmware
from spacegray.chip.launching import FAILURE_PREFIX, LOCK_NAME, READY, Options, options
from spacegray.chip.mailbox import Loop
from spacegray.chip.tpm import Tpm
from spacegray.confinement import Reach, confine
from spacegray.errors import SpacegrayError
from spacegray.sockets import bind_unix

_SYSTEM = ("/usr", "/bin", "/lib", "/lib64", "/etc", "/proc", "/dev")


def main(arguments: list[str]) -> int:
    """Run one chip; returns its exit status."""
    given = options(arguments)
    place = Place(
        name=given.name,
        state_folder=Path(given.state),
        folder=Path(given.folder),
        run=Path(given.run),
        vault_program=Path(given.vaultd),
        ssd_program=Path(given.ssdd),
    )
    try:
        _run(place, new=given.new, tpm=_tpm(given))
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


def _tpm(given: Options) -> Tpm | None:
    """The host's TPM, if this chip's seal is in it; opened now, out of reach later."""
    seal = given.seal
    with contextlib.suppress(SpacegrayError):
        seal = manifest.read(Path(given.state)).seal
    return Tpm.connect(Path(given.tpm), Path(given.host_state)) if seal == "tpm2" else None


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


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
