"""Work orders: read for the chip, which alone judges them, and issued on a provider's side.

An order is one job on the machine of one chip within some days, signed by a provider whose key the
machine's owner trusts (docs/service.md). Here it is bytes, but for what is done before the chip
is asked and would be in vain (`foresee`); no provider's private key is ever an object.
"""

import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
)

from spacegray import cose
from spacegray.boot.authority import embedded
from spacegray.chip.messages import Job as JobName
from spacegray.chip.service_record import Provider
from spacegray.chip.vault_words import WORDS
from spacegray.cose import Sign1
from spacegray.errors import SpacegrayError, UsageError
from spacegray.paths import Paths
from spacegray.workstation.jobs import Job

ORDER_LIMIT_BYTES: Final = 512
DAYS_LIMIT: Final = 366
"""No order is valid for longer."""
_DAY_SECONDS: Final = 24 * 3600
_ECID: Final = re.compile(r"0x[0-9a-f]{16}")
_TYPE: Final = "application/x-spacegray-work-order+cbor"
_EXTERNAL: Final = b"spacegray work order 1"
_U64 = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class _Order(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is signed of an order, as it lies there."""

    id: Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
    job: JobName
    ecid: int
    type: Literal["work order"]
    issued: _U64
    version: Literal[1]
    not_after: _U64
    not_before: _U64


def read(file: Path) -> bytes:
    """The work order in a file, unread; raises UsageError where there is none."""
    doing = f"reading the work order {file}"
    try:
        with file.open("rb") as opened:
            order = opened.read(ORDER_LIMIT_BYTES + 1)
    except OSError as error:
        raise UsageError(doing, error.strerror, "give the path of a readable file") from None
    if not 0 < len(order) <= ORDER_LIMIT_BYTES:
        raise UsageError(
            doing,
            f"a work order has 1 to {ORDER_LIMIT_BYTES} bytes",
            "give the file that the provider issued",
        )
    return order


def foresee(order: bytes, doing: str, *, ecid: str, job: Job, trusted: Sequence[Provider]) -> None:
    """Raise SpacegrayError where the chip with this `ecid` is sure not to take `order` now.

    For what would be lost labour then. That it was used before, and all else, the chip says.
    """
    stopped_by, next_step = WORDS["order"]
    try:
        sign1 = Sign1.parse(order)
    except ValueError:
        raise SpacegrayError(doing, f"{stopped_by}: it is none", next_step) from None
    if not any(_signed_by(sign1, provider) for provider in trusted):
        stopped_by = f"{stopped_by}: no trusted provider signed it"
        raise SpacegrayError(doing, stopped_by, next_step)
    try:
        said = msgspec.convert(sign1.content, _Order, builtin_types=(bytes,))
    except msgspec.ValidationError:
        raise SpacegrayError(doing, f"{stopped_by}: it is none", next_step) from None
    if said.ecid != int(ecid, 16):
        raise SpacegrayError(
            doing,
            "the work order is for another chip",
            f"have the provider issue one for this one, {ecid}",
        )
    if said.job != job.text:
        raise SpacegrayError(doing, *WORDS["job"])
    if not said.not_before <= int(time.time()) <= said.not_after:
        raise SpacegrayError(doing, *WORDS["validity"])


def _signed_by(order: Sign1, provider: Provider) -> bool:
    key = load_der_public_key(provider.key)
    assert isinstance(key, ec.EllipticCurvePublicKey), "the chip takes no other"
    return order.header.get(cose.TYPE) == _TYPE and order.signed_by(key, _EXTERNAL)


def issue(paths: Paths, provider: str, ecid: str, job: Job, days: int) -> bytes:
    """A work order by the provider whose keys lie on this host, valid from now on.

    `ecid` is the chip's, as `chip show` has it. Raises UsageError and SpacegrayError.
    """
    if not _ECID.fullmatch(ecid):
        raise UsageError(
            "issuing a work order",
            f"{ecid!r} is no ECID: 0x and 16 digits",
            "give the one that `chip show` says",
        )
    keys = paths.provider(provider)
    if not keys.is_dir():
        raise UsageError(
            "issuing a work order",
            f"this host has no keys of a provider {provider}",
            f"`service provider-key --provider {provider}` makes them, for owners to trust",
        )
    now = int(time.time())
    with embedded(keys) as signer:
        return signer.sign_order(int(ecid, 16), job.text, now, now + days * _DAY_SECONDS)


def provider_key(paths: Paths, provider: str) -> bytes:
    """The key by which a provider's orders are known, PEM; made where there is none yet."""
    with embedded(paths.provider(provider)) as signer:
        key = load_der_public_key(signer.order_key())
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
