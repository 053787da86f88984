"""The service record at the mailbox, with the real vault: who may have what signed, and when."""

import hashlib
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cbor2
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from spacegray.chip.client import ChipClient, Signed
from spacegray.chip.launch import launch
from spacegray.chip.refusal import ChipRefusalError
from spacegray.chip.service_record import read_record, read_signed
from spacegray.errors import SpacegrayError
from spacegray.paths import WorkstationPaths
from spacegray.sockets import PeerError
from tests.support.authority import TestAuthority, another_authority, the_authority
from tests.support.chip import believed, born, workstation
from tests.support.vaultd import secret
from tests.support.work_orders import DAY_SECONDS, work_order

SIZE_BYTES = 64 * 1024**2
PASSWORD = b"correct horse"
JOB = "memory 64"
DETAIL = cbor2.dumps({"before": {"memory_gb": 32}, "after": {"memory_gb": 64}})
NAME = "Corner shop, 2nd floor"
PROVIDERS_LIMIT = 8
EXTERNAL = b"spacegray service entry 1"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a workstation lies whose chip was born and has a disk."""
    made = tmp_path_factory.mktemp("made") / "home"
    with born(workstation(made)) as chip, chip.client() as client:
        client.create_disk(SIZE_BYTES)
    return made


def refused(action: Callable[[], Any]) -> ChipRefusalError:
    """The refusal of an action."""
    with pytest.raises(ChipRefusalError) as caught:
        action()
    assert "\n" not in str(caught.value)
    return caught.value


def ecid_of(client: ChipClient) -> int:
    """The chip's number."""
    return int(client.show()["ecid"], 16)


def fingerprint(provider: TestAuthority) -> bytes:
    """SHA-256 of a provider's key."""
    return hashlib.sha256(provider.ticket_key).digest()


def trust(client: ChipClient, provider: TestAuthority, name: str = NAME) -> None:
    """Have a provider trusted, on a chip without a password."""
    client.trust_provider(name, provider.ticket_key)


def entry_of(client: ChipClient, signed: Signed) -> dict[str, Any]:
    """What an entry says, after its signature was checked with the chip's own key."""
    protected, unprotected, payload, signature = cbor2.loads(signed.entry).value
    message = cbor2.dumps(["Signature1", protected, EXTERNAL, payload])
    numbers = (int.from_bytes(signature[:32]), int.from_bytes(signature[32:]))
    key = load_pem_public_key(client.show()["identity_key"].encode())
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert unprotected == {}
    key.verify(encode_dss_signature(*numbers), message, ec.ECDSA(SHA256()))
    with pytest.raises(InvalidSignature):
        key.verify(encode_dss_signature(*numbers), message + b"\0", ec.ECDSA(SHA256()))
    assert hashlib.sha256(signed.entry).digest() == signed.head
    said: dict[str, Any] = cbor2.loads(payload)
    return said


def test_a_new_chip_begins_with_an_empty_record(client: ChipClient) -> None:
    record = client.service()
    assert (record.entries, record.head, record.last, record.providers) == (0, bytes(32), b"", ())
    assert client.show()["service"] == {"entries": 0, "providers": 0}


def test_an_owner_without_a_password_records_a_job(client: ChipClient) -> None:
    """Promise: the entry says by whom, when and what, signed, and the next one goes on from it."""
    begun = int(time.time())
    first = client.record_service(JOB, DETAIL)
    said = entry_of(client, first)
    assert (said["ecid"], said["number"], said["previous"]) == (ecid_of(client), 0, bytes(32))
    assert (said["job"], said["by"], said["provider"], said["order"]) == (JOB, "owner", b"", b"")
    assert said["detail"] == DETAIL
    assert begun <= said["time"] <= time.time()
    second = client.record_service("ssd both", b"")
    assert (entry_of(client, second)["number"], entry_of(client, second)["previous"]) == (
        1, first.head,
    )  # fmt: skip
    record = client.service()
    assert (record.entries, record.head, record.last) == (2, second.head, second.entry)
    assert client.show()["service"] == {"entries": 2, "providers": 0}


def test_a_record_outlives_the_chips_process_and_its_lives(at: WorkstationPaths) -> None:
    """Promise: neither an erasure nor a new life unsays what was done to the machine."""
    with launch(at) as chip, chip.client() as client:
        trust(client, the_authority())
        client.record_service(JOB, DETAIL)
        before = client.service()
    with launch(at) as chip, chip.client() as client:
        assert client.service() == before
        client.erase()
        assert client.service() == before
        client.restore(**believed())
        assert client.service() == before


def test_a_first_entry_continues_the_record_of_the_chip_before(client: ChipClient) -> None:
    head = bytes(range(32))
    signed = client.record_service("logic-board", DETAIL, continues=head)
    assert entry_of(client, signed)["previous"] == head
    refused(lambda: client.record_service("logic-board", DETAIL, continues=head))
    assert client.service().entries == 1


def test_providers_are_listed_named_anew_and_taken_out(client: ChipClient) -> None:
    one, two = the_authority(), another_authority()
    trust(client, one)
    trust(client, two, "the other")
    trust(client, one, "renamed")
    assert {each.name: each.key for each in client.service().providers} == {
        "renamed": one.ticket_key, "the other": two.ticket_key,
    }  # fmt: skip
    listed = {each.name: each.fingerprint for each in client.service().providers}
    assert listed["renamed"] == fingerprint(one).hex()
    assert client.show()["service"]["providers"] == 2
    client.distrust_provider(fingerprint(one))
    assert [each.name for each in client.service().providers] == ["the other"]
    gone = refused(lambda: client.distrust_provider(fingerprint(one)))
    assert (gone.code, gone.stopped_by) == ("absent", "this chip trusts no provider with that key")


def test_no_more_are_trusted_than_the_chip_remembers(client: ChipClient) -> None:
    keys = [other_key() for _ in range(PROVIDERS_LIMIT)]
    for number, key in enumerate(keys):
        client.trust_provider(f"provider {number}", key)
    full = refused(lambda: client.trust_provider("one too many", other_key()))
    assert full.code == "full"
    assert "`service distrust`" in full.next_step
    assert len(client.service().providers) == PROVIDERS_LIMIT


def other_key() -> bytes:
    """A key of P-256, DER; only the point matters, so the authority's slow RSA key is spared."""
    made = ec.generate_private_key(ec.SECP256R1()).public_key()
    head = the_authority().ticket_key[:-64]
    numbers = made.public_numbers()
    return head + numbers.x.to_bytes(32) + numbers.y.to_bytes(32)


def test_what_is_no_key_is_told(client: ChipClient) -> None:
    error = refused(lambda: client.trust_provider(NAME, bytes(91)))
    assert (error.code, error.stopped_by) == ("malformed", "this is no public key of P-256")


def test_a_work_order_is_good_for_its_job_once(client: ChipClient) -> None:
    """Promise: a trusted provider's order is spent by the entry that names it."""
    trust(client, the_authority())
    order = work_order(the_authority(), ecid_of(client), JOB, id=bytes(range(16)))
    said = entry_of(client, client.record_service(JOB, DETAIL, order=order))
    assert (said["by"], said["provider"], said["order"]) == (
        "provider", fingerprint(the_authority()), bytes(range(16)),
    )  # fmt: skip
    again = refused(lambda: client.record_service(JOB, DETAIL, order=order))
    assert again.code == "replayed"
    assert client.service().entries == 1


@pytest.mark.parametrize(
    ("code", "signer", "changed"),
    [
        ("order", another_authority, {}),
        ("other_chip", the_authority, {"ecid": 7}),
        ("job", the_authority, {"job": "memory 128"}),
        ("validity", the_authority, {"not_before": int(time.time()) + DAY_SECONDS // 2}),
        ("validity", the_authority, {"not_after": int(time.time()) - DAY_SECONDS // 2}),
        ("order", the_authority, {"version": 2}),
    ],
    ids=["stranger", "other chip", "other job", "too early", "too late", "other form"],
)
def test_an_order_that_does_not_fit_is_refused_and_changes_nothing(
    client: ChipClient, code: str, signer: Callable[[], TestAuthority], changed: dict[str, Any]
) -> None:
    """Promise: by the vault alone, whatever the firmware thinks, each with its own word."""
    trust(client, the_authority())
    before = client.service()
    order = work_order(signer(), ecid_of(client), JOB, **changed)
    error = refused(lambda: client.record_service(JOB, DETAIL, order=order))
    assert (error.code, error.link) == (code, "chip")
    assert "work order" in error.stopped_by
    assert "the vault refused" not in str(error)
    assert client.service() == before


def test_an_order_of_a_provider_who_is_trusted_no_more_is_refused(client: ChipClient) -> None:
    trust(client, the_authority())
    order = work_order(the_authority(), ecid_of(client), JOB)
    client.distrust_provider(fingerprint(the_authority()))
    assert refused(lambda: client.record_service(JOB, DETAIL, order=order)).code == "order"


def test_rubbish_is_no_order(client: ChipClient) -> None:
    trust(client, the_authority())
    order = work_order(the_authority(), ecid_of(client), JOB)
    for broken in (b"\0", order[:-1], order + b"\0", order[:-1] + bytes([order[-1] ^ 1])):
        error = refused(partial(client.record_service, JOB, DETAIL, order=broken))
        assert error.code == "order"
    assert client.service().entries == 0


def test_where_there_is_a_password_its_owner_is_asked_for_it(client: ChipClient) -> None:
    """Promise: an open chip is not enough; wrong secrets are counted, an order needs none."""
    with secret(PASSWORD) as new:
        client.set_password(new)
    key = the_authority().ticket_key
    actions: tuple[Callable[..., Any], ...] = (
        partial(client.trust_provider, NAME, key),
        partial(client.record_service, JOB, DETAIL),
    )
    for action in actions:
        error = refused(action)
        assert (error.code, error.next_step) == (
            "unauthorised", "give the password or the recovery key",
        )  # fmt: skip
        with secret(b"wrong one") as wrong:
            error = refused(partial(action, owner=wrong))
        assert (error.code, error.left) == ("wrong", 9)
        with secret(PASSWORD) as right:
            action(owner=right)
    said = cbor2.loads(cbor2.loads(client.service().last).value[2])
    assert said["by"] == "owner with password"
    order = work_order(the_authority(), ecid_of(client), "ssd 0")
    client.record_service("ssd 0", b"", order=order)
    assert refused(lambda: client.distrust_provider(fingerprint(the_authority()))).code == (
        "unauthorised"
    )
    with secret(PASSWORD) as right:
        client.distrust_provider(fingerprint(the_authority()), right)
    assert client.service().providers == ()


def test_no_secret_comes_with_an_order(client: ChipClient) -> None:
    trust(client, the_authority())
    order = work_order(the_authority(), ecid_of(client), JOB)
    with secret(PASSWORD) as given, pytest.raises(SpacegrayError, match="without a secret"):
        client.record_service(JOB, DETAIL, order=order, owner=given)
    assert client.record_service(JOB, DETAIL, order=order).entries == 1


def test_nothing_is_recorded_of_a_machine_that_is_on(client: ChipClient) -> None:
    """Promise: who opens a machine switches it off first; the record cannot say otherwise."""

    def on() -> None:
        error = refused(lambda: client.record_service(JOB, DETAIL))
        assert (error.code, error.next_step) == ("state", "stop the workstation first")

    client.check_disk()
    on()
    client.close_disk()
    for target in ("main", "recovery"):
        client.prepare_start(target).close()
        on()
        trust(client, the_authority())
        assert client.service().entries == 0
        client.close_disk()
    assert client.record_service(JOB, DETAIL).entries == 1


def test_a_chip_that_is_new_or_sealed_answers_none_of_it(tmp_path: Path) -> None:
    at = workstation(tmp_path)
    with launch(at, new=True) as chip, chip.client() as client:
        none_of_it(client)
    with born(at, seal="passphrase", passphrase=PASSWORD):
        pass
    with launch(at) as chip, chip.client() as client:
        none_of_it(client)
        with secret(PASSWORD) as given:
            client.unseal(given)
        assert client.service().entries == 0


def none_of_it(client: ChipClient) -> None:
    """All four are refused, and `show` does not know."""
    for action in (
        client.service,
        lambda: client.trust_provider(NAME, the_authority().ticket_key),
        lambda: client.distrust_provider(bytes(32)),
        lambda: client.record_service(JOB, DETAIL),
    ):
        assert refused(action).code == "state"
    assert client.show()["service"] is None


def test_a_record_put_back_signs_nothing(at: WorkstationPaths) -> None:
    """Promise: the store of yesterday cannot spend an order a second time."""
    store = at.state_folder / "vault.sealed"
    with launch(at) as chip, chip.client() as client:
        trust(client, the_authority())
        order = work_order(the_authority(), ecid_of(client), JOB)
    yesterday = store.read_bytes()
    with launch(at) as chip, chip.client() as client:
        client.record_service(JOB, DETAIL, order=order)
    store.write_bytes(yesterday)
    with launch(at) as chip, chip.client() as client:
        assert client.show()["put_back"]
        assert client.service().entries == 0
        error = refused(lambda: client.record_service(JOB, DETAIL, order=order))
        assert error.code == "put_back"


RECORD: dict[str, Any] = {
    "ok": True,
    "entries": 2**63 - 1,
    "head": bytes(32),
    "last": bytes(1024),
    "providers": cbor2.dumps([[NAME, bytes(91)]]),
}


def test_the_vaults_answer_is_read_whole() -> None:
    record = read_record(RECORD)
    (provider,) = record.providers
    assert (record.entries, record.last) == (2**63 - 1, bytes(1024))
    assert (provider.name, provider.key) == (NAME, bytes(91))
    assert provider.fingerprint == hashlib.sha256(bytes(91)).hexdigest()
    signed = read_signed({"ok": True, "entry": b"x", "entries": 1, "head": bytes(32)})
    assert (signed.entry, signed.entries) == (b"x", 1)


@pytest.mark.parametrize(
    "changed",
    [
        {"entries": -1},
        {"entries": True},
        {"head": bytes(31)},
        {"head": "0" * 64},
        {"last": bytes(1025)},
        {"providers": b""},
        {"providers": []},
        {"providers": cbor2.dumps({})},
        {"providers": cbor2.dumps([NAME])},
        {"providers": cbor2.dumps([[NAME]])},
        {"providers": cbor2.dumps([[NAME, bytes(90)]])},
        {"providers": cbor2.dumps([["", bytes(91)]])},
        {"providers": cbor2.dumps([["two\nlines", bytes(91)]])},
        {"providers": cbor2.dumps([[NAME, bytes(91), 1]])},
        {"providers": cbor2.dumps([]) + b"\0"},
    ],
)
def test_an_answer_that_is_none_is_refused(changed: dict[str, Any]) -> None:
    """Promise: what the vault says is read strictly; a history is judged by it."""
    with pytest.raises(PeerError):
        read_record(RECORD | changed)
