"""Guards: the port is the first free one on loopback."""

import socket

import pytest

from spacegray.console.limits import PORT_TRIES
from spacegray.console.server import listen
from spacegray.errors import SpacegrayError


def test_a_port_in_use_is_passed_over():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with listen(port) as found:
            host, chosen = found.getsockname()
            assert host == "127.0.0.1"
            assert port < chosen < port + PORT_TRIES


def test_no_free_port_is_one_clear_error(monkeypatch):
    monkeypatch.setattr("spacegray.console.server.PORT_TRIES", 1)
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(SpacegrayError, match="all in use"),
    ):
        listen(taken.getsockname()[1])
