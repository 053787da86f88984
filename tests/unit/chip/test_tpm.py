"""The host's TPM: a device or a socket for the vault, or one clear reason why there is none."""

import os
import socket
import stat
from pathlib import Path

import pytest

from spacegray.chip import tpm
from spacegray.chip.launch import launch
from spacegray.chip.refusal import ChipRefusalError
from spacegray.chip.tpm import Tpm
from spacegray.sockets import bind_unix
from tests.support.chip import born, workstation
from tests.support.tpm import emulated_tpm


def test_a_socket_is_connected_and_waits_for_answers(tmp_path: Path) -> None:
    with bind_unix(tmp_path / "tpm") as listener:
        found = Tpm.connect(tmp_path / "tpm", tmp_path)
        descriptor = found.detach()
        assert (found.trouble, found.detach()) == ("", -1)
        with socket.socket(fileno=descriptor) as ours, listener.accept()[0] as theirs:
            assert os.get_blocking(descriptor)
            theirs.sendall(b"answer")
            assert ours.recv(6) == b"answer"


def test_a_device_is_opened() -> None:
    descriptor = Tpm.connect(Path("/dev/null"), Path("/")).detach()
    assert os.write(descriptor, b"command") == 7
    os.close(descriptor)


@pytest.mark.parametrize("kind", ["missing", "file", "folder", "dead socket"])
def test_what_is_no_tpm_is_one_clear_reason(tmp_path: Path, kind: str) -> None:
    place = tmp_path / "tpm"
    if kind == "file":
        place.write_bytes(b"")
    elif kind == "folder":
        place.mkdir()
    elif kind == "dead socket":
        bind_unix(place).close()
    found = Tpm.connect(place, tmp_path)
    assert found.detach() == -1
    assert found.trouble.startswith(f"the TPM at {place} does not open: ")


def test_a_variable_names_another_tpm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(tpm.VARIABLE, raising=False)
    assert tpm.place() == tpm.DEVICE
    monkeypatch.setenv(tpm.VARIABLE, "/run/swtpm")
    assert tpm.place() == Path("/run/swtpm")


def test_a_chip_that_needs_a_tpm_says_which_one_failed(tmp_path: Path) -> None:
    """Promise: without its TPM no chip is born, and it is said where that was looked for."""
    at, nowhere = workstation(tmp_path), tmp_path / "nowhere"
    with pytest.raises(ChipRefusalError) as caught, born(at, seal="tpm2", tpm=nowhere):
        pass
    assert caught.value.code == "tpm"
    assert f"the TPM at {nowhere} does not open: No such file" in caught.value.stopped_by
    assert not (at.state_folder / "chip.json").exists()


def test_a_chip_of_another_seal_touches_no_tpm(tmp_path: Path) -> None:
    """Promise: device, socket and the host's map are only within reach of chips that need them."""
    at = workstation(tmp_path)
    with bind_unix(tmp_path / "tpm") as listener:
        listener.setblocking(False)
        with born(at, tpm=tmp_path / "tpm"):
            pass
        launch(at, tpm=tmp_path / "tpm").stop()
        with pytest.raises(BlockingIOError):
            listener.accept()
    assert not at.host_state.exists()


def test_a_chip_lives_and_dies_with_its_tpm(tmp_path: Path) -> None:
    """Promise: sealed in the TPM the chip opens with that one alone, and leaves nothing in it."""
    at = workstation(tmp_path)
    with emulated_tpm() as tpm, emulated_tpm() as other:
        untouched = tpm.indices()
        with born(at, seal="tpm2", tpm=tpm.socket) as chip, chip.client() as client:
            client.create_disk(64 * 1024**2)
            ecid = client.show()["ecid"]
        assert stat.S_IMODE(at.host_state.stat().st_mode) == 0o700
        with launch(at, tpm=tpm.socket) as chip, chip.client() as client:
            shown = client.show()
            assert (shown["ecid"], shown["seal"], shown["root"]) == (ecid, "tpm2", "tpm")
            client.check_disk()
            client.erase()
            assert client.show()["life"] == "erased"
        with pytest.raises(ChipRefusalError) as caught:
            launch(at, tpm=other.socket)
        assert caught.value.code in ("sealed", "put_back", "tpm")
        with launch(at, new=True, tpm=tpm.socket) as chip, chip.client() as client:
            client.destroy()
        # What is left is the host's own: its counter, which serves all chips.
        assert len(tpm.indices()) <= len(untouched) + 1
