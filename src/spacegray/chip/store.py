"""EDK II's variable store: read from whatever a machine left, and written anew.

Source: EDK II, MdeModulePkg/Include/Guid/VariableFormat.h and the firmware volume of the Platform
Initialization Specification, volume 3. What is read may come from an enemy: each length is checked
before it is used, the work is bounded by the store's size, and nothing is decoded further.
"""

import struct
import uuid
from collections.abc import Iterable
from typing import Final, NamedTuple

NON_VOLATILE: Final = 0x01
BOOT_SERVICE: Final = 0x02
RUNTIME: Final = 0x04
TIME_AUTHENTICATED: Final = 0x20

GLOBAL: Final = uuid.UUID("8be4df61-93ca-11d2-aa0d-00e098032b8c")
"""The vendor of the variables that the UEFI specification names."""
SECURITY: Final = uuid.UUID("d719b2cb-3d3a-4596-a3bc-dad00e67656f")
"""The vendor of db and dbx."""

SIZE_LIMIT_BYTES: Final = 4 * 1024**2

_NV_DATA: Final = uuid.UUID("fff12b8d-7696-4c8b-a985-2747075b4f50").bytes_le
_AUTHENTICATED: Final = uuid.UUID("aaf32c78-947b-439a-a180-2e144ec37792").bytes_le
_VOLUME: Final = struct.Struct("<16x16sQ4sIHHHBB")
_VOLUME_MAGIC: Final = b"_FVH"
_STORE: Final = struct.Struct("<16sIBBHI")
_FORMATTED, _HEALTHY = 0x5A, 0xFE
_VARIABLE: Final = struct.Struct("<HBxIQ16sIII16s")
_MAGIC: Final = 0x55AA
_ADDED, _DELETING = 0x3F, 0x3E
"""A whole variable; one that was being replaced when the power went, and still counts."""
_ALIGNMENT: Final = 4
_ERASED: Final = b"\xff"
_TIME: Final = struct.Struct("<HBBBBBBIhBB")
_LONG_AGO: Final = _TIME.pack(2010, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0)
"""When what needs a time was written: before every update that anybody signed."""


class Variable(NamedTuple):
    """One variable of a store."""

    name: str
    vendor: uuid.UUID
    attributes: int
    data: bytes


class Shape(NamedTuple):
    """Where in a store's file the variables lie: from `start` up to `end`."""

    start: int
    end: int


def shape(content: bytes) -> Shape:
    """Where the variables lie in the file `content`; raises ValueError for what is no store."""
    try:
        kind, size, magic, _, header_bytes, *_ = _VOLUME.unpack_from(content)
        vendor, store_bytes, formatted, healthy, _, _ = _STORE.unpack_from(content, header_bytes)
    except struct.error:
        raise ValueError("not an EDK II store") from None
    start, end = header_bytes + _STORE.size, header_bytes + store_bytes
    if (kind, magic, vendor) != (_NV_DATA, _VOLUME_MAGIC, _AUTHENTICATED):
        raise ValueError("not an EDK II store")
    if (formatted, healthy) != (_FORMATTED, _HEALTHY) or not start <= end <= size <= len(content):
        raise ValueError("a damaged EDK II store")
    return Shape(start, end)


def read(content: bytes) -> list[Variable]:
    """The variables in the store `content`, those that count, in their order.

    Raises ValueError for what is no store, or has a variable that does not fit into it.
    """
    at, end = shape(content)
    found = []
    while at + _VARIABLE.size <= end:
        magic, state, attributes, _, _, _, name_bytes, data_bytes, vendor = _VARIABLE.unpack_from(
            content, at
        )
        if magic != _MAGIC:
            break
        data_at = at + _VARIABLE.size + name_bytes
        after = data_at + data_bytes
        if after > end:
            raise ValueError("a variable that does not fit into its store")
        if state in (_ADDED, _DELETING):
            name = _text(content[at + _VARIABLE.size : data_at])
            data = content[data_at:after]
            found.append(Variable(name, uuid.UUID(bytes_le=vendor), attributes, data))
        at = after + -after % _ALIGNMENT
    return found


def write(template: bytes, variables: Iterable[Variable]) -> bytes:
    """A store in the shape of `template`, with these variables and none of its own.

    Raises ValueError when the template is none, or they do not fit.
    """
    start, end = shape(template)
    body = b"".join(_written(each) for each in variables)
    if start + len(body) > end:
        raise ValueError(f"{len(body)} bytes of variables do not fit into {end - start}")
    return template[:start] + body.ljust(end - start, _ERASED) + template[end:]


def text(words: str) -> bytes:
    """`words` as firmware writes them: UTF-16, ended by a zero."""
    return words.encode("utf-16-le") + b"\0\0"


def _text(name: bytes) -> str:
    try:
        return name.decode("utf-16-le").rstrip("\0")
    except UnicodeDecodeError:
        raise ValueError("a variable whose name is no text") from None


def _written(variable: Variable) -> bytes:
    name = text(variable.name)
    stamped = variable.attributes & TIME_AUTHENTICATED
    header = _VARIABLE.pack(
        _MAGIC,
        _ADDED,
        variable.attributes,
        0,
        _LONG_AGO if stamped else bytes(_TIME.size),
        0,
        len(name),
        len(variable.data),
        variable.vendor.bytes_le,
    )
    content = header + name + variable.data
    return content + _ERASED * (-len(content) % _ALIGNMENT)
