"""The vault's link to the SSD: the key once, the anchor never back, and nothing else for it."""

import os
import resource
import signal
import socket
import time
from pathlib import Path
from typing import Any

import cbor2
import pytest

from tests.support.vault_store import read_anchors, read_secrets
from tests.support.vaultd import PACKET_SIZE_BYTES_MAX, SsdLink, Vaultd, pins, vaultd

SLOT_SIZE_BYTES = 4096
ANCHOR_SIZE_BYTES_MAX = 512
FLOOD_PACKETS = 2000
PACKETS_UNDER_WAY = 20
TURN_SECONDS = 5.0
"""Far more than a turn takes on a busy host, far less than a flood lasts."""
MEMORY_ALLOWANCE_KIB = 512
"""How much a vault may grow while it is flooded: malloc's own slack."""


def code(reply: dict[str, Any]) -> object:
    """The code of a refusal, after checking its form."""
    assert set(reply) == {"ok", "error", "detail"}, reply
    assert reply["ok"] is False
    return reply["error"]


def refused_attachment(vault: Vaultd) -> object:
    """Why no SSD is attached to the disk as it is."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        return code(vault.ask("attach_ssd", theirs.fileno(), mode="open"))


def limit_file_sizes(vault: Vaultd, size_bytes: int) -> None:
    """From now on the vault cannot write beyond this offset, as on a full disk."""
    _, hard = resource.prlimit(vault.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(vault.process.pid, resource.RLIMIT_FSIZE, (size_bytes, hard))


def is_closed(link: SsdLink) -> bool:
    """Whether the vault has hung up; reads away what it said before."""
    try:
        while link.link.recv(PACKET_SIZE_BYTES_MAX):
            pass
    except ConnectionResetError:
        pass
    except TimeoutError:
        return False
    return True


def flood(link: SsdLink) -> None:
    """Ask and ask, and read no reply; the vault hangs up at some time."""
    packet = cbor2.dumps({"op": "read_anchor"})
    while True:
        link.link.send(packet)


def test_the_key_is_given_once_per_link(tmp_path: Path, chip: Vaultd) -> None:
    """Promise: the SSD gets the key in the store, once; a later link gets the same."""
    with chip.attach() as ssd:
        key = ssd.volume_key()
        assert code(ssd.ask("volume_key")) == "spent"
        assert ssd.anchor() is None
    with chip.attach() as ssd:
        assert ssd.volume_key() == key == read_secrets(tmp_path)["volume_key"]


def test_the_newest_anchor_is_kept(tmp_path: Path, chip: Vaultd) -> None:
    """Promise: across links and power-offs, of any size."""
    with chip.attach() as ssd:
        for sequence, size_bytes in enumerate((1, 184, ANCHOR_SIZE_BYTES_MAX)):
            anchor = os.urandom(size_bytes)
            assert ssd.write(sequence, anchor) == {"ok": True}
            assert ssd.anchor() == anchor
    with chip.attach() as ssd:
        assert ssd.anchor() == anchor
    chip.process.send_signal(signal.SIGKILL)
    chip.process.wait()
    with vaultd(tmp_path) as vault:
        assert vault.ask("open")["ok"]
        with vault.attach() as ssd:
            assert ssd.anchor() == anchor


def test_the_anchor_never_goes_back(tmp_path: Path, chip: Vaultd) -> None:
    """Promise: not on this link, not on the next, not after a power-off."""
    with chip.attach() as ssd:
        ssd.write(7, b"seven")
        assert code(ssd.write(6, b"six")) == "backwards"
        assert ssd.write(7, b"seven again") == {"ok": True}
    with chip.attach() as ssd:
        assert code(ssd.write(6, b"six")) == "backwards"
    chip.close()
    with vaultd(tmp_path) as vault:
        vault.ask("open")
        with vault.attach() as ssd:
            assert code(ssd.write(0, b"nothing")) == "backwards"
            assert ssd.anchor() == b"seven again"


def test_a_new_key_ends_the_old_disk(tmp_path: Path, chip: Vaultd) -> None:
    """Promise: after a format there is another key and no anchor, and the rest of the chip."""
    identity = chip.ask("identity")
    with chip.attach() as ssd:
        old_key = ssd.volume_key()
        ssd.write(9, b"old")
    old_file = (tmp_path / "anchor").read_bytes()
    with chip.attach("format") as ssd:
        assert ssd.anchor() is None
        new_key = ssd.volume_key()
        assert new_key != old_key
        assert ssd.write(1, b"new") == {"ok": True}
    assert chip.ask("identity") == identity
    assert old_key not in b"".join(read_secrets(tmp_path).values())
    chip.close()
    room = {path.name: path.read_bytes() for path in tmp_path.glob("*.new")}
    assert sorted(room) == ["anchor.new", "vault.sealed.new"]
    assert not any(b"".join(room.values()))
    assert read_secrets(tmp_path)["volume_key"] == new_key
    (tmp_path / "anchor").write_bytes(old_file)
    with vaultd(tmp_path) as vault:
        vault.ask("open")
        assert vault.ask("status")["put_back"] is True
        assert refused_attachment(vault) == "put_back"


@pytest.mark.parametrize("damage", ["missing", "empty", "zeros", "both slots"])
def test_a_damaged_anchor_file_is_no_new_disk(tmp_path: Path, chip: Vaultd, damage: str) -> None:
    """Promise: it is refused as such, the chip itself opens, and a format heals it."""
    with chip.attach() as ssd:
        ssd.write(1, b"one")
    chip.close()
    file = tmp_path / "anchor"
    content = bytearray(file.read_bytes())
    if damage == "missing":
        file.unlink()
    else:
        content[100] ^= 1
        content[SLOT_SIZE_BYTES + 100] ^= 1
        broken = {"empty": b"", "zeros": bytes(len(content)), "both slots": bytes(content)}
        file.write_bytes(broken[damage])
    with vaultd(tmp_path) as vault:
        assert vault.ask("open")["ok"]
        assert refused_attachment(vault) == "put_back"
        with vault.attach("format") as ssd:
            assert ssd.anchor() is None
            assert ssd.write(1, b"one") == {"ok": True}


def test_one_torn_slot_is_a_power_cut(tmp_path: Path, chip: Vaultd) -> None:
    """Promise: with the newest slot torn, the anchor before it is there."""
    with chip.attach() as ssd:
        ssd.write(1, b"one")
        ssd.write(2, b"two")
        chip.process.send_signal(signal.SIGKILL)
        chip.process.wait()
    newest, older = read_anchors(tmp_path)
    with (tmp_path / "anchor").open("r+b") as file:
        file.seek(newest.number * SLOT_SIZE_BYTES + 512)
        file.write(os.urandom(512))
    assert read_anchors(tmp_path) == [older]
    with vaultd(tmp_path) as vault:
        vault.ask("open")
        with vault.attach() as ssd:
            assert ssd.anchor() == b"one"
            assert ssd.write(3, b"three") == {"ok": True}
            assert [slot.anchor for slot in read_anchors(tmp_path)] == [b"three", b"one"]


def test_a_disk_that_takes_no_more_loses_no_anchor(tmp_path: Path, chip: Vaultd) -> None:
    """Promise: a failed write is refused, changes nothing, and the next one works again."""
    with chip.attach() as ssd:
        ssd.write(1, b"one")  # in slot 0; the next ones go to slot 1, then 0
        ssd.write(1, b"one again")
        ssd.write(2, b"two")
        limit_file_sizes(chip, SLOT_SIZE_BYTES)
        for _ in range(20):
            assert code(ssd.write(3, b"three")) == "storage"
            assert ssd.anchor() == b"two"
        assert code(chip.ask("birth", seal="keyfile", **pins())) == "exists"
        limit_file_sizes(chip, resource.RLIM_INFINITY)
        # The refused sequence was not taken for the kept one.
        assert ssd.write(2, b"two again") == {"ok": True}
        assert ssd.anchor() == b"two again"
    chip.link.close()
    assert chip.process.wait(60) == 0
    assert chip.process.stderr is not None
    assert chip.process.stderr.read().count("\n") == 1, "one line, not one for each try"
    assert {slot.anchor for slot in read_anchors(tmp_path)} == {b"two again"}


def test_a_full_disk_does_not_stop_the_anchor(tmp_path: Path, chip: Vaultd) -> None:
    """Promise: nothing has to be allocated for a write, from the first one on."""
    file = tmp_path / "anchor"
    with chip.attach() as ssd:
        before = file.stat()
        assert before.st_size == 2 * SLOT_SIZE_BYTES
        for sequence in range(5):
            ssd.write(sequence, bytes([sequence]) * ANCHOR_SIZE_BYTES_MAX)
        after = file.stat()
    assert (after.st_ino, after.st_size, after.st_blocks) == (
        before.st_ino,
        before.st_size,
        before.st_blocks,
    )


def test_a_format_on_a_full_disk_leaves_the_old_disk(tmp_path: Path, chip: Vaultd) -> None:
    """Promise: refused, and key and anchor are what they were, in memory and on the disk."""
    with chip.attach() as ssd:
        key = ssd.volume_key()
        ssd.write(1, b"one")
    chip.ask("status")
    chip.ask("status")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.suffix != ".new"}
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        for limit in (0, SLOT_SIZE_BYTES, 2 * SLOT_SIZE_BYTES - 1):
            limit_file_sizes(chip, limit)
            assert code(chip.ask("attach_ssd", theirs.fileno(), mode="format")) == "storage"
        limit_file_sizes(chip, resource.RLIM_INFINITY)
        (tmp_path / "vault.sealed.new").unlink()
        # The anchor file has been prepared when the store fails.
        (tmp_path / "vault.sealed.new").mkdir()
        assert code(chip.ask("attach_ssd", theirs.fileno(), mode="format")) == "storage"
        (tmp_path / "vault.sealed.new").rmdir()
    after = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.suffix != ".new"}
    assert after == before
    with chip.attach() as ssd:
        assert (ssd.volume_key(), ssd.anchor()) == (key, b"one")


def test_a_format_that_may_have_happened_locks_the_vault(tmp_path: Path, chip: Vaultd) -> None:
    """Promise: when it is not known which key is in force, none is given out."""
    key = read_secrets(tmp_path)["volume_key"]
    # The store's rename succeeds, the anchor file's cannot.
    (tmp_path / "anchor").unlink()
    (tmp_path / "anchor").mkdir()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        assert code(chip.ask("attach_ssd", theirs.fileno(), mode="format")) == "storage"
        assert code(chip.ask("attach_ssd", theirs.fileno(), mode="open")) == "locked"
    (tmp_path / "anchor").rmdir()
    assert chip.ask("open")["ok"]
    with chip.attach() as ssd:
        assert ssd.anchor() is None  # the prepared file has taken its place
        assert ssd.volume_key() == read_secrets(tmp_path)["volume_key"] != key


def test_one_ssd_at_a_time(chip: Vaultd) -> None:
    """Promise: a second one is refused while the first is there, also with `format`."""
    with chip.attach() as first:
        key = first.volume_key()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours, theirs:
            for mode in ("open", "format", "adopt"):
                reply = chip.ask("attach_ssd", theirs.fileno(), mode=mode)
                assert code(reply) == "attached"
            theirs.close()
            assert ours.recv(1) == b"", "the vault kept the refused socket"
        assert first.write(1, b"one") == {"ok": True}
    with chip.attach() as second:
        assert (second.volume_key(), second.anchor()) == (key, b"one")


def test_what_a_dead_ssd_had_asked_comes_to_nothing(chip: Vaultd) -> None:
    """Promise: after a new SSD is attached nothing of the earlier one changes the anchor."""
    for attempt in range(50):
        with chip.attach() as first:
            packet = {"op": "write_anchor", "sequence": 10 * attempt + 9, "anchor": b"late"}
            first.link.send(cbor2.dumps(packet))
        with chip.attach() as second:
            seen = second.anchor()
            assert second.anchor() == seen
            # Whether it came in time or not, what was read is what is kept.
            kept = 10 * attempt + (9 if seen == b"late" else 0)
            assert second.write(kept, b"kept") == {"ok": True}
            assert second.write(10 * attempt + 9, b"newer") == {"ok": True}


def test_only_a_seqpacket_socket_is_attached(tmp_path: Path, chip: Vaultd) -> None:
    """Promise: nothing else is taken, and a refused format makes no new key."""
    before = (tmp_path / "vault.sealed").read_bytes()
    assert code(chip.ask("attach_ssd", mode="format")) == "descriptor"
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    datagrams, others = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, theirs, datagrams, others, (tmp_path / "anchor").open("rb") as file:
        for wrong in (theirs, others, file):
            assert code(chip.ask("attach_ssd", wrong.fileno(), mode="format")) == "descriptor"
    assert (tmp_path / "vault.sealed").read_bytes() == before


@pytest.mark.parametrize(
    "packet",
    [
        b"\xff",
        cbor2.dumps({"op": "volume_key", "more": 1}),
        cbor2.dumps({"op": "write_anchor", "sequence": 1}),
        cbor2.dumps({"op": "write_anchor", "sequence": 1, "anchor": b""}),
        cbor2.dumps({"op": "write_anchor", "sequence": 1, "anchor": bytes(513)}),
        cbor2.dumps({"op": "write_anchor", "sequence": -1, "anchor": b"x"}),
        cbor2.dumps({"op": "write_anchor", "sequence": 2**64, "anchor": b"x"}),
        cbor2.dumps({"op": "write_anchor", "sequence": 1, "anchor": "x"}),
        bytes(PACKET_SIZE_BYTES_MAX),
        bytes(2 * PACKET_SIZE_BYTES_MAX),
    ],
)
def test_malformed_packet_spoils_only_itself(chip: Vaultd, packet: bytes) -> None:
    """Promise: whatever arrives, the vault says so and goes on, on both links."""
    with chip.attach() as ssd:
        assert code(ssd.ask_raw(packet)) == "malformed"
        assert ssd.anchor() is None
        assert ssd.write(1, b"one") == {"ok": True}
        assert chip.ask("identity")["ok"]


def test_nothing_of_the_firmwares_is_open_to_the_ssd(chip: Vaultd) -> None:
    """Promise: no signature, no identity, no other SSD, for who has taken the SSD over."""
    with chip.attach() as ssd:
        for op in ("birth", "open", "identity", "accept_ticket", "attach_ssd"):
            assert code(ssd.ask(op)) == "unknown_op"


def test_the_ssd_can_send_no_descriptor(chip: Vaultd) -> None:
    """Promise: whatever it sends along never becomes a descriptor of the vault's."""
    reader, writer = os.pipe()
    with chip.attach() as ssd:
        for count in (1, 2, 100):
            packet = cbor2.dumps({"op": "read_anchor"})
            assert code(ssd.ask_raw(packet, *[writer] * count)) == "malformed"
        os.close(writer)
        with open(reader, "rb") as pipe:
            assert pipe.read() == b""
        assert ssd.anchor() is None


def test_an_ssd_that_does_not_listen_is_detached(chip: Vaultd) -> None:
    """Promise: a flood without reading costs the vault nothing but that link."""
    status = Path(f"/proc/{chip.process.pid}/status")

    def resident_kib() -> int:
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmRSS"))
        return int(line.split()[1])

    with chip.attach() as ssd:
        before = resident_kib()
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            flood(ssd)
        assert is_closed(ssd)
        assert resident_kib() - before < MEMORY_ALLOWANCE_KIB
    assert chip.ask("identity")["ok"]
    with chip.attach() as ssd:
        assert ssd.anchor() is None


def test_a_flood_does_not_shut_the_firmware_out(chip: Vaultd) -> None:
    """Promise: with the SSD asking without a pause, the firmware gets its turn each time."""
    with chip.attach() as ssd:
        packet = cbor2.dumps({"op": "read_anchor"})
        for _ in range(PACKETS_UNDER_WAY):
            ssd.link.send(packet)
        for count in range(FLOOD_PACKETS):
            assert ssd.link.recv(PACKET_SIZE_BYTES_MAX)
            ssd.link.send(packet)
            if count % 100 == 0:
                began = time.monotonic()
                assert chip.ask("identity")["ok"]
                assert time.monotonic() - began < TURN_SECONDS


def test_an_empty_packet_or_a_half_closed_link_detaches(chip: Vaultd) -> None:
    """Promise: ends of the ssd link, however they look, end that link alone."""
    with chip.attach() as ssd:
        ssd.link.send(b"")
        assert is_closed(ssd)
    with chip.attach() as ssd:
        ssd.link.shutdown(socket.SHUT_WR)
        assert is_closed(ssd)
    with chip.attach() as ssd:
        assert ssd.anchor() is None
    assert chip.ask("identity")["ok"]


def test_the_vault_ends_with_the_firmware_whatever_the_ssd_does(chip: Vaultd) -> None:
    """Promise: the main link's end is the vault's end, and the SSD sees it."""
    with chip.attach() as ssd:
        assert chip.close() == 0
        assert is_closed(ssd)
