"""One request and its reply on the link to one of the chip's parts.

A packet of a SOCK_SEQPACKET pair is one CBOR map of at most PACKET_LIMIT_BYTES; descriptors may go
along with a request. Both parts speak so: docs/vault-protocol.md, docs/ssd-protocol.md.
"""

import array
import socket
from collections.abc import Sequence
from typing import Any, Final

from spacegray.chip.messages import decode_map, encode_map
from spacegray.sockets import PeerError

PACKET_LIMIT_BYTES: Final = 4096


def exchange(
    link: socket.socket, request: dict[str, Any], descriptors: Sequence[int] = (), *, peer: str
) -> dict[str, Any]:
    """Send a request; returns the reply, whatever it says.

    Raises OSError when the link fails or times out, PeerError when `peer` hung up or did not
    answer with one map.
    """
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))]
    link.sendmsg([encode_map(request)], rights if descriptors else [])
    packet = link.recv(PACKET_LIMIT_BYTES + 1)
    if not packet:
        raise PeerError(f"{peer} hung up")
    if len(packet) > PACKET_LIMIT_BYTES:
        raise PeerError("a packet over the limit")
    return decode_map(packet)
