"""Guards: a loopback connection is told by the user who made it."""

import os
import socket

from spacegray.console.peer import can_tell, loopback_uid


def test_our_own_connection_is_ours():
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as client,
    ):
        uid = loopback_uid(client.getsockname(), listener.getsockname())
        assert uid == os.getuid()
        nobody = (client.getsockname()[0], 1)
        assert loopback_uid(nobody, listener.getsockname()) is None


def test_a_program_that_uses_ipv6_sockets_for_all_is_told_too():
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as client,
    ):
        client.connect(("::ffff:127.0.0.1", listener.getsockname()[1]))
        _, peer = listener.accept()
        assert loopback_uid(peer, listener.getsockname()) == os.getuid()


def test_a_client_that_hangs_up_is_nobody():
    """Its connection is shown as root's from then on."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as client,
    ):
        accepted, peer = listener.accept()
        client.shutdown(socket.SHUT_WR)
        assert accepted.recv(1) == b""
        assert loopback_uid(peer, listener.getsockname()) is None
        client.close()
        assert loopback_uid(peer, listener.getsockname()) is None
        accepted.close()


def test_this_host_can_tell():
    assert can_tell()


def test_the_users_column_is_what_is_read(tmp_path):
    table = tmp_path / "tcp"
    head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid\n"
    row = "   0: 0100007F:C350 0100007F:1432 {} 00000000:00000000 00:00000000 00000000  1042 0 7\n"
    ends = ("127.0.0.1", 0xC350), ("127.0.0.1", 0x1432)
    table.write_text(head + row.format("01"))
    assert loopback_uid(*ends, tables=[table]) == 1042
    table.write_text(head + row.format("06"))
    assert loopback_uid(*ends, tables=[table]) is None, "only an established connection has a user"


def test_what_cannot_be_told_is_not_guessed(tmp_path):
    ends = ("::1", 1), ("127.0.0.1", 2)
    assert loopback_uid(*ends) is None
    assert loopback_uid(("127.0.0.1", 1), ("127.0.0.1", 2), tables=[tmp_path / "none"]) is None
