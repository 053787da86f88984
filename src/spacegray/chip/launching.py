"""What a chip's process and who launches it agree on: its arguments, and what it says."""

from typing import Final

import msgspec

from spacegray.chip.messages import Seal

READY: Final = "ready"
"""Said on standard output once the mailbox listens."""
FAILURE_PREFIX: Final = "chip: link "
"""How the last line begins that a failed chip says on standard error."""
LOCK_NAME: Final = "chip.lock"


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="kebab"):
    """What a chip is to run on, as `--option=value` each; these are paths but the `name`."""

    name: str
    state: str
    folder: str
    run: str
    vaultd: str
    ssdd: str
    tpm: str
    """Where this host's TPM is; it counts only for the seal that needs it."""
    host_state: str
    new: bool = False
    """Open nothing."""
    seal: Seal | None = None
    """What is to seal a new chip."""

    def words(self) -> list[str]:
        """The arguments."""
        given = msgspec.to_builtins(self)
        return [f"--{name}={value}" for name, value in given.items() if value is not None]


def options(words: list[str]) -> Options:
    """What the arguments say; raises ValueError where they are none."""
    given = dict(word.removeprefix("--").split("=", 1) for word in words)
    return msgspec.convert(given, Options, strict=False)
