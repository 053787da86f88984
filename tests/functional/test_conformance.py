"""The SSD's NBD front end, judged by programs that are not ours, over the whole chip.

libnbd's tools, QEMU's tools and fio each use the disk as they would use any other; none is told
whose it is. Where they compare, it is with a plain file that went through the same.
"""

import json
import os
import random
import socket
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from spacegray.bench import servers
from spacegray.nbd import NbdClient
from spacegray.sockets import bind_unix

KIB, MIB = 1024, 1024**2
SIZE = 64 * MIB + 3 * 4096
"""Not a round number: ends are where mistakes are."""
REQUEST_LIMIT = 32 * MIB
TOOL_SECONDS = 300
SAID_CHARACTERS = 2000


@dataclass
class Disk:
    """A served disk."""

    path: Path

    @property
    def uri(self) -> str:
        return f"nbd+unix:///?socket={self.path}"

    def connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(TOOL_SECONDS)
        connection.connect(str(self.path))
        return connection


@pytest.fixture(scope="module")
def disk(tmp_path_factory) -> Iterator[Disk]:
    """A new disk of a chip of its own; each test writes first what it then reads."""
    with servers.ours(tmp_path_factory.mktemp("conformance"), SIZE) as server:
        yield Disk(server.socket)


def run(*words: object, stdin: str = "") -> str:
    """What a tool prints on its standard output; it must succeed.

    The system's own Python comes first: nbdsh looks for its library by it.
    """
    done = subprocess.run(
        [str(word) for word in words],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=TOOL_SECONDS,
        check=False,
        env={**os.environ, "PATH": f"/usr/bin:{os.environ['PATH']}"},
    )
    said = done.stderr[-SAID_CHARACTERS:] or done.stdout[-SAID_CHARACTERS:]
    assert done.returncode == 0, f"{words[0]}: {done.returncode}\n{said}"
    return done.stdout


def nbdsh(disk: Disk, script: str) -> str:
    """Run a libnbd script with the disk connected as `h`."""
    return run("nbdsh", "--base-allocation", "-u", disk.uri, "-c", script)


def random_file(path: Path, size: int, seed: int) -> Path:
    path.write_bytes(random.Random(seed).randbytes(size))
    return path


# What it says of itself: nbdinfo.


def test_it_introduces_itself_completely(disk):
    said = json.loads(run("nbdinfo", "--json", disk.uri))
    assert said["protocol"] == "newstyle-fixed"
    assert said["structured"] is True
    (export,) = said["exports"]
    assert export["export-name"] == ""
    assert export["export-size"] == SIZE
    assert export["is_read_only"] is False
    for ability in ("multi_conn", "flush", "fua", "trim", "zero", "df"):
        assert export[f"can_{ability}"] is True, ability
    assert "base:allocation" in export["contexts"]
    assert export["block_size_minimum"] == 512
    assert export["block_size_preferred"] == 4096
    assert export["block_size_maximum"] == REQUEST_LIMIT


@pytest.mark.parametrize(
    "ability", ["connect", "write", "flush", "fua", "trim", "zero", "multi-conn", "structured"]
)
def test_it_can(disk, ability):
    run("nbdinfo", "--can", ability, disk.uri)


def test_there_is_one_export_and_no_other(disk):
    listed = json.loads(run("nbdinfo", "--list", "--json", disk.uri))
    assert [export["export-name"] for export in listed["exports"]] == [""]
    other = f"nbd+unix:///another?socket={disk.path}"
    done = subprocess.run(["nbdinfo", other], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "nbd_opt_go" in done.stderr or "server" in done.stderr, done.stderr
    assert int(run("nbdinfo", "--size", disk.uri)) == SIZE


def test_the_map_shows_what_was_written_and_what_was_trimmed(disk):
    nbdsh(
        disk,
        f"""
size = {SIZE}
for offset in range(0, size, {16 * MIB}):
    h.trim(min({16 * MIB}, size - offset), offset)
h.pwrite(b"\\x5a" * {MIB}, {4 * MIB})
h.pwrite(b"\\x5a" * 4096, size - 4096)
h.trim({64 * KIB}, {4 * MIB + 256 * KIB})
h.zero({64 * KIB}, {4 * MIB + 512 * KIB})
h.flush()
""",
    )
    extents = json.loads(run("nbdinfo", "--map", "--json", disk.uri))
    data = [(each["offset"], each["length"]) for each in extents if each["type"] == 0]
    holes = [(each["offset"], each["length"]) for each in extents if each["type"] == 3]
    assert len(data) + len(holes) == len(extents), extents
    assert data == [
        (4 * MIB, 256 * KIB),
        (4 * MIB + 320 * KIB, 192 * KIB),
        (4 * MIB + 576 * KIB, 448 * KIB),
        (SIZE - 4096, 4096),
    ]
    assert sum(length for _, length in data + holes) == SIZE


# Whole images: nbdcopy.


@pytest.mark.parametrize(
    "options",
    [(), ("--connections=4", "--requests=64"), ("--synchronous",), ("--request-size=4096",)],
    ids=["plain", "four connections", "synchronous", "small requests"],
)
def test_nbdcopy_in_and_out_is_the_same(disk, tmp_path, options):
    source = random_file(tmp_path / "in", SIZE, seed=len(str(options)))
    run("nbdcopy", "--flush", *options, source, disk.uri)
    run("nbdcopy", *options, disk.uri, tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == source.read_bytes()


def test_nbdcopy_keeps_holes(disk, tmp_path):
    """Zeros in the source become holes in the disk, and read as zeros."""
    content = bytearray(SIZE)
    content[8 * MIB : 9 * MIB] = random.Random(1).randbytes(MIB)
    (tmp_path / "in").write_bytes(content)
    run("nbdcopy", "--flush", random_file(tmp_path / "noise", SIZE, seed=2), disk.uri)
    run("nbdcopy", "--flush", tmp_path / "in", disk.uri)
    extents = json.loads(run("nbdinfo", "--map", "--json", disk.uri))
    assert sum(each["length"] for each in extents if each["type"] == 0) < 2 * MIB
    run("nbdcopy", disk.uri, tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == content


# Patterns: qemu-io.


def qemu_io(target: object, *commands: str) -> None:
    """Run commands; qemu-io says of a wrong pattern so, and of a failed request too."""
    words = [word for command in commands for word in ("-c", command)]
    said = run("qemu-io", "-f", "raw", "-d", "unmap", "-t", "writeback", *words, target)
    for wrong in ("Pattern verification failed", "failed:", "Error", "Invalid"):
        assert wrong not in said, said


def test_qemu_io_patterns(disk):
    qemu_io(
        disk.uri,
        "write -P 0xa1 0 1M",
        "write -P 0xa2 512 512",
        "write -P 0xa3 4608 7680",
        "write -f -P 0xa4 1M 4k",
        "read -P 0xa1 0 512",
        "read -P 0xa2 512 512",
        "read -P 0xa1 1024 3584",
        "read -P 0xa3 4608 7680",
        "read -P 0xa4 1M 4k",
        "write -z 64k 64k",
        "write -z -u 128k 60k",
        "write -z 200704 512",
        "read -P 0 64k 124k",
        "read -P 0 200704 512",
        "read -P 0xa1 201216 3584",
        "discard 512k 256k",
        "read -P 0 512k 256k",
        "discard 786944 1024",
        "read -P 0xa1 256k 256k",
        f"write -P 0xa5 {SIZE - 512} 512",
        f"read -P 0xa5 {SIZE - 512} 512",
        "flush",
    )


def test_qemu_io_many_at_once(disk):
    """Asynchronous requests, then all of what they left."""
    count = 64
    writes = [f"aio_write -P {1 + n} {n * 128}k 128k" for n in range(count)]
    reads = [f"aio_read -P {1 + n} {n * 128}k 128k" for n in reversed(range(count))]
    qemu_io(disk.uri, *writes, "aio_flush", *reads, "aio_flush")


# The same through a plain file: qemu-img.


@pytest.mark.parametrize("seed", range(4))
def test_random_operations_leave_what_they_leave_in_a_file(disk, tmp_path, seed):
    """Half of the seeds in whole blocks, half in sectors."""
    twin = tmp_path / "twin"
    twin.write_bytes(bytes(SIZE))
    unit = 4096 if seed % 2 else 512
    commands = random_commands(random.Random(seed), unit)
    for target in (disk.uri, str(twin)):
        qemu_io(target, f"write -z 0 {32 * MIB}", f"write -z {32 * MIB} {SIZE - 32 * MIB}")
        for start in range(0, len(commands), 100):
            qemu_io(target, *commands[start : start + 100])
    run("qemu-img", "compare", "-f", "raw", "-F", "raw", disk.uri, twin)
    run("qemu-img", "convert", "-f", "raw", "-O", "raw", disk.uri, tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == twin.read_bytes()


def random_commands(rng: random.Random, unit: int) -> list[str]:
    commands = []
    for _ in range(400):
        length = unit * rng.choice((1, 2, 3, 8, 13, 100))
        offset = unit * rng.randrange((SIZE - length) // unit + 1)
        match rng.randrange(8):
            case 0:
                commands.append(f"write -z {offset} {length}")
            case 1:
                # What a discard leaves is the server's choice; zeros after it are not.
                commands += [f"discard {offset} {length}", f"write -z -u {offset} {length}"]
            case 2:
                commands.append("flush")
            case _:
                force = rng.choice(("", "-f "))
                commands.append(f"write {force}-P {rng.randrange(1, 256)} {offset} {length}")
    return commands


# Load with every block verified: fio.


def fio(disk: Disk, *words: str) -> dict[str, int]:
    """Run one job; fio fails when a block is not what it wrote."""
    common = ("--name=verify", "--ioengine=nbd", f"--uri={disk.uri}", "--output-format=json")
    said = run("fio", *common, "--verify_state_save=0", *words)
    jobs = json.loads(said[said.index("{") : said.rindex("}") + 1])["jobs"]
    assert all(job["error"] == 0 for job in jobs)
    sides = ("read", "write", "trim")
    return {side: sum(job[side]["total_ios"] for job in jobs) for side in sides}


@pytest.mark.parametrize("block", ["bs=512", "bs=4k", "bs=12k", "bsrange=512-64k"])
def test_fio_finds_what_it_wrote(disk, block):
    done = fio(
        disk,
        *("--rw=randwrite", f"--{block}", f"--size={12 * MIB}"),
        *("--iodepth=16", "--verify=crc32c", "--verify_fatal=1", "--do_verify=1"),
    )
    assert done["write"] > 0
    assert done["read"] >= done["write"], "every block was read again"


def test_fio_finds_zeros_where_it_trimmed(disk):
    """Four quarters are written, one is trimmed block by block, and nothing else is gone."""
    quarter, trimmed = 4 * MIB, 1
    written = ("--rw=write", "--bs=4k", f"--size={quarter}", "--verify=crc32c", "--verify_fatal=1")
    for number in range(4):
        fio(disk, *written, f"--offset={number * quarter}", "--do_verify=0")
    done = fio(disk, "--rw=randtrim", "--bs=4k", f"--size={quarter}", f"--offset={quarter}")
    assert done["trim"] == quarter // 4096
    for number in range(4):
        where = f"--offset={number * quarter}"
        if number == trimmed:
            zeros = ("--verify=pattern", "--verify_pattern=0x00000000", "--verify_fatal=1")
            done = fio(disk, "--rw=read", "--bs=4k", f"--size={quarter}", where, *zeros)
        else:
            done = fio(disk, *written, where, "--verify_only=1")
        assert done["read"] == quarter // 4096


def test_fio_on_four_connections(disk):
    """Four at once, each on its own quarter."""
    quarter = 16 * MIB
    done = fio(
        disk,
        *("--rw=randrw", "--bs=4k", "--iodepth=8", "--numjobs=4", f"--size={quarter}"),
        *(f"--offset_increment={quarter}", "--verify=crc32c", "--verify_fatal=1"),
        "--fsync=64",
    )
    assert done["write"] >= 4 * quarter // 4096 // 4


# What no well-meaning client sends: libnbd without its own checks, and a bare socket.

HOSTILE = """
import errno
h.set_strict_mode(0)
size = h.get_size()
assert size == {size}
tried = 0
def refused(words, *allowed):
    global tried
    tried += 1
    try:
        words()
    except nbd.Error as error:
        assert error.errnum in allowed, (tried, error.errnum, error.string)
    else:
        raise AssertionError(f"request {{tried}} was served")
    h.pwrite(b"alive " * 1024, 0)
    assert h.pread(6144, 0) == bytearray(b"alive " * 1024)
BAD = (errno.EINVAL, errno.ENOTSUP, errno.EOVERFLOW)
for offset, length in ((size, 512), (size - 512, 1024), (size + 2**32, 4096), (2**63 - 4096, 4096)):
    refused(lambda: h.pread(length, offset), *BAD)
    refused(lambda: h.pwrite(bytes(length), offset), errno.ENOSPC, *BAD)
    refused(lambda: h.trim(length, offset), errno.ENOSPC, *BAD)
    refused(lambda: h.zero(length, offset), errno.ENOSPC, *BAD)
    refused(lambda: h.block_status(length, offset, lambda *_: 0), *BAD)
for offset, length in ((1, 512), (0, 3), (511, 2)):
    refused(lambda: h.pread(length, offset), *BAD)
    refused(lambda: h.pwrite(bytes(length), offset), *BAD)
    refused(lambda: h.trim(length, offset), *BAD)
    refused(lambda: h.zero(length, offset), *BAD)
refused(lambda: h.pread({limit} + 512, 0), *BAD)
for flags in (1 << 7, 1 << 14):
    refused(lambda: h.pread(512, 0, flags), *BAD)
    refused(lambda: h.pwrite(bytes(512), 0, flags), *BAD)
    refused(lambda: h.flush(flags), *BAD)
print(tried)
"""


def test_bad_requests_are_refused_and_the_connection_lives_on(disk):
    script = HOSTILE.format(size=SIZE, limit=REQUEST_LIMIT)
    assert int(nbdsh(disk, script)) >= 35


def test_the_longest_request_is_served(disk):
    nbdsh(
        disk,
        f"""
data = b"longest!" * {REQUEST_LIMIT // 8}
h.pwrite(data, 4096)
assert h.pread({REQUEST_LIMIT}, 4096) == data
""",
    )


def negotiated(disk: Disk) -> socket.socket:
    """A connection in the transmission phase, with simple replies."""
    connection = disk.connect()
    NbdClient(connection)
    return connection


def request(command: int, offset: int, length: int, *, magic: int = 0x25609513) -> bytes:
    return struct.pack(">IHHQQI", magic, 0, command, 1, offset, length)


def receive(connection: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length:
        chunk = connection.recv(length - len(data))
        if not chunk:
            break
        data += chunk
    return data


def test_an_unknown_command_is_an_error_and_no_end(disk):
    with negotiated(disk) as connection:
        for command in (8, 99, 0xFFFF):
            connection.sendall(request(command, 0, 512))
            magic, error, handle = struct.unpack(">IIQ", receive(connection, 16))
            assert (magic, handle) == (0x67446698, 1)
            assert error in (22, 95), "EINVAL or ENOTSUP"
        connection.sendall(request(0, 0, 512))
        assert len(receive(connection, 16 + 512)) == 16 + 512


@pytest.mark.parametrize(
    "words",
    [
        request(0, 0, 512, magic=0x12345678),
        request(1, 0, 0xFFFFFFFF) + b"x" * 4096,
        request(1, 0, 65536) + b"cut off",
        request(0, 0, 32 * MIB) * 8,
    ],
    ids=["no request", "4 GiB to come", "cut off in a write", "reads and does not listen"],
)
def test_who_misbehaves_is_hung_up_on_alone(disk, words):
    with negotiated(disk) as other:
        with negotiated(disk) as connection:
            connection.sendall(words)
        other.sendall(request(0, 0, 512))
        assert len(receive(other, 16 + 512)) == 16 + 512
    assert int(run("nbdinfo", "--size", disk.uri)) == SIZE


@pytest.mark.parametrize("seed", range(3))
def test_noise_instead_of_a_handshake(disk, seed):
    rng = random.Random(seed)
    for _ in range(20):
        with disk.connect() as connection:
            receive(connection, 18)
            words = struct.pack(">I", rng.choice((0, 1, 3, 0xFFFFFFFF))) if seed else b""
            if seed == 2:
                words += b"IHAVEOPT" + struct.pack(">II", rng.randrange(12), rng.randrange(1 << 20))
            connection.sendall(words + rng.randbytes(rng.randrange(1, 2048)))
    assert int(run("nbdinfo", "--size", disk.uri)) == SIZE


# Several clients.


def test_what_one_wrote_and_flushed_all_read(disk):
    """The promise of multi-conn: after a flush on one connection, each other sees it."""
    nbdsh(
        disk,
        f"""
others = [nbd.NBD() for _ in range(7)]
for other in others:
    other.connect_uri({disk.uri!r})
    assert other.can_multi_conn()
clients = [h, *others]
for turn in range(64):
    data = turn.to_bytes(2, "big") * 4096
    writer = clients[turn % len(clients)]
    writer.pwrite(data, turn * 8192)
    clients[(turn + 3) % len(clients)].flush()
    for client in clients:
        assert client.pread(8192, turn * 8192) == data, turn
for other in others:
    other.shutdown()
""",
    )


def test_all_is_there_after_closing_and_opening(tmp_path):
    """Not only what the running server remembers."""
    source = random_file(tmp_path / "in", SIZE, seed=9)
    with servers.chip(tmp_path / "chip", SIZE) as (_, mailbox):
        for number, words in enumerate((["--flush", source], [])):
            path = tmp_path / f"socket-{number}"
            with bind_unix(path) as listener:
                mailbox.serve_disk(listener)
            ends = (*words, Disk(path).uri) if words else (Disk(path).uri, tmp_path / "out")
            run("nbdcopy", *ends)
            mailbox.close_disk()
    assert (tmp_path / "out").read_bytes() == source.read_bytes()
