"""The recovery port: what it does for its owner, and for nobody else, over whatever bytes.

With the real vault and the real disk: who is the owner is the vault's to say.
"""

import contextlib
import os
import random
import re
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from spacegray.chip.client import ChipClient
from spacegray.chip.launch import ChipProcess, launch
from spacegray.chip.recovery_port import LINE_LIMIT_BYTES, LINES_BURST
from spacegray.nbd import NbdClient
from spacegray.paths import WorkstationPaths
from tests.support.authority import EPOCH, PRODUCT
from tests.support.chip import born, workstation
from tests.support.recovery_port import Port, in_recovery
from tests.support.vaultd import secret

SIZE_BYTES = 64 * 1024**2
BLOCKS = SIZE_BYTES // 4096
PASSWORD, OTHER = b"correct horse", b"battery staple"
SEED = 5
LINES = 2000
WRITES_LIMIT = 5000


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a workstation lies whose chip has a disk with something on it, and PASSWORD."""
    made = tmp_path_factory.mktemp("made") / "home"
    with born(workstation(made)) as chip, chip.client() as client:
        client.create_disk(SIZE_BYTES)
        with NbdClient(client.open_disk("nbd")) as disk:
            disk.write(0, b"kept".ljust(4096))
            disk.flush()
        client.close_disk()
        with secret(PASSWORD) as new:
            client.set_password(new)
    return made


@pytest.fixture
def chip(at: WorkstationPaths) -> Iterator[ChipProcess]:
    with launch(at) as running:
        yield running


@pytest.fixture
def client(chip: ChipProcess) -> Iterator[ChipClient]:
    with chip.client() as connected:
        yield connected


@pytest.fixture
def port(client: ChipClient) -> Iterator[Port]:
    """The port of a recovery system that was just started; its owner has not come yet."""
    with in_recovery(client) as opened:
        yield opened


def authenticate(port: Port, text: bytes = PASSWORD, kind: str = "password") -> str:
    return port.ask(f"authenticate {kind} {port.encoded(text)}")


def recovery_key(client: ChipClient) -> bytes:
    reading, writing = os.pipe()
    with open(reading, "rb") as reader, secret(PASSWORD) as proof:
        client.make_recovery_key(writing, proof)
        os.close(writing)
        return reader.read().rstrip(b"\n")


def test_it_says_what_the_chip_is(port: Port, client: ChipClient) -> None:
    assert port.facts() == {
        "policy": "full",
        "external_boot": "deny",
        "other_systems": "deny",
        "firmware_password": "0",
        "password": "1",
        "recovery_key": "0",
        "owner": "0",
        "ecid": client.show()["ecid"],
        "product": PRODUCT,
        "epoch": str(EPOCH),
        "life": "in-use",
        "disk_blocks": "0",
    }


def test_only_the_owner_changes_what_may_start(port: Port, client: ChipClient) -> None:
    """Promise: not without the password, not with a wrong one; each change is what was asked."""
    changes = (
        "set policy=none", "set external_boot=allow", f"firmware-password {port.encoded(OTHER)}",
        "firmware-password",
    )  # fmt: skip
    for change in changes:
        assert port.ask(change).startswith("no unauthorised ")
    assert authenticate(port, b"a guess").startswith("no wrong ")
    for change in changes:
        assert port.ask(change).startswith("no unauthorised ")
    assert authenticate(port) == "ok"
    assert port.facts()["owner"] == "1"
    assert port.ask("set policy=medium other_systems=allow") == "ok"
    shown = client.show()
    assert (shown["policy"], shown["other_systems"], shown["external_boot"]) == (
        "medium", "allow", "deny",
    )  # fmt: skip
    assert port.ask(changes[2]) == "ok"
    assert client.show()["firmware_password"] is True
    assert port.ask("firmware-password") == "ok"
    assert client.show()["firmware_password"] is False
    assert port.ask("firmware-password").startswith("no absent ")


def test_the_owner_has_to_come_again_after_every_start(client: ChipClient) -> None:
    with in_recovery(client) as port:
        assert authenticate(port) == "ok"
    with in_recovery(client) as port:
        assert port.ask("set policy=none").startswith("no unauthorised ")
    assert client.show()["policy"] == "full"


def test_a_secret_over_the_mailbox_counts_for_recovery_too(port: Port, client: ChipClient) -> None:
    """What `security set` on the host does: the same door, the same proof."""
    with secret(PASSWORD) as given:
        client.unlock(given)
    assert port.ask("set policy=medium").startswith("no unauthorised ")
    with secret(PASSWORD) as given:
        client.unlock(given, mode="recovery")
    assert port.ask("set policy=medium") == "ok"


def test_while_the_system_runs_nothing_is_changed(client: ChipClient) -> None:
    """Promise: an owner's proof is worth nothing to the main system, nor is a port it kept."""
    with in_recovery(client) as port:
        assert authenticate(port) == "ok"
        client.prepare_start().close()
        assert port.end.recv(1) == b""
        with pytest.raises(OSError, match=r"Broken pipe"):
            port.say(f"{port.session} 2 set policy=none")
    assert client.show()["policy"] == "full"
    client.close_disk()


def test_the_same_bytes_in_a_new_session_are_nothing(port: Port) -> None:
    """Promise: what was overheard of one session is worth nothing in another, or again."""
    old = port.hello()
    assert authenticate(port) == "ok"
    said = f"{old} 2 set policy=none"
    assert port.say(said) == "2 ok"
    assert port.say(said).startswith("2 no replayed ")
    assert port.say(f"{old} 4 show").startswith("4 no replayed ")
    assert port.say(f"{old} 0 show").startswith("0 no replayed ")
    assert port.say(f"{old} 3 set policy=full") == "3 ok"
    new = port.hello()
    assert new != old
    assert re.fullmatch(r"[0-9a-f]{32}", new)
    assert port.say(f"{old} 1 set policy=none").startswith("1 no session ")
    assert port.say(f"{old} 4 set policy=none").startswith("4 no session ")
    assert port.facts()["policy"] == "full"


def test_before_hello_nothing_is_done(port: Port) -> None:
    for session in ("", "0" * 32):
        assert " no " in port.say(f"{session} 1 show")


def test_a_refused_operation_has_used_its_number(port: Port) -> None:
    session = port.hello()
    assert port.say(f"{session} 1 nonsense").startswith("1 no unknown ")
    assert port.say(f"{session} 1 show").startswith("1 no replayed ")
    assert port.say(f"{session} 2 show").startswith("2 ok ")


@pytest.mark.parametrize(
    "words",
    [
        "show all", "authenticate", "authenticate password", "authenticate finger QQ==",
        "authenticate password =", "authenticate password QUE", "authenticate password QQpC",
        "authenticate password Q\N{SNOWMAN}", "set", "set policy", "set policy=", "set policy=FULL",
        "set policy=full=none", "set tries=1", "set external_boot=1", "firmware-password a b",
        "new-password QQ==", "verify", "verify -1", "verify 1e3", "verify \N{SUPERSCRIPT TWO}",
        "verify 1073741824", f"verify {9 * 10**20}",
    ],
)  # fmt: skip
def test_wrong_arguments_are_refused_and_cost_no_try(
    port: Port, client: ChipClient, words: str
) -> None:
    assert port.ask(words).startswith("no malformed ")
    assert client.show()["attempts"]["recovery"]["failures"] == 0


def test_guesses_are_counted_apart_and_said_so(port: Port, client: ChipClient) -> None:
    answers = [authenticate(port, b"guess %d" % number) for number in range(4)]
    assert answers[0] == (
        "no wrong this is not the password in recovery mode; 9 tries are left; try again"
    )
    assert answers[3].startswith("no wait ")
    attempts = client.show()["attempts"]
    assert (attempts["recovery"]["failures"], attempts["password"]["failures"]) == (3, 0)


def test_a_forgotten_password_is_replaced_with_the_recovery_key(
    port: Port, client: ChipClient
) -> None:
    key = recovery_key(client)
    assert port.facts()["recovery_key"] == "1"
    new = port.encoded(OTHER)
    assert port.ask(f"new-password {port.encoded(PASSWORD)} {new}").startswith("no ")
    assert port.ask(f"new-password {port.encoded(key)} {new}") == "ok"
    assert authenticate(port).startswith("no wrong ")
    assert authenticate(port, OTHER) == "ok"


def test_the_recovery_key_shows_the_owner_too(port: Port, client: ChipClient) -> None:
    key = recovery_key(client)
    assert authenticate(port, key, "recovery_key") == "ok"
    assert port.ask("set policy=medium") == "ok"


def test_the_disk_is_verified_once_it_is_unlocked(port: Port, client: ChipClient) -> None:
    assert port.ask("verify 0").startswith("no password ")
    assert authenticate(port) == "ok"
    block, checked = 0, 0
    while block < BLOCKS:
        facts = port.facts(f"verify {block}")
        assert facts["blocks"] == str(BLOCKS)
        assert facts["bad"] == "0"
        block, checked = int(facts["next"]), checked + int(facts["checked"])
    assert checked >= 1
    assert client.disk_health().state == "off"
    assert port.facts(f"verify {BLOCKS}")["next"] == str(BLOCKS)


def test_a_disk_that_is_being_verified_is_nobodys_obstacle(port: Port, client: ChipClient) -> None:
    """The host may reinstall the system while the guest verifies; and a new start closes it."""
    assert authenticate(port) == "ok"
    port.facts("verify 0")
    with NbdClient(client.open_disk("nbd")) as disk:
        assert disk.read(0, 512).rstrip() == b"kept"
        assert port.facts("verify 0")["bad"] == "0"
        assert disk.read(0, 512).rstrip() == b"kept", "it closed another's disk"
    client.close_disk()


def test_erasing_needs_the_chips_number(port: Port, client: ChipClient) -> None:
    """Promise: not by a slip; then at once, without any proof, as on the mailbox."""
    for wrong in ("erase", "erase 0x0", "erase pro yes"):
        assert port.ask(wrong).startswith("no ecid ")
    assert client.show()["life"] == "in use"
    assert port.ask(f"erase {port.facts()['ecid']}") == "ok"
    assert (client.show()["life"], port.facts()["life"]) == ("erased", "erased")


def test_rubbish_changes_nothing_and_stops_nobody(port: Port, client: ChipClient) -> None:
    """Promise: whatever a guest writes there, the chip answers its owner on."""
    dice, before = random.Random(SEED), client.show()
    port.hello()
    words = [
        port.session,
        "1",
        "set",
        "policy=none",
        "show",
        "authenticate",
        "password",
        "QQ==",
        "",
    ]
    for _ in range(LINES):
        line = " ".join(dice.choices(words, k=dice.randrange(6))).encode()
        if dice.randrange(2):
            line = dice.randbytes(dice.randrange(60)).replace(b"\n", b"")
        answer = port.say(line)
        assert re.match(r"\d+ (ok|no)\b|session [0-9a-f]{32}$", answer), (line, answer)
        if answer.startswith("session"):
            port.session = words[0] = answer.split()[1]
    after = client.show()
    assert (after["policy"], after["slots"]) == (before["policy"], before["slots"])


def test_no_line_is_too_long_for_it(port: Port, client: ChipClient) -> None:
    for length in (LINE_LIMIT_BYTES + 1, 3 * LINE_LIMIT_BYTES):
        port.end.sendall(b"x" * length + b"\n")
    port.end.sendall(b"hello\n")
    answers: list[str] = []
    while not answers or not answers[-1].startswith("session"):
        answers.append(port.say(b"hello"))
    assert all(each.startswith(("0 no malformed", "session")) for each in answers)
    assert client.show()["state"] == "open"


def test_who_does_not_read_is_hung_up_on(port: Port, client: ChipClient) -> None:
    port.end.setblocking(False)
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        for _ in range(WRITES_LIMIT):
            with contextlib.suppress(BlockingIOError):
                port.end.send(b"hello\n" * 600)
            assert client.show()["state"] == "open"
        pytest.fail("it was never hung up on")
    assert client.show()["state"] == "open"


def test_a_flood_is_told_to_wait(port: Port) -> None:
    """Promise: a guest has so much of the chip's time, and no more; afterwards it is answered."""
    answers = [port.say("hello") for _ in range(3 * LINES_BURST)]
    assert any(each.startswith("0 no busy ") for each in answers)
    time.sleep(1)
    assert port.facts()["policy"] == "full"


def test_a_port_that_was_hung_up_costs_nothing(chip: ChipProcess, client: ChipClient) -> None:
    """Promise: starts of recovery, one after the other, leave no descriptor behind."""
    firmware = psutil.Process(chip.process.pid)
    with in_recovery(client):
        pass
    before = firmware.num_fds()
    for _ in range(5):
        with in_recovery(client) as port:
            port.facts()
    assert firmware.num_fds() <= before


def test_secrets_are_not_kept(port: Port, client: ChipClient, at: WorkstationPaths) -> None:
    """Promise: what comes over the port is passed on, and is in no file afterwards."""
    secrets = (PASSWORD, OTHER, port.encoded(PASSWORD).encode(), port.encoded(OTHER).encode())
    assert authenticate(port) == "ok"
    assert port.ask(f"firmware-password {port.encoded(OTHER)}") == "ok"
    assert authenticate(port, OTHER).startswith("no wrong ")
    files = [path for path in at.folder.parents[1].rglob("*") if path.is_file()]
    assert at.state_folder / "vault.sealed" in files
    for path in files:
        content = path.read_bytes()
        assert not any(each in content for each in secrets), path
