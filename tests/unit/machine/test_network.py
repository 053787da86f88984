"""A forwarded port is one that QEMU itself lists; a refusal is an error with its reason."""

import asyncio
from typing import cast

import pytest

from spacegray.errors import SpacegrayError
from spacegray.machine import network
from spacegray.qmp import Qmp

HEAD = "Hub -1 (network):\r\n  Protocol[State]    FD  Source Address  Port   Dest. Address\r\n"
SSH = "  TCP[HOST_FORWARD]  26       127.0.0.1 43913       10.0.2.15    22     0     0\r\n"
MORE = "  TCP[HOST_FORWARD]  27       127.0.0.1 56403       10.0.2.15    22     0     0\r\n"
OTHER = (
    "  TCP[ESTABLISHED]   28       127.0.0.1  4000       10.0.2.15    22     0     0\r\n"
    "  UDP[236 sec]       29       127.0.0.1  5000       10.0.2.3     53     0     0\r\n"
    "  TCP[HOST_FORWARD]  30         0.0.0.0  6000       10.0.2.15    22     0     0\r\n"
)


class Monitor:
    """Plays QEMU's human monitor: `tables` are its answers to `info usernet`, one after another."""

    def __init__(self, *tables: str, refusal: str = "") -> None:
        self.tables = list(tables)
        self.refusal = refusal
        self.asked: list[str] = []

    async def monitor(self, line: str) -> str:
        self.asked.append(line)
        return self.tables.pop(0) if line == "info usernet" else self.refusal


def forward(monitor: Monitor, port: int = 22) -> int:
    return asyncio.run(network.forward(cast(Qmp, monitor), port))


def test_only_forwards_from_the_loopback_are_read() -> None:
    assert network.forwards(HEAD + SSH + OTHER) == {43913: 22}
    assert network.forwards("") == {}


def test_the_port_is_the_new_one_in_the_table() -> None:
    monitor = Monitor(HEAD + SSH + OTHER, HEAD + MORE + SSH + OTHER)
    assert forward(monitor) == 56403
    assert "hostfwd_add network tcp:127.0.0.1:0-:22" in monitor.asked


def test_silence_without_a_new_forward_is_no_success() -> None:
    with pytest.raises(SpacegrayError, match="does not list"):
        forward(Monitor(HEAD + SSH, HEAD + SSH))


def test_a_refusal_is_told() -> None:
    with pytest.raises(SpacegrayError, match="Could not set up"):
        forward(Monitor(HEAD, HEAD, refusal="Could not set up host forwarding rule"))
