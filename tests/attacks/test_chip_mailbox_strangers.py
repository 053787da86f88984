"""Attack: speak to a chip's mailbox as another user of the host.

Guards the row "other users of the host" of the design's table. The folders and the socket's
mode already keep them out; here the mode is opened on purpose, and the chip itself must refuse.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from spacegray.chip.launch import ChipProcess, launch
from tests.support.chip import workstation

STRANGER_UID = 65534
ATTEMPT = """
import socket, struct, sys
mailbox = socket.socket(socket.AF_UNIX)
mailbox.settimeout(10)
mailbox.connect(sys.argv[1])
try:
    mailbox.sendall(struct.pack(">I", 9) + b"\\xa1\\x62op\\x64show")
    answer = mailbox.recv(65536)
except OSError:
    answer = b""
print(f"{len(answer)} bytes")
"""


@pytest.fixture
def chip() -> Iterator[ChipProcess]:
    home = Path(tempfile.mkdtemp(prefix="spacegray-stranger-"))
    with launch(workstation(home), birth_source="host") as running:
        yield running
    shutil.rmtree(home)


def attempt(mailbox: Path, uid: int) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", ATTEMPT, str(mailbox)],
        capture_output=True,
        text=True,
        check=False,
        user=uid,
        env={},
    )


def open_the_way(mailbox: Path) -> None:
    """Undo what the modes of files and folders prevent."""
    mailbox.chmod(0o666)
    for folder in mailbox.parents:
        if folder == Path(tempfile.gettempdir()):
            return
        folder.chmod(0o755)


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")
def test_another_user_gets_no_answer(chip: ChipProcess) -> None:
    open_the_way(chip.mailbox)
    ourselves = attempt(chip.mailbox, os.geteuid())
    assert int(ourselves.stdout.split()[0]) > 0, "the control is not answered either"
    stranger = attempt(chip.mailbox, STRANGER_UID)
    assert stranger.stdout == "0 bytes\n", stranger.stderr
    assert answered(chip)


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")
def test_another_user_does_not_even_get_to_the_socket(chip: ChipProcess) -> None:
    stranger = attempt(chip.mailbox, STRANGER_UID)
    assert "PermissionError" in stranger.stderr


def answered(chip: ChipProcess) -> bool:
    with chip.client() as client:
        return bool(client.show())
