"""The chip's process: `python -m spacegray.chip`, started by `spacegray.chip.launch`.

Prints `ready` once the mailbox listens. Ends on SIGTERM, with its parent, or with status 1
and one last line `chip: link LINK failed: …` on standard error when it cannot go on.
"""

import argparse
import sys
from pathlib import Path

from spacegray import files
from spacegray.chip.firmware import Firmware, Place
from spacegray.chip.launch import FAILURE_PREFIX, LOCK_NAME, READY
from spacegray.chip.mailbox import Loop
from spacegray.errors import SpacegrayError
from spacegray.landlock import Reach, restrict
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
        firmware=options.firmware,
        template=options.vars_template,
        vault_program=options.vaultd,
        ssd_program=options.ssdd,
    )
    try:
        _run(place, birth_source=options.birth)
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
    print(f"{FAILURE_PREFIX}{error.link or 'chip'} failed: {error}", file=sys.stderr)
    return error.exit_status


def _run(place: Place, *, birth_source: str | None) -> None:
    with files.locked(files.make_private(place.state_folder) / LOCK_NAME) as free:
        if not free:
            raise SpacegrayError(
                f"starting the chip of {place.name}",
                "it runs already",
                "stop that workstation first",
                link="chip",
            )
        _confine(place)
        loop = Loop()
        loop.stop_on_signals()
        firmware = Firmware(place, loop)
        try:
            if birth_source is not None:
                firmware.birth(birth_source)
            else:
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


def _confine(place: Place) -> None:
    """Leave this process and all it starts only the files of this chip."""
    ours = Path(__file__).resolve().parents[2]
    read = (
        *map(Path, (*_SYSTEM, sys.prefix, sys.base_prefix)),
        ours,
        place.vault_program,
        place.ssd_program,
        place.firmware,
        place.template,
    )
    write = (place.state_folder, place.folder, files.make_private(place.run), Path("/dev/null"))
    try:
        restrict(Reach(read=read, write=write))
    except OSError as error:
        raise SpacegrayError(
            "confining the chip", error, "see `spacegray doctor`", link="chip"
        ) from None


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m spacegray.chip", description=__doc__)
    parser.add_argument("--name", required=True)
    for option in ("--state", "--folder", "--run", "--firmware", "--vars-template"):
        parser.add_argument(option, required=True, type=Path)
    for program in ("--vaultd", "--ssdd"):
        parser.add_argument(program, required=True, type=Path)
    parser.add_argument(
        "--birth",
        metavar="SOURCE",
        help="make the chip first; SOURCE says where the firmware image is from",
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
