"""Work orders and keys as files: what is none is refused before anybody is asked."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from spacegray.cli.app import run
from spacegray.errors import UsageError
from spacegray.paths import Paths
from spacegray.service import orders, providers
from spacegray.workstation.jobs import Job


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
