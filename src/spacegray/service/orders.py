"""Work orders: read for the chip, which alone judges them, and issued on a provider's side.

An order is one job on the machine of one chip within some days, signed by a provider whose key the
machine's owner trusts (docs/service.md). Here it is bytes; no key of a provider is ever an object.
"""

import re
import time
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
)

from spacegray.boot.authority import embedded
from spacegray.errors import UsageError
from spacegray.paths import Paths
from spacegray.workstation.jobs import Job

ORDER_LIMIT_BYTES: Final = 512
DAYS_LIMIT: Final = 366
"""No order is valid for longer."""
_DAY_SECONDS: Final = 24 * 3600
_ECID: Final = re.compile(r"0x[0-9a-f]{16}")


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
