"""The screen: bytes of RFB between a browser's WebSocket and the machine, nothing in between.

Neither side is believed and neither is parsed here: the machine's bytes are for the page's
own decoder. Both directions stop reading while the other side does not take what it has.
"""

import asyncio
import contextlib
import socket

from starlette.websockets import WebSocket, WebSocketDisconnect

from spacegray.console.limits import SCREEN_CHUNK_BYTES

NORMAL_CLOSURE = 1000


async def bridge(websocket: WebSocket, connection: socket.socket) -> None:
    """Carry bytes both ways until either side ends; closes both."""
    connection.setblocking(False)
    reader, writer = await asyncio.open_unix_connection(sock=connection)
    ways = (
        asyncio.create_task(_to_browser(reader, websocket)),
        asyncio.create_task(_to_machine(websocket, writer)),
    )
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        writer.close()
        with contextlib.suppress(RuntimeError, WebSocketDisconnect):
            await websocket.close(NORMAL_CLOSURE)


async def _to_browser(reader: asyncio.StreamReader, websocket: WebSocket) -> None:
    with contextlib.suppress(OSError, WebSocketDisconnect):
        while chunk := await reader.read(SCREEN_CHUNK_BYTES):
            await websocket.send_bytes(chunk)


async def _to_machine(websocket: WebSocket, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError, WebSocketDisconnect):
        while True:
            message = await websocket.receive()
            if message["type"] == "websocket.disconnect":
                return
            writer.write(message.get("bytes") or b"")
            await writer.drain()
