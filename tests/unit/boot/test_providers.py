"""Service providers on this host: keys of their own, whose work orders say what was asked."""

import hashlib
import time
from pathlib import Path
from typing import Any

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key

from spacegray.boot.authority import AuthorityRefusalError, embedded
from spacegray.errors import UsageError
from spacegray.paths import Paths
from tests.support import work_orders

ECID, JOB = 2**64 - 1, "memory 64"
DAY_SECONDS = 24 * 3600
DAYS_LIMIT = 366
NOW = int(time.time())
KEY_BYTES = 91
ORDER_LIMIT_BYTES = 512


def verified(order: bytes, key: bytes) -> tuple[dict[int, Any], dict[str, Any]]:
    """Header and content of an order, after its signature was checked with this key."""
    tag = cbor2.loads(order)
    protected, unprotected, payload, signature = tag.value
    assert (tag.tag, unprotected) == (18, {})
    public = load_der_public_key(key)
    assert isinstance(public, ec.EllipticCurvePublicKey)
    message = cbor2.dumps(["Signature1", protected, work_orders.AAD, payload])
    numbers = (int.from_bytes(signature[:32]), int.from_bytes(signature[32:]))
    public.verify(encode_dss_signature(*numbers), message, ec.ECDSA(SHA256()))
    return cbor2.loads(protected), cbor2.loads(payload)


def test_a_provider_has_a_folder_and_a_key_of_its_own(tmp_path: Path) -> None:
    """Promise: made once, its owner's alone, and neither the authority's nor another's."""
    paths = Paths.current({"SPACEGRAY_HOME": str(tmp_path)})
    folder = paths.provider("corner-shop")
    assert folder == paths.providers / "corner-shop"
    assert folder.parent.parent == paths.state
    with embedded(folder) as provider:
        key = provider.order_key()
        assert key not in (provider.identity().ticket_key, provider.identity().vendor)
    assert folder.stat().st_mode & 0o777 == 0o700
    with embedded(folder) as provider:
        assert provider.order_key() == key
    with embedded(paths.provider("another")) as other, embedded(paths.authority) as authority:
        assert len({key, other.order_key(), authority.order_key()}) == 3
    assert len(key) == KEY_BYTES


@pytest.mark.parametrize("name", ["", ".authority", "..", "a/b", "Corner", "x" * 33, "1st", "a\n"])
def test_a_name_that_could_be_another_folder_is_refused(tmp_path: Path, name: str) -> None:
    paths = Paths.current({"SPACEGRAY_HOME": str(tmp_path)})
    with pytest.raises(UsageError, match="looking for the service provider"):
        paths.provider(name)


def test_an_order_says_what_was_asked_and_is_signed_for_that_alone(tmp_path: Path) -> None:
    with embedded(tmp_path) as provider:
        begun = int(time.time())
        order = provider.sign_order(ECID, JOB, NOW, NOW + DAYS_LIMIT * DAY_SECONDS)
        key = provider.order_key()
        again = provider.sign_order(ECID, JOB, NOW, NOW + DAYS_LIMIT * DAY_SECONDS)
    assert len(order) <= ORDER_LIMIT_BYTES
    header, said = verified(order, key)
    assert header == {1: -7, 4: hashlib.sha256(key).digest(), 16: work_orders.TYPE}
    number, issued = said.pop("id"), said.pop("issued")
    assert said == {
        "ecid": ECID,
        "job": JOB,
        "not_before": NOW,
        "not_after": NOW + DAYS_LIMIT * DAY_SECONDS,
        "type": "work order",
        "version": 1,
    }
    assert begun <= issued <= time.time()
    assert len(number) == 16
    assert verified(again, key)[1]["id"] != number


@pytest.mark.parametrize(
    ("code", "job", "until"),
    [
        ("malformed", "", NOW + DAY_SECONDS),
        ("malformed", "x" * 65, NOW + DAY_SECONDS),
        ("malformed", "Memory 64", NOW + DAY_SECONDS),
        ("validity", JOB, NOW - 1),
        ("validity", JOB, NOW + DAYS_LIMIT * DAY_SECONDS + 1),
    ],
)
def test_what_no_chip_would_take_is_not_signed(
    tmp_path: Path, code: str, job: str, until: int
) -> None:
    with embedded(tmp_path) as provider:
        with pytest.raises(AuthorityRefusalError, match="the provider refused") as refused:
            provider.sign_order(ECID, job, NOW, until)
        assert refused.value.code == code
        assert provider.sign_order(ECID, JOB, NOW, NOW)
