"""A vault under each kind of seal, with what each needs, for attacks on its files."""

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.support.tpm import EmulatedTpm, emulated_tpm
from tests.support.vaultd import Vaultd, secret, vaultd

SEALS = ("keyfile", "passphrase", "tpm2")
PASSPHRASE = b"a passphrase of some length"


@dataclass(frozen=True)
class Place:
    """Where a chip's files lie: `folder` holds its state folder and that of its host."""

    seal: str
    folder: Path
    tpm: EmulatedTpm | None = field(default=None, compare=False)

    @property
    def state(self) -> Path:
        return self.folder / "pro"

    @property
    def host(self) -> Path:
        return self.folder / ".host"

    def files(self) -> list[Path]:
        """All that it consists of, by its path in the folder."""
        found = (path for path in self.folder.rglob("*") if path.is_file())
        return sorted(path.relative_to(self.folder) for path in found)

    def copy(self, to: Path) -> "Place":
        """The chip's files as they are now, in another folder; its TPM is the same one."""
        shutil.copytree(self.folder, to)
        return replace(self, folder=to)

    @contextlib.contextmanager
    def cloned(self, to: Path) -> Iterator["Place"]:
        """The same chip with a TPM of its own, as that is now: what nobody but a test can do."""
        copy = self.copy(to)
        if self.tpm is None:
            yield copy
            return
        with emulated_tpm(like=self.tpm) as tpm:
            yield replace(copy, tpm=tpm)

    @contextlib.contextmanager
    def vault(self) -> Iterator[Vaultd]:
        """A running vault that was neither born nor opened."""
        socket = None if self.tpm is None else self.tpm.socket
        with vaultd(self.state, tpm=socket, host_state=self.host) as running:
            yield running

    @contextlib.contextmanager
    def opened(self) -> Iterator[Vaultd]:
        """A running vault that opened; raises AssertionError with its refusal."""
        with self.vault() as running:
            answer = self.open(running)
            assert answer == "ok", answer
            yield running

    def open(self, running: Vaultd) -> str:
        """Have a vault open; returns `ok` or its refusal's code."""
        answer = running.give("open", *self._secrets())
        return "ok" if answer["ok"] else str(answer["error"])

    def birth(self, running: Vaultd) -> None:
        """Have the chip made."""
        with contextlib.ExitStack() as stack:
            given = [stack.enter_context(secret(each)) for each in self._secrets()]
            running.birth(self.seal, *given)

    def _secrets(self) -> list[bytes]:
        return [PASSPHRASE] if self.seal == "passphrase" else []


@contextlib.contextmanager
def sealed(seal: str, folder: Path) -> Iterator[Place]:
    """A place for a chip under this seal, with a TPM of its own where it needs one."""
    with contextlib.ExitStack() as stack:
        tpm = stack.enter_context(emulated_tpm()) if seal == "tpm2" else None
        place = Place(seal, folder, tpm)
        for each in (place.folder, place.state, place.host):
            each.mkdir(mode=0o700)
        yield place
