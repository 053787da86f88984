"""Attack: exchange a file of the system, before the power-on or while the chip checks it.

The firmware image, the template of its variables and the recovery system lie in the workstation's
folder. A tracer stops the chip before every opening and reading of one of them and exchanges it
then: whatever the order, the machine gets what the ticket names, or nothing.
"""

import contextlib
import fcntl
import hashlib
import mmap
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from spacegray.chip import images
from spacegray.chip.client import ChipClient, Start
from spacegray.errors import SpacegrayError
from spacegray.links import Target
from spacegray.paths import WorkstationPaths
from spacegray.system.image import SystemImage
from tests.support import booting, media
from tests.support.booting import Bench
from tests.support.chip import born, workstation
from tests.support.swapper import Plan, swapping

NAIVE = """
import hashlib, pathlib, sys
path = pathlib.Path(sys.argv[1])
for _ in sys.stdin:
    verified, used = path.read_bytes(), path.read_bytes()
    print(hashlib.sha256(verified).hexdigest(), hashlib.sha256(used).hexdigest(), flush=True)
"""
SIZE_BYTES = 16 * 1024**2
SPACING_BYTES = 4096
STEPS_LIMIT = 64
EVIL = b"\xeb\xfe" * 512


@dataclass(frozen=True)
class File:
    """A file that a start needs, and how a start without it fails."""

    name: str
    target: Target
    link: str


FILES = (
    File("firmware", "main", "firmware"),
    File("variables", "main", "firmware"),
    File("recovery", "recovery", "kernel"),
)


@dataclass(frozen=True)
class Home:
    """A workstation whose chip runs."""

    at: WorkstationPaths
    pid: int
    client: ChipClient

    def content(self, file: File) -> bytes:
        """What the machine gets of a start; raises SpacegrayError where the chip refuses it."""
        with self.client.prepare_start(file.target) as start:
            return read(start, file)

    def off(self) -> None:
        """The machine is off."""
        self.client.close_disk()


def read(start: Start, file: File) -> bytes:
    """What was handed over of, or was made of, a file."""
    number = {"firmware": start.firmware, "variables": start.variables, "recovery": start.medium}
    descriptor = number[file.name]
    return os.pread(descriptor, os.fstat(descriptor).st_size, 0)


def changed(content: bytes) -> bytes:
    """Another content of the same length, different wherever one looks."""
    bad = bytearray(content)
    for at in range(0, len(bad), SPACING_BYTES):
        bad[at] ^= 1
    return bytes(bad)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    at = workstation(tmp_path_factory.mktemp("home"))
    with born(at) as chip, chip.client() as client:
        client.create_disk(SIZE_BYTES)
        yield Home(at, chip.process.pid, client)


@pytest.fixture(params=FILES, ids=lambda file: file.name)
def file(request: pytest.FixtureRequest) -> File:
    found: File = request.param
    return found


@contextlib.contextmanager
def attacked(home: Home, file: File, plan: Plan) -> Iterator[list[str]]:
    """The steps that the chip makes while its file is exchanged by a plan."""
    path = getattr(home.at.slot("a"), file.name)
    with swapping(home.pid, path, changed(path.read_bytes()), plan) as swapper:
        yield swapper.steps
    home.off()


def test_changed_before_the_power_on_it_does_not_start(home: Home, file: File) -> None:
    path = getattr(home.at.slot("a"), file.name)
    good = path.read_bytes()
    named = home.client.show()["slots"]["a"][file.name]
    bad = bytearray(good)
    bad[len(bad) // 2] ^= 1
    for content in (bytes(bad), good[:-1], good + b"\0", b""):
        path.write_bytes(content)
        try:
            with pytest.raises(SpacegrayError) as refused:
                home.content(file)
        finally:
            path.write_bytes(good)
        assert refused.value.link == file.link
        said = str(refused.value)
        assert named[:16] in said, said
        assert hashlib.sha256(content).hexdigest()[:16] in said, said
    assert home.content(file)
    home.off()


def test_exchanged_at_any_opening_or_reading_it_is_what_was_verified(
    home: Home, file: File
) -> None:
    with attacked(home, file, lambda _: False) as steps:
        expected = home.content(file)
    assert steps[0] == "open"
    assert steps.count("read") >= 2, "the tracer missed what it is for"
    refused = started = 0
    for plan in plans(len(steps)):
        with attacked(home, file, plan) as made:
            try:
                assert home.content(file) == expected
                started += 1
            except SpacegrayError as error:
                if error.link != file.link:
                    raise
                refused += 1
        assert made, "nothing was exchanged"
    assert refused >= len(steps), "the exchanges did not reach the chip"
    assert started, "not even an exchange that comes too late"


def plans(steps: int) -> Iterator[Plan]:
    """From each step on; at each step alone; up to each step; at every other one; too late."""
    assert steps < STEPS_LIMIT
    for step in range(steps):
        yield step.__le__
        yield step.__eq__
        yield step.__ge__
    yield lambda at: at % 2 == 0
    yield lambda at: at % 2 == 1
    yield steps.__le__


def test_what_was_verified_is_what_the_ticket_names(home: Home, file: File) -> None:
    """Of the template a store is made, which has no digest of its own in the ticket."""
    if file.name == "variables":
        content = home.at.slot("a").variables.read_bytes()
    else:
        content = home.content(file)
        home.off()
    assert hashlib.sha256(content).hexdigest() == home.client.show()["slots"]["a"][file.name]


@pytest.fixture(scope="module")
def bench(tiny: SystemImage) -> Iterator[Bench]:
    """A machine whose system is the real one."""
    kernel, recovery = tiny.kernel.read_bytes(), tiny.recovery.read_bytes()
    with booting.bench(booting.signed(kernel), booting.signed(recovery)) as made:
        yield made


@pytest.mark.parametrize("part", [".initrd", ".linux"])
def test_a_changed_byte_of_the_kernel_image_stops_it(
    bench: Bench, tiny: SystemImage, part: str
) -> None:
    """In the initial file system, in the kernel; `test_changed.py` has the command line."""
    image = bytearray(booting.signed(tiny.kernel.read_bytes()))
    at = image.index(media.section(bytes(image), part))
    image[at + len(media.section(bytes(image), part)) // 2] ^= 1
    bench.lay(bytes(image))
    assert bench.verdict() == "refused by the firmware"


def test_what_was_handed_over_refuses_to_be_written(home: Home) -> None:
    """Not by its descriptor, not reopened, not resized, not mapped."""
    handed: list[tuple[Target, str]] = [("main", "firmware"), ("recovery", "medium")]
    for target, name in handed:
        with home.client.prepare_start(target) as start:
            descriptor = getattr(start, name)
            with pytest.raises(OSError, match="Bad file descriptor"):
                os.pwrite(descriptor, EVIL, 0)
            writable = os.open(f"/proc/self/fd/{descriptor}", os.O_RDWR)
            try:
                with pytest.raises(PermissionError):
                    os.pwrite(writable, EVIL, 0)
                with pytest.raises(PermissionError):
                    os.ftruncate(writable, 0)
                with pytest.raises(PermissionError):
                    mmap.mmap(writable, 4096, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
                seals = fcntl.fcntl(writable, fcntl.F_GET_SEALS)
                assert seals & fcntl.F_SEAL_WRITE
                assert seals & fcntl.F_SEAL_SEAL
            finally:
                os.close(writable)
        home.off()


def test_control_what_is_not_sealed_can_be_written() -> None:
    """The attack itself works where there is no seal."""
    descriptor = images.writable_copy(b"variables", "control")
    try:
        assert os.pwrite(descriptor, b"V", 0) == 1
    finally:
        os.close(descriptor)


def test_control_who_checks_a_path_and_opens_it_again_is_deceived(tmp_path: Path) -> None:
    """The attack itself works: there is an exchange by which a naive check passes."""
    path = tmp_path / "file"
    path.write_bytes(b"good" * SPACING_BYTES)
    good, bad = path.read_bytes(), changed(path.read_bytes())
    deceived = False
    with subprocess.Popen(
        [sys.executable, "-c", NAIVE, str(path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as naive:  # fmt: skip
        assert naive.stdin is not None
        assert naive.stdout is not None
        for step in range(STEPS_LIMIT):
            with swapping(naive.pid, path, bad, step.__le__) as swapper:
                naive.stdin.write("start\n")
                naive.stdin.flush()
                verified, used = naive.stdout.readline().split()
            digests = [hashlib.sha256(each).hexdigest() for each in (good, bad)]
            deceived |= [verified, used] == digests
            if step >= len(swapper.steps):
                break
        naive.stdin.close()
    assert deceived
