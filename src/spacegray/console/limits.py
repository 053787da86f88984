"""Every limit of the console, with its unit."""

from typing import Final

FIRST_PORT: Final = 5170
PORT_TRIES: Final = 32
"""How many ports from FIRST_PORT on are tried before giving up."""

TOKEN_BYTES: Final = 32
TOKEN_SECONDS: Final = 60.0
"""How long a one-time token may be redeemed."""
TOKEN_LIMIT: Final = 8
"""Tokens waiting to be redeemed; a further one pushes out the oldest."""

SESSION_BYTES: Final = 32
SESSION_SECONDS: Final = 12 * 3600.0
"""How long a session lives after it was last used."""
SESSION_LIMIT: Final = 16
"""Sessions at a time; a further one ends the one unused for longest."""

WEBSOCKET_LIMIT: Final = 32
"""WebSockets open at a time, over all sessions."""
CONNECTION_LIMIT: Final = 128
"""TCP connections and requests in flight at a time; beyond it the server answers 503."""
BODY_LIMIT_BYTES: Final = 1024
"""No request of ours has a body, but for secrets."""
SECRET_LIMIT_BYTES: Final = BODY_LIMIT_BYTES
"""The chip takes none that is longer."""
SECRET_SECONDS: Final = 10.0
"""How long a browser may take to send one."""
HEADER_LIMIT_BYTES: Final = 16 * 1024
QUERY_VALUE_LIMIT_CHARACTERS: Final = 32
"""A date, an option's name or its value: none of them is that long."""
WEBSOCKET_MESSAGE_LIMIT_BYTES: Final = 1 << 20
"""One message from a browser: keys, pointer moves, and at the most pasted text."""
SCREEN_CHUNK_BYTES: Final = 256 * 1024
"""One message to a browser."""

PING_SECONDS: Final = 20.0
"""A browser that leaves a ping unanswered for this long is gone."""
STATUS_POLL_SECONDS: Final = 0.2
"""How soon a browser sees what the supervisor wrote down."""
EVENT_LINE_LIMIT_BYTES: Final = 64 * 1024
HISTORY_LIMIT_BYTES: Final = 32 * 1024
"""How much of the end of an event log a browser is sent when it connects."""

IDLE_SECONDS: Final = 30.0
"""With no workstation alive and nobody watching for this long, the console ends itself."""
IDLE_POLL_SECONDS: Final = 2.0
START_SECONDS: Final = 30.0
"""How long a console may take to be ready, and whoever wants one may wait for another's."""
KNOCK_SECONDS: Final = 5.0
"""How long the console may take to answer on its unix socket, and a client to ask."""
SHUTDOWN_SECONDS: Final = 2
"""How long open connections may last once the console ends."""

LOG_LIMIT_BYTES: Final = 1 << 20
ERRAND_OUTPUT_LIMIT_CHARACTERS: Final = 4000
PORTER_REQUEST_LIMIT: Final = 32
"""What the console may have under way at its porter at a time."""
