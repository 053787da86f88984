"""Attack: rubbish, half messages, strange descriptors, a flood: at the mailbox and at the vault.

Promise: none of it stops the chip, changes anything, or fills its memory; whoever asks properly is
answered meanwhile; what is refused says little. With a real chip; each part of its protocols is
tried by itself in `tests/unit/chip/test_mailbox.py` and `tests/unit/silicon/test_vaultd.py`.
"""

import contextlib
import os
import random
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cbor2
import psutil
import pytest

from spacegray.chip.launch import ChipProcess
from spacegray.chip.limits import CONNECTION_BURST
from spacegray.chip.refusal import BUSY
from spacegray.sockets import PeerError, connect_unix, receive_message, send_message
from tests.support.chip import ESP, born, workstation
from tests.support.vaultd import pins, vaultd

SEED = 4
MUTATIONS = 3000
FLOOD_MESSAGES = 1_000_000
FLOODERS = 8
FLOOD_SECONDS = 10.0
"""CI has no more time for a million: what comes in it is what is tried."""
GROWTH_LIMIT_BYTES = 24 << 20
SECONDS = 60.0
WORDS_LIMIT = 400
"""No refusal is longer, in characters."""

VALID: tuple[dict[str, Any], ...] = (
    {"op": "show"},
    {"op": "birth", "seal": "keyfile", **pins()},
    {"op": "adopt_bundle", "seal": "keyfile", **pins()},
    {"op": "unseal"},
    {"op": "unlock", "with": "password", "mode": "normal"},
    {"op": "change_password", "with": "recovery_key", "mode": "recovery"},
    {"op": "service"},
    {"op": "trust_provider", "name": "x", "key": bytes(91)},
    {"op": "distrust_provider", "fingerprint": bytes(32), "with": "password"},
    {"op": "record_service", "job": "ssd 0", "detail": b"", "order": bytes(100)},
    {"op": "attest", "nonce": bytes(16)},
    {"op": "open_disk", "front": "nbd", "strict": False, "adopt": True},
    {"op": "verify_disk", "block": 0, "count": 1},
    {"op": "prepare_start", "target": "external", "strict": True},
    {"op": "request_ticket", "slot": "b", "product": "tiny", "epoch": 1, "system": bytes(32)},
    {"op": "accept_ticket", "slot": "b", "ticket": bytes(100), "source": "x", "esp": ESP},
)
HARMLESS = ("show", "service", "attest", "disk_health")
"""What a mutation may turn out to be, and be answered."""


@pytest.fixture(scope="module")
def chip(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChipProcess]:
    """A running chip that was born and has no disk: nothing asked of it here could do any harm."""
    with born(workstation(tmp_path_factory.mktemp("rubbish") / "home")) as running:
        yield running


@pytest.fixture
def whole(chip: ChipProcess) -> Iterator[ChipProcess]:
    """The chip, which afterwards is the one it was, and has no more descriptors than before."""
    firmware = psutil.Process(chip.process.pid)
    with chip.client() as client:
        before, descriptors = client.show(), firmware.num_fds()
    yield chip
    with chip.client() as client:
        assert client.show() == before
        assert firmware.num_fds() <= descriptors
    assert chip.process.poll() is None


def mutated(dice: random.Random) -> bytes:
    """A message that is nearly right, or not at all."""
    match dice.randrange(6):
        case 0:
            return dice.randbytes(dice.randrange(200))
        case 1:
            payload = bytearray(cbor2.dumps(dice.choice(VALID)))
            for _ in range(dice.randrange(1, 4)):
                payload[dice.randrange(len(payload))] = dice.randrange(256)
            return bytes(payload)
        case 2:
            payload = bytearray(cbor2.dumps(dice.choice(VALID)))
            return bytes(payload[: dice.randrange(len(payload))])
        case 3:
            strange: object = dice.choice(
                [None, -1, 1 << 63, "x" * 5000, [[[[[[]]]]]], {"op": {}}, 1.5]
            )
            return cbor2.dumps({**dice.choice(VALID), dice.choice(["with", "nonce", "x"]): strange})
        case 4:
            return cbor2.dumps(dice.choice(VALID)) * 2
        case _:
            # Promises more than it brings: lengths and nesting that a decoder could believe.
            return bytes([dice.choice([0x9B, 0xBB, 0x5B, 0x7B])]) + dice.randbytes(8) + b"\xa1" * 50


def things(dice: random.Random, stack: contextlib.ExitStack) -> list[int]:
    """Descriptors of what nobody asked for."""

    def opened(descriptor: int) -> int:
        stack.callback(os.close, descriptor)
        return descriptor

    makers: list[Callable[[], int]] = [
        lambda: opened(os.open("/dev/zero", os.O_RDONLY)),
        lambda: opened(os.open("/", os.O_RDONLY | os.O_DIRECTORY)),
        lambda: opened(os.open("/proc/self/mem", os.O_RDONLY)),
        lambda: opened(os.memfd_create("x")),
        lambda: opened(os.open("/dev/null", os.O_PATH)),
        lambda: stack.enter_context(socket.socketpair()[0]).fileno(),
    ]
    return [dice.choice(makers)() for _ in range(dice.choice((0, 0, 1, 1, 2, 3, 4)))]


def test_rubbish_is_answered_or_hung_up_on(whole: ChipProcess) -> None:
    dice = random.Random(SEED)
    answered = 0
    connection = connect_unix(whole.mailbox, timeout_seconds=SECONDS)
    for number in range(MUTATIONS):
        if number % CONNECTION_BURST == CONNECTION_BURST - 1:
            # On this one the chip would look at no more of them.
            connection.close()
            connection = connect_unix(whole.mailbox, timeout_seconds=SECONDS)
        with contextlib.ExitStack() as stack:
            reply = None
            with contextlib.suppress(OSError, PeerError):
                send_message(connection, mutated(dice), things(dice, stack))
                reply = receive_message(connection)
            if reply is None:
                connection.close()
                connection = connect_unix(whole.mailbox, timeout_seconds=SECONDS)
                continue
            fields = cbor2.loads(reply[0])
            answered += fields.get("code") != BUSY
            if fields["ok"]:
                assert fields.keys() & {"ecid", "statement", "modules"}, fields
            else:
                assert len(str(fields)) <= WORDS_LIMIT
                told = str(fields) if fields["doing"].startswith("reading a message") else ""
                assert str(whole.mailbox.parents[2]) not in told
    connection.close()
    assert answered > MUTATIONS // 2


def test_half_messages_keep_nobody_waiting(whole: ChipProcess) -> None:
    """All other connections are held by half a message each."""
    with contextlib.ExitStack() as stack:
        owner = stack.enter_context(whole.client())
        for number in range(14):
            half = stack.enter_context(connect_unix(whole.mailbox))
            half.sendall(struct.pack(">I", 9)[: number % 4 + 1])
        for _ in range(20):
            assert owner.show()


def test_a_flood_stops_nobody_and_fills_nothing(whole: ChipProcess) -> None:
    """Eight connections send as fast as they can, a million messages or for as long as CI has."""
    firmware = psutil.Process(whole.process.pid)
    before = firmware.memory_info().rss
    over = threading.Event()
    sent, refused = [0] * FLOODERS, [0] * FLOODERS
    message = cbor2.dumps({"op": "nothing"})
    packet = (struct.pack(">I", len(message)) + message) * 50

    def flood(number: int) -> None:
        with connect_unix(whole.mailbox, timeout_seconds=SECONDS) as connection:
            while not over.is_set() and sent[number] < FLOOD_MESSAGES // FLOODERS:
                connection.sendall(packet)
                for _ in range(50):
                    reply = receive_message(connection)
                    assert reply is not None
                    refused[number] += cbor2.loads(reply[0]).get("code") == BUSY
                sent[number] += 50

    flooders = [threading.Thread(target=flood, args=(number,)) for number in range(FLOODERS)]
    timer = threading.Timer(FLOOD_SECONDS, over.set)
    timer.start()
    for flooder in flooders:
        flooder.start()
    asked = 0
    with whole.client() as owner:
        while not over.is_set() and any(flooder.is_alive() for flooder in flooders):
            assert owner.show()
            asked += 1
    for flooder in flooders:
        flooder.join()
    timer.cancel()
    assert asked
    assert sum(refused), "the control: it never was a flood"
    assert firmware.memory_info().rss - before < GROWTH_LIMIT_BYTES


def test_rubbish_at_the_vaults_link(tmp_path: Path) -> None:
    """Its own sibling may be taken over, too: what it sends is not believed either."""
    dice = random.Random(SEED)
    with vaultd(tmp_path) as vault:
        vault.birth()
        before = vault.ask("status")
        descriptors = psutil.Process(vault.process.pid)
        for _ in range(MUTATIONS):
            with contextlib.ExitStack() as stack:
                given = things(dice, stack)[:3]
                payload = mutated(dice)
                if not payload:
                    continue
                answer = vault.ask_raw(payload, *given)
                assert answer["ok"] is False or is_harmless(payload), payload
        assert vault.ask("status") == before
        assert descriptors.is_running()
        assert vault.close() == 0


def is_harmless(payload: bytes) -> bool:
    """Whether a mutation is a request that changes nothing."""
    return cbor2.loads(payload).get("op") in HARMLESS
