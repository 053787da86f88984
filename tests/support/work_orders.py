"""Work orders as docs/work-orders.md describes them, made in a few lines of Python.

Any key can sign one, and any field can be wrong. The product never imports it.
"""

import os
import time
from typing import Final

from tests.support.authority import TestAuthority, encode

TYPE: Final = "application/x-spacegray-work-order+cbor"
AAD: Final = b"spacegray work order 1"
DAY_SECONDS: Final = 24 * 3600

_HEADER_TYPE = 16


def work_order(signer: TestAuthority, ecid: int, job: str, /, **changed: object) -> bytes:
    """An order for this job, valid since yesterday and until tomorrow; `changed` replaces fields.

    It is signed with the key that is `signer.ticket_key`.
    """
    now = int(time.time())
    fields: dict[str, object] = {
        "ecid": ecid,
        "id": os.urandom(16),
        "issued": now,
        "job": job,
        "not_after": now + DAY_SECONDS,
        "not_before": now - DAY_SECONDS,
        "type": "work order",
        "version": 1,
    }
    return signer.sign_payload(encode(fields | changed), aad=AAD, header={_HEADER_TYPE: TYPE})
