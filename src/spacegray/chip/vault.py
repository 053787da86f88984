"""The client of the vault: asks, and links the SSD's controller to it.

One CBOR map per packet on a SOCK_SEQPACKET pair, docs/vault-protocol.md. No key ever comes
back over this link: the volume key goes over a pair of its own from the vault to the SSD's
controller, and no end of that pair stays here. Signatures and certificates are public.
"""

import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from spacegray.chip.packets import exchange
from spacegray.chip.part import Part, Watcher
from spacegray.errors import SpacegrayError
from spacegray.sockets import PeerError

ANSWER_SECONDS: Final = 30.0
"""Longer than an RSA key takes to make on a slow host."""
STOP_SECONDS: Final = 2.0
END_SECONDS: Final = 0.5
"""What a vault that hung up gets to end, so that the error can say how it did."""

_ECID_LIMIT: Final = 2**64
_HELP: Final = {
    "unborn": "create the workstation again, or put its state folder back",
    "sealed": "put the chip's state folder back as it was; without its sealing key the disk "
    "cannot be opened",
    "corrupt": "put the chip's state folder back from a backup",
    "attached": "stop what uses the disk, then try again",
    "exists": "choose another name, or delete that workstation first",
}


class VaultRefusalError(SpacegrayError):
    """The vault answered, and said no; `code` is the protocol's word."""

    def __init__(self, doing: str, code: str, detail: str) -> None:
        self.code = code
        super().__init__(
            doing,
            f"the vault refused ({code}: {detail})",
            _HELP.get(code, "see `logs`"),
            link="chip",
        )


@dataclass(frozen=True)
class Identity:
    """The public half of the vault; keys and certificates are DER."""

    ecid: int
    identity_public_key: bytes
    pk: bytes
    kek: bytes
    db: bytes


class Vault:
    """A running vault of one chip."""

    def __init__(
        self,
        program: Path,
        state_folder: Path,
        *,
        watcher: Watcher,
        ended: Callable[[Part], None],
    ) -> None:
        """Start `program` on `state_folder`; raises SpacegrayError when that fails."""
        self._link, far_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._link.settimeout(ANSWER_SECONDS)
        folder = -1
        try:
            folder = os.open(state_folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            self._part = Part(
                [program, "--state-fd", str(folder), "--link-fd", str(far_end.fileno())],
                descriptors=(folder, far_end.fileno()),
                reach=None,  # It confines itself, and more tightly than its parent could.
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
            if folder >= 0:
                os.close(folder)

    @property
    def pid(self) -> int:
        return self._part.pid

    def birth(self) -> int:
        """Make the keys; returns the ECID. Raises VaultRefusalError `exists`."""
        return _ecid(self._ask("making the keys", {"op": "birth"}))

    def open(self) -> int:
        """Unseal the keys; returns the ECID.

        Raises VaultRefusalError `unborn`, `sealed` or `corrupt`.
        """
        return _ecid(self._ask("opening the vault", {"op": "open"}))

    def identity(self) -> Identity:
        """The public keys and the certificates that the firmware is to trust."""
        reply = self._ask("reading the chip's identity", {"op": "identity"})
        return Identity(
            _ecid(reply),
            *(_bytes(reply, name) for name in ("identity_public_key", "pk", "kek", "db")),
        )

    def sign_image(self, digest: bytes) -> bytes:
        """A PKCS#7 signature over an Authenticode SHA-256 `digest`, as DER."""
        reply = self._ask("signing an image", {"op": "sign_image", "digest": digest})
        return _bytes(reply, "signature")

    def attach_ssd(self, new_key: bool) -> int:
        """Open a link to the vault for the SSD's controller, which may have the key over it.

        With `new_key` the disk's key is replaced and its anchor forgotten first: what was written
        is lost for good. Returns the descriptor of the link's other end, to be given away and
        closed. Raises VaultRefusalError `attached` while an earlier controller has its link.
        """
        doing = "erasing the disk's key" if new_key else "giving the disk its key"
        far_end, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with far_end, ours:
            request = {"op": "attach_ssd", "format": new_key}
            self._ask(doing, request, (ours.fileno(),))
            return far_end.detach()

    def stop(self) -> None:
        """Close the link, upon which the vault ends."""
        self._link.close()
        self._part.stop(timeout_seconds=STOP_SECONDS)

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
            raise VaultRefusalError(doing, str(reply.get("error")), str(reply.get("detail")))
        return reply


def _ecid(reply: dict[str, Any]) -> int:
    value = reply.get("ecid")
    if not isinstance(value, int) or not 0 <= value < _ECID_LIMIT:
        raise _broken("ecid")
    return value


def _bytes(reply: dict[str, Any], name: str) -> bytes:
    value = reply.get(name)
    if not isinstance(value, bytes):
        raise _broken(name)
    return value


def _broken(field: str) -> SpacegrayError:
    return SpacegrayError(
        "speaking to the vault", f"its answer has no {field}", "run the set-up again", link="chip"
    )
