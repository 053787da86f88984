"""Work orders and keys as files: what is none is refused before anybody is asked."""

import time
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from spacegray.chip.client import Provider
from spacegray.cli.app import run
from spacegray.errors import SpacegrayError, UsageError
from spacegray.paths import Paths
from spacegray.service import orders, providers
from spacegray.workstation.jobs import Job
from tests.support.authority import TestAuthority, another_authority, the_authority
from tests.support.work_orders import DAY_SECONDS, work_order

ECID = 0xFEDC_BA98_7654_3210
JOB = Job("logic-board")
NOW = int(time.time())


def pem(curve: ec.EllipticCurve) -> bytes:
    key = ec.generate_private_key(curve).public_key()
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def test_an_order_is_a_small_file(tmp_path: Path):
    file = tmp_path / "order"
    with pytest.raises(UsageError, match="No such file"):
        orders.read(file)
    for size in (0, orders.ORDER_LIMIT_BYTES + 1):
        file.write_bytes(bytes(size))
        with pytest.raises(UsageError, match="1 to 512 bytes"):
            orders.read(file)
    file.write_bytes(b"order")
    assert orders.read(file) == b"order"


def foreseen(order: bytes, *signers: TestAuthority) -> str:
    """Why a chip that trusts these would not take it; empty where it would."""
    trusted = [Provider(name="shop", fingerprint="0" * 64, key=each.ticket_key) for each in signers]
    try:
        orders.foresee(order, "exchanging", ecid=f"0x{ECID:016x}", job=JOB, trusted=trusted)
    except SpacegrayError as error:
        return error.stopped_by
    return ""


def test_an_order_that_a_chip_would_take_is_foreseen_to_be_taken():
    order = work_order(the_authority(), ECID, JOB.text)
    assert foreseen(order, another_authority(), the_authority()) == ""
    assert "no trusted provider signed it" in foreseen(order, another_authority())
    assert "no trusted provider signed it" in foreseen(order)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"ecid": 1}, "for another chip"),
        ({"job": "memory 64"}, "for another job"),
        ({"not_before": NOW - 2 * DAY_SECONDS, "not_after": NOW - 60}, "not valid now"),
        ({"not_before": NOW + 3600}, "not valid now"),
        ({"version": 2}, "it is none"),
        ({"type": "ticket"}, "it is none"),
        ({"id": b"short"}, "it is none"),
        ({"more": 1}, "it is none"),
    ],
    ids=str,
)
def test_an_order_for_something_else_is_foreseen_to_be_refused(changed: dict[str, Any], says: str):
    order = work_order(the_authority(), ECID, JOB.text, **changed)
    assert says in foreseen(order, the_authority())


def test_what_is_no_order_is_foreseen_to_be_refused():
    order = work_order(the_authority(), ECID, JOB.text)
    for wrong in (b"order", order[:-1], order + b"\0", b"\xd2\x80", b"\xff" * 512):
        assert "it is none" in foreseen(wrong, the_authority())
    assert foreseen(the_authority().sign_payload(b"\xa0"), the_authority())


def test_a_key_is_a_p256_key_in_pem(tmp_path: Path):
    file = tmp_path / "key"
    file.write_bytes(pem(ec.SECP256R1()))
    assert len(providers.read_key(file)) == 91
    for wrong in (b"", b"-----BEGIN PUBLIC KEY-----", pem(ec.SECP384R1())):
        file.write_bytes(wrong)
        with pytest.raises(UsageError, match="no public P-256 key"):
            providers.read_key(file)
    with pytest.raises(UsageError, match="No such file"):
        providers.read_key(tmp_path / "none")


@pytest.mark.parametrize("ecid", ["", "0x1", "123", "0x" + "G" * 16, "0X" + "0" * 16])
def test_an_order_is_for_one_chip(tmp_path: Path, ecid: str):
    paths = Paths.current({"SPACEGRAY_HOME": str(tmp_path)})
    with pytest.raises(UsageError, match="no ECID"):
        orders.issue(paths, "shop", ecid, Job("memory", "64"), 1)
    assert not paths.providers.exists(), "no keys are made for what is refused"


def test_an_order_is_by_a_provider_whose_keys_are_here(tmp_path: Path):
    """A name that was mistyped makes no new provider."""
    paths = Paths.current({"SPACEGRAY_HOME": str(tmp_path)})
    with pytest.raises(UsageError, match="no keys of a provider shpo"):
        orders.issue(paths, "shpo", "0x0123456789abcdef", Job("memory", "64"), 1)
    assert not paths.providers.exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--job", "memory 48", "--days", "1"], "'memory 48' is none of the jobs"),
        (["--job", "memory 64", "--days", "0"], "0"),
        (["--job", "memory 64", "--days", "367"], "367"),
    ],
)
def test_nobody_issues_what_nobody_could_do(words: list[str], says: str):
    ecid = "0x0123456789abcdef"
    with pytest.raises(UsageError, match=says):
        run(["service", "issue", "--provider", "shop", "--ecid", ecid, *words])


@pytest.mark.parametrize("name", ["", "../shop", "Shop", ".shop"])
def test_a_provider_has_a_name_that_is_no_path(tmp_path: Path, name: str):
    paths = Paths.current({"SPACEGRAY_HOME": str(tmp_path)})
    with pytest.raises(UsageError):
        orders.provider_key(paths, name)
