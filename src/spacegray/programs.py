"""Where our own Rust programs are: beside Python when installed, in the checkout when built."""

import os
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from spacegray.errors import SpacegrayError


def find(name: str, variable: str, *, link: str | None = None) -> Path:
    """The program `name`: what the environment's `variable` says, else installed, else as built.

    Raises SpacegrayError, which names the boot chain's `link`, when it is nowhere.
    """
    if override := os.environ.get(variable):
        return Path(override)
    places = tuple(folder / name for folder in _folders())
    for place in places:
        if os.access(place, os.X_OK):
            return place
    raise SpacegrayError(
        f"looking for the program {name}",
        f"it is not in {' or '.join(str(place.parent) for place in places)}",
        "run `./run doctor`, which builds it",
        link=link,
    )


def _folders() -> Iterator[Path]:
    yield Path(sysconfig.get_path("scripts"))
    yield Path(__file__).resolve().parents[2] / ".build" / "silicon" / "release"
