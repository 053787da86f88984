"""Ports of the guest, reachable from this host's loopback and from nowhere else.

The machine's network is QEMU's user-mode stack (slirp): no privileges, outgoing connections
only, and forwarded ports that are added while the machine runs.
"""

import re
from typing import Final

from spacegray.errors import SpacegrayError
from spacegray.qmp import Qmp

NETWORK: Final = "network"
"""The id of the machine's network back end."""

SSH_PORT: Final = 22
LOOPBACK: Final = "127.0.0.1"

_TABLE: Final = "info usernet"
_FORWARD = re.compile(
    r"TCP\[HOST_FORWARD\]\s+\d+\s+127\.0\.0\.1\s+(?P<host>\d+)\s+\S+\s+(?P<guest>\d+)\s"
)


async def forward_ssh(qmp: Qmp) -> int:
    """Forward a free loopback port to the guest's SSH; returns its number."""
    return await forward(qmp, SSH_PORT)


async def forward(qmp: Qmp, guest_port: int) -> int:
    """Forward a TCP port of this host's loopback to `guest_port`; returns its number.

    The kernel chooses the port while QEMU binds it, so that nobody can be in between. Raises
    SpacegrayError when no port could be had, or QMP's errors.
    """
    before = forwards(await qmp.monitor(_TABLE))
    refusal = await qmp.monitor(f"hostfwd_add {NETWORK} tcp:{LOOPBACK}:0-:{guest_port}")
    # The human monitor says nothing when it succeeded; believe its table, not its silence.
    for host_port, guest in forwards(await qmp.monitor(_TABLE)).items():
        if guest == guest_port and host_port not in before:
            return host_port
    raise SpacegrayError(
        f"forwarding a port to port {guest_port} of the machine",
        refusal or "QEMU does not list it",
        "close programs that listen on many ports, then start the workstation again",
    )


def forwards(table: str) -> dict[int, int]:
    """The loopback ports in QEMU's `info usernet`, each with the guest's port behind it."""
    return {int(found["host"]): int(found["guest"]) for found in _FORWARD.finditer(table)}
