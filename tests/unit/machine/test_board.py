"""The board: scaled to the host, locked on its command line, and real when QEMU gets it."""

import asyncio
import contextlib
import dataclasses
import os
import socket
import subprocess
from collections.abc import AsyncIterator, Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import psutil
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from spacegray import host, landlock, process
from spacegray.errors import SpacegrayError
from spacegray.machine import board, external, network
from spacegray.machine.accelerator import MARKER, Accelerator
from spacegray.machine.outcome import outcome
from spacegray.qmp import Qmp, RefusedError
from spacegray.spec import CORES, MEMORY_GB, Graphics, Spec

TEST_SECONDS = 60.0
TCG = Accelerator("tcg", "a test", 10.0)
KVM = Accelerator("kvm", "a test", 1.0)
IDENTITY = board.Identity("pro", 0x1122334455667788)
HOST = host.Host.current()
NUMBERS = board.Descriptors(
    firmware=50, variables=51, disk=52, monitor=53, serial=54, guest_port=55, agent_port=56
)


def small_host(*, cpus: int = 4, available_bytes: int = 8 << 30) -> host.Host:
    return host.Host(
        distribution="debian",
        version="13",
        codename="trixie",
        name="Debian",
        kernel="6.12",
        cpus=cpus,
        cpu_model="",
        memory_total_bytes=1 << 50,
        memory_available_bytes=available_bytes,
    )


@given(
    cores=st.sampled_from(CORES),
    memory_gb=st.sampled_from(MEMORY_GB),
    graphics=st.sampled_from(get_args(Graphics)),
    cpus=st.integers(1, 256),
    available_bytes=st.integers(0, 1 << 42),
    accelerator=st.sampled_from((TCG, KVM)),
)
def test_never_more_than_was_ordered_nor_than_the_host_can_spare(
    cores: Literal[8, 10, 14, 18],
    memory_gb: Literal[32, 64, 128, 256],
    graphics: Graphics,
    cpus: int,
    available_bytes: int,
    accelerator: Accelerator,
) -> None:
    spec = Spec(cores=cores, memory_gb=memory_gb, graphics=graphics)
    where = small_host(cpus=cpus, available_bytes=available_bytes)
    if available_bytes < 2 * board.MEMORY_LEAST_MB << 20:
        with pytest.raises(SpacegrayError, match="MiB"):
            board.scale(spec, where, accelerator)
        return
    made = board.scale(spec, where, accelerator)
    assert board.MEMORY_LEAST_MB <= made.memory_mb <= memory_gb * 1024
    assert made.memory_mb << 20 <= available_bytes // 2
    assert made.memory_mb % board.MEMORY_STEP_MB == 0
    assert 1 <= made.cores <= min(cores, cpus)
    if accelerator is TCG:
        assert made.cores == 1
        assert made.memory_mb <= 4096
    elif available_bytes // 2 >= memory_gb << 30:
        assert made.memory_mb == memory_gb * 1024
    assert made.summary().keys() == {"cores", "memory_gb", "graphics"}


def test_the_disk_has_a_queue_for_each_processor_up_to_its_limit() -> None:
    for cpus in (1, 4, 64):
        made = board.scale(Spec(cores=18), small_host(cpus=cpus), KVM)
        assert made.disk_queues == min(made.cores, board.DISK_QUEUES_LIMIT)
        assert f"num-queues={made.disk_queues}," in " ".join(board.command(made, NUMBERS, IDENTITY))


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_another_ecid_is_another_machine(one: int, other: int) -> None:
    assume(one != other)
    assert board.Identity("a", one).serial != board.Identity("a", other).serial
    assert board.Identity("a", one).uuid != board.Identity("a", other).uuid
    assert board.Identity("a", one).uuid == board.Identity("b", one).uuid


@pytest.mark.parametrize("accelerator", [TCG, KVM])
def test_the_command_line_is_locked(accelerator: Accelerator) -> None:
    made = board.scale(Spec(), small_host(), accelerator)
    words = board.command(made, NUMBERS, IDENTITY)
    line = " ".join(words)
    for needed in (
        "q35,smm=on",
        "driver=cfi.pflash01,property=secure,value=on",
        "-nodefaults",
        "-no-user-config",
        "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
        "reboot=shutdown,shutdown=poweroff,panic=none",
        "memory-backend-memfd,id=memory",
        "share=on",
        f"vhost-user-blk-pci,chardev=disk,num-queues={made.disk_queues},bootindex=0,"
        "disable-legacy=on",
        f"-accel {accelerator.name}",
    ):
        assert needed in line
    for forbidden in ("smm=off", "-kernel", "-initrd", "-append", "-bios", "-cdrom", "-drive"):
        assert forbidden not in line
    assert line.count("bootindex=") == 1
    assert [word for word in words if "romfile=" in word] == [
        "virtio-net-pci,netdev=network,romfile=,disable-legacy=on"
    ]


def test_everything_of_the_users_is_a_descriptor() -> None:
    words = board.command(board.scale(Spec(), small_host(), TCG), NUMBERS, IDENTITY)
    paths = {part for word in words for part in word.split("=") if part.startswith("/")}
    assert paths == {"/dev/fdset/1", "/dev/fdset/2", "/dev/urandom"}
    line = " ".join(words)
    for number in NUMBERS.all():
        assert f"fd={number}" in line


@pytest.fixture
def image(tmp_path: Path) -> Iterator[int]:
    """The descriptor of a small image."""
    with (tmp_path / "image").open("w+b") as file:
        file.truncate(1 << 20)
        yield file.fileno()


def bootable(words: list[str]) -> list[str]:
    """The devices that the firmware is told to start from."""
    return [word.partition(",")[0] for word in words if "bootindex=" in word]


def test_recovery_has_its_medium_and_its_port_and_no_disk(image: int) -> None:
    made = board.scale(Spec(), small_host(), TCG)
    given = dataclasses.replace(NUMBERS, disk=None, medium=image, recovery_port=57)
    words = board.command(made, given, IDENTITY)
    line = " ".join(words)
    assert bootable(words) == ["virtio-blk-pci"]
    assert "vhost-user-blk" not in line
    assert "driver=raw,node-name=medium,read-only=on," in line
    assert f"name={board.RECOVERY_PORT}" in line
    for number in given.all():
        assert f"fd={number}" in line


def test_an_external_disk_is_the_only_one_to_start_from(image: int) -> None:
    made = board.scale(Spec(), small_host(), TCG)
    given = dataclasses.replace(NUMBERS, external=image)
    words = board.command(made, given, IDENTITY)
    assert bootable(words) == ["usb-storage"]
    assert "vhost-user-blk-pci" in " ".join(words)
    assert "UsbStorageSupport" not in " ".join(words)


def test_without_one_no_firmware_is_left_a_way_to_usb_or_the_network() -> None:
    line = " ".join(board.command(board.scale(Spec(), small_host(), TCG), NUMBERS, IDENTITY))
    for way in ("UsbStorageSupport", "IPv4PXESupport", "VirtioNetSupport", "EFIShellSupport"):
        assert f"opt/org.tianocore/{way},string=no" in line
    assert "usb-storage" not in line
    assert board.RECOVERY_PORT not in line


def test_an_agent_port_is_there_when_it_is_given() -> None:
    made = board.scale(Spec(), small_host(), TCG)
    assert board.AGENT_PORT in " ".join(board.command(made, NUMBERS, IDENTITY))
    without = board.Descriptors(
        firmware=50, variables=51, disk=52, monitor=53, serial=54, guest_port=55
    )
    assert board.AGENT_PORT not in " ".join(board.command(made, without, IDENTITY))
    assert len(without.all()) == 6


def test_kvm_is_in_reach_of_a_machine_that_uses_it_and_of_no_other() -> None:
    for accelerator, wanted in ((KVM, True), (TCG, False)):
        made = board.scale(Spec(), small_host(), accelerator)
        assert (Path("/dev/kvm") in board.reach(made).write) == wanted


@dataclass
class Machine:
    """A real QEMU with our board, an empty disk, and our ends of its channels."""

    qmp: Qmp
    child: "subprocess.Popen[bytes]"
    serial: socket.socket


@contextlib.asynccontextmanager
async def power_on(tmp_path: Path, medium: int | None = None) -> AsyncIterator[Machine]:
    """Start the plain machine, confined as the real one is; or the locked one with a `medium`."""
    files = host.ovmf()
    made = board.scale(Spec(), HOST, TCG)
    pairs = [socket.socketpair() for _ in range(4)]
    disk = tmp_path / "disk.img"
    with contextlib.ExitStack() as stack:
        image = stack.enter_context(files.code.open("rb"))
        variables = stack.enter_context((tmp_path / "variables.fd").open("w+b"))
        variables.write(files.variables.read_bytes())
        variables.flush()
        raw = stack.enter_context(disk.open("w+b"))
        raw.truncate(64 << 20)
        monitor, serial, guest, agent = (theirs.fileno() for _, theirs in pairs)
        descriptors = board.Descriptors(
            firmware=image.fileno(),
            variables=variables.fileno(),
            disk=raw.fileno() if medium is None else None,
            medium=medium,
            monitor=monitor,
            serial=serial,
            guest_port=guest,
            agent_port=agent,
        )
        command = board.plain_command if medium is None else board.command
        child = process.spawn(
            command(made, descriptors, IDENTITY),
            descriptors=descriptors.all(),
            reach=board.reach(made),
        )
    for _, theirs in pairs:
        theirs.close()
    try:
        async with await Qmp.connect(pairs[0][0]) as qmp:
            await qmp.wait_running()
            yield Machine(qmp, child, pairs[1][0])
    finally:
        child.kill()
        child.wait()
        for ours, _ in pairs:
            ours.close()


def run(test: Coroutine[Any, Any, None]) -> None:
    """Run one test; hanging is failing."""
    asyncio.run(asyncio.wait_for(test, TEST_SECONDS))


async def receive(connection: socket.socket, length: int) -> bytes:
    """Exactly `length` bytes."""
    connection.setblocking(False)
    loop, data = asyncio.get_running_loop(), b""
    while len(data) < length:
        chunk = await loop.sock_recv(connection, length - len(data))
        assert chunk, "the connection ended"
        data += chunk
    return data


def test_the_screen_is_served_on_a_socket_and_nobody_else_can_connect(tmp_path: Path) -> None:
    async def test() -> None:
        async with power_on(tmp_path) as machine:
            # The firmware switches the screen to its full size before it says its first word.
            heard = b""
            while MARKER not in heard:
                heard += await receive(machine.serial, 1)
            for _ in range(2):
                ours, theirs = socket.socketpair()
                with ours:
                    await machine.qmp.add_vnc_client(theirs.fileno())
                    theirs.close()
                    assert await receive(ours, 12) == b"RFB 003.008\n"
                    ours.sendall(b"RFB 003.008\n")
                    assert await receive(ours, 2) == b"\x01\x01", "one security type: None"
                    ours.sendall(b"\x01")
                    assert await receive(ours, 4) == bytes(4)
                    ours.sendall(b"\x01")
                    size = await receive(ours, 4)
                    width, height = int.from_bytes(size[:2]), int.from_bytes(size[2:])
                    assert (width, height) == (
                        board.DISPLAY_WIDTH_PIXELS,
                        board.DISPLAY_HEIGHT_PIXELS,
                    )
            assert psutil.Process(machine.child.pid).net_connections("inet") == []

    run(test())


def test_a_forwarded_port_listens_on_the_loopback_only(tmp_path: Path) -> None:
    async def test() -> None:
        async with power_on(tmp_path) as machine:
            port = await network.forward_ssh(machine.qmp)
            other = await network.forward(machine.qmp, 80)
            assert port != other
            listening = psutil.Process(machine.child.pid).net_connections("inet")
            assert {tuple(found.laddr) for found in listening} == {
                ("127.0.0.1", port),
                ("127.0.0.1", other),
            }

    run(test())


def test_qemu_reads_its_own_data_and_nothing_of_the_users(tmp_path: Path) -> None:
    if not landlock.supported():
        pytest.skip("this kernel has no Landlock")
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(4096))

    def node(path: Path) -> dict[str, object]:
        return {"driver": "file", "node-name": "probe", "filename": str(path), "read-only": True}

    async def test() -> None:
        async with power_on(tmp_path) as machine:
            await machine.qmp.execute("blockdev-add", node(host.ovmf().code))
            await machine.qmp.execute("blockdev-del", {"node-name": "probe"})
            for path in (secret, Path("/etc/passwd")):
                with pytest.raises(RefusedError, match="Permission denied"):
                    await machine.qmp.execute("blockdev-add", node(path))
            with pytest.raises(RefusedError, match="Permission denied"):
                await machine.qmp.execute("screendump", {"filename": str(tmp_path / "out.ppm")})
            status = Path(f"/proc/{machine.child.pid}/status").read_text()
            assert "Seccomp:\t2" in status
            assert "NoNewPrivs:\t1" in status

    run(test())


def test_an_external_disk_is_plugged_in_while_it_runs(tmp_path: Path) -> None:
    path = tmp_path / "external.img"
    path.write_bytes(bytes(1 << 20))

    async def test() -> None:
        async with power_on(tmp_path) as machine:
            with external.opened(path, "starting") as descriptor:
                await external.plug(machine.qmp, descriptor)
            blocks = await machine.qmp.execute("query-block")
            (found,) = [each for each in blocks if "external" in each["qdev"]]
            assert found["inserted"]["ro"] is False
            assert found["inserted"]["image"]["virtual-size"] == 1 << 20

    run(test())


def test_recovery_s_medium_is_read_only_and_there(tmp_path: Path) -> None:
    """As the chip hands it over: a sealed memory file, opened anew for reading."""
    writable = os.memfd_create("medium", os.MFD_CLOEXEC)
    os.truncate(writable, 1 << 20)
    medium = os.open(f"/proc/self/fd/{writable}", os.O_RDONLY | os.O_CLOEXEC)
    os.close(writable)

    async def test() -> None:
        async with power_on(tmp_path, medium=medium) as machine:
            blocks = await machine.qmp.execute("query-block")
            (found,) = [each for each in blocks if "virtio" in each["qdev"]]
            assert found["inserted"]["node-name"] == "medium"
            assert found["inserted"]["ro"] is True

    try:
        run(test())
    finally:
        os.close(medium)


def test_a_reset_ends_qemu_and_says_so_first(tmp_path: Path) -> None:
    async def test() -> None:
        async with power_on(tmp_path) as machine:
            await machine.qmp.execute("system_reset")
            ends = [outcome(event) async for event in machine.qmp.events()]
            assert [end.kind for end in ends if end] == ["reset"]
            assert machine.child.wait(10) == 0

    run(test())


def test_the_processor_is_the_one_that_was_ordered(tmp_path: Path) -> None:
    async def test() -> None:
        async with power_on(tmp_path) as machine:
            (cpu,) = await machine.qmp.execute("query-cpus-fast")
            name = {"path": cpu["qom-path"], "property": "model-id"}
            assert "Xeon(R) W-2140B" in await machine.qmp.execute("qom-get", name)

    run(test())


def test_the_disk_of_the_locked_machine_is_served_by_vhost_user(tmp_path: Path) -> None:
    """QEMU's storage daemon stands in for the chip's front end."""
    image, path = tmp_path / "disk.img", tmp_path / "disk.sock"
    with image.open("wb") as file:
        file.truncate(64 << 20)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(1)
    number = listener.fileno()
    daemon = process.spawn(
        [
            "qemu-storage-daemon",
            "--blockdev",
            f"driver=raw,node-name=disk,file.driver=file,file.filename={image}",
            "--export",
            f"type=vhost-user-blk,id=export,node-name=disk,writable=on,num-queues=16,"
            f"addr.type=fd,addr.str={number}",
        ],
        descriptors=(number,),
    )
    ours, theirs = socket.socketpair()
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(str(path))
        files = host.ovmf()
        made = board.scale(Spec(), HOST, TCG)
        others = [socket.socketpair() for _ in range(2)]
        with files.code.open("rb") as code, (tmp_path / "variables.fd").open("w+b") as variables:
            variables.write(files.variables.read_bytes())
            variables.flush()
            descriptors = board.Descriptors(
                firmware=code.fileno(),
                variables=variables.fileno(),
                disk=connection.fileno(),
                monitor=theirs.fileno(),
                serial=others[0][1].fileno(),
                guest_port=others[1][1].fileno(),
            )
            child = process.spawn(
                board.command(made, descriptors, IDENTITY),
                descriptors=descriptors.all(),
                reach=board.reach(made),
            )
        theirs.close()

        async def test() -> None:
            async with await Qmp.connect(ours) as qmp:
                await qmp.wait_running()
                types = {
                    (entry["name"], entry["type"])
                    for entry in await qmp.execute("qom-list", {"path": "/machine/peripheral-anon"})
                }
                assert "child<vhost-user-blk-pci>" in {kind for _, kind in types}

        try:
            run(test())
        finally:
            child.kill()
            child.wait()
            for pair in others:
                for end in pair:
                    end.close()
    finally:
        daemon.kill()
        daemon.wait()
        for end in (listener, connection, ours):
            end.close()
