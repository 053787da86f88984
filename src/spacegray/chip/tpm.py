"""The host's TPM, as far as the firmware has to do with it: found, opened, given to the vault.

Nothing is said to it here. It is opened before the chip confines itself, so that afterwards
neither its device nor its socket is within reach of the firmware.
"""

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from spacegray.sockets import connect_unix

VARIABLE: Final = "SPACEGRAY_TPM"
DEVICE: Final = Path("/dev/tpmrm0")
"""The kernel's resource manager, which many may use at once."""
CONNECT_SECONDS: Final = 10.0


def place() -> Path:
    """Where this host's TPM is: SPACEGRAY_TPM (a device or a unix socket), else the kernel's."""
    return Path(os.environ.get(VARIABLE) or DEVICE)


@dataclass
class Tpm:
    """A connection to the host's TPM, or why there is none."""

    host_state: Path
    """The folder with this host's map of workstations, one for all of them."""
    descriptor: int = -1
    trouble: str = ""

    @classmethod
    def connect(cls, at: Path, host_state: Path) -> "Tpm":
        """Open the device or the socket `at`; where that fails `trouble` says why."""
        try:
            kind = at.stat().st_mode
            if stat.S_ISSOCK(kind):
                with connect_unix(at, timeout_seconds=CONNECT_SECONDS) as connection:
                    connection.settimeout(None)
                    return cls(host_state, connection.detach())
            if stat.S_ISCHR(kind):
                return cls(host_state, os.open(at, os.O_RDWR | os.O_CLOEXEC | os.O_NOCTTY))
            trouble = "it is neither a device nor a socket"
        except OSError as error:
            trouble = error.strerror or str(error)
        return cls(host_state, trouble=f"the TPM at {at} does not open: {trouble}")

    def detach(self) -> int:
        """The descriptor, now the caller's to close; -1 where there is none."""
        descriptor, self.descriptor = self.descriptor, -1
        return descriptor
