"""What no start may take, whoever signed it: the beginning of dbx.

The list is the one that real machines are given by updates; `revoked.txt` says where it is from.
The guest's own updates of dbx come on top (`keeping`).
"""

import functools
from pathlib import Path

_LIST = Path(__file__).with_name("revoked.txt")


@functools.cache
def revoked() -> tuple[bytes, ...]:
    """SHA-256 (Authenticode) of images, 32 bytes each."""
    lines = _LIST.read_text().splitlines()
    return tuple(bytes.fromhex(line) for line in lines if not line.startswith("#"))
