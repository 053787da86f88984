"""The link to the vault: its process, one question and its answer, a refusal as an error.

One CBOR map per packet on a SOCK_SEQPACKET pair, docs/vault-protocol.md.
"""

import os
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from spacegray import files
from spacegray.chip.messages import Mode, With
from spacegray.chip.packets import exchange
from spacegray.chip.part import Part, Watcher
from spacegray.chip.tpm import Tpm
from spacegray.chip.vault_words import ON_THE_HOST, VaultRefusalError
from spacegray.errors import SpacegrayError
from spacegray.sockets import PeerError, close_all

ANSWER_SECONDS: Final = 60.0
"""Longer than keys take to make on a slow host, and than a slow TPM takes for a boundary."""
STOP_SECONDS: Final = 2.0
END_SECONDS: Final = 0.5
"""What a vault that hung up gets to end, so that the error can say how it did."""


class VaultLink:
    """A running vault of one chip."""

    def __init__(
        self,
        program: Path,
        state_folder: Path,
        *,
        tpm: Tpm | None = None,
        watcher: Watcher,
        ended: Callable[[Part], None],
    ) -> None:
        """Start `program` on `state_folder`, with `tpm` where the seal needs one.

        The TPM's descriptor is the vault's from now on. Raises SpacegrayError when that fails.
        """
        self._tpm_trouble = tpm.trouble if tpm is not None else ""
        self._link, far_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._link.settimeout(ANSWER_SECONDS)
        words: list[str | Path] = [program, "--link-fd", str(far_end.fileno())]
        given: list[int] = []
        try:
            given.append(_folder(state_folder))
            words += ["--state-fd", str(given[-1])]
            if tpm is not None and (device := tpm.detach()) >= 0:
                given.append(device)
                given.append(_folder(files.make_private(tpm.host_state)))
                words += ["--tpm-fd", str(device), "--host-fd", str(given[-1])]
            self._part = Part(
                words,
                descriptors=(far_end.fileno(), *given),
                watcher=watcher,
                ended=ended,
            )
        except OSError as error:
            self._link.close()
            raise SpacegrayError(
                "starting the vault", error.strerror, "run the set-up (`./run doctor`)", link="chip"
            ) from None
        finally:
            far_end.close()
            close_all(given)

    @property
    def pid(self) -> int:
        return self._part.pid

    def stop(self) -> None:
        """Close the link, upon which the vault ends."""
        self._link.close()
        self._part.stop(timeout_seconds=STOP_SECONDS)

    def _prove(
        self,
        op: str,
        doing: str,
        with_: With,
        mode: Mode,
        descriptors: Sequence[int],
        **fields: object,
    ) -> dict[str, Any]:
        """Ask for what its owner alone may have."""
        return self._ask(doing, {"op": op, "with": with_, "mode": mode, **fields}, descriptors)

    def _ask(
        self, doing: str, request: dict[str, Any], descriptors: Sequence[int] = ()
    ) -> dict[str, Any]:
        try:
            reply = exchange(self._link, request, descriptors, peer="the vault")
        except (OSError, PeerError) as error:
            words = "no answer in time" if isinstance(error, TimeoutError) else error
            self._part.wait(END_SECONDS)
            raise SpacegrayError(
                doing,
                f"the vault failed ({words}; {self._part.last_words()})",
                "see `logs`, then start the workstation again",
                link="chip",
            ) from None
        if reply.get("ok") is not True:
            raise self._refusal(doing, str(reply.get("error")), str(reply.get("detail")))
        return reply

    def _refusal(self, doing: str, code: str, detail: str) -> VaultRefusalError:
        if code in ON_THE_HOST:
            detail = self._part.last_words().removeprefix("vaultd: ") or detail
        if code == "tpm":
            detail = self._tpm_trouble or detail
        return VaultRefusalError(doing, code, detail)


def read_bytes(reply: dict[str, Any], name: str) -> bytes:
    """The byte string `name` of an answer; raises SpacegrayError where there is none."""
    value = reply.get(name)
    if not isinstance(value, bytes):
        raise broken(name)
    return value


def broken(field: str) -> SpacegrayError:
    """The error for an answer that is not as its protocol says."""
    return SpacegrayError(
        "speaking to the vault", f"its answer has no {field}", "run the set-up again", link="chip"
    )


def _folder(path: Path) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
