"""The service record and the providers whose work orders count, as they are asked for.

The vault judges and signs; the firmware adds the host's time, and lets nobody record a job on a
machine that is on.
"""

import contextlib
import time
from collections.abc import Iterator
from typing import Final

import msgspec

from spacegray.chip import messages
from spacegray.chip.access import counted
from spacegray.chip.core import Core, Handler, Reply
from spacegray.chip.refusal import ChipRefusalError
from spacegray.chip.vault import VaultRefusalError
from spacegray.sockets import PeerError

_RECORDING: Final = "recording service"
_NO_KEY: Final = (
    "this is no public key of P-256",
    "give the file that `service provider-key` wrote",
)
_UNKNOWN: Final = (
    "this chip trusts no provider with that key",
    "`service providers` lists those it trusts",
)
_OTHER_CHIP: Final = (
    "the work order is for another chip",
    "have the provider issue one for this ECID (`chip show`)",
)


class Servicing:
    """Answers whatever is about service."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self.handlers: dict[type, Handler] = {
            messages.Service: self._service,
            messages.TrustProvider: self._trust,
            messages.DistrustProvider: self._distrust,
            messages.RecordService: self._record,
        }

    def _service(self, _: messages.Service, __: list[int]) -> Reply:
        record = self._core.vault.service()
        return Reply(msgspec.to_builtins(record, builtin_types=(bytes,)))

    def _trust(self, request: messages.TrustProvider, descriptors: list[int]) -> Reply:
        vault = self._core.vault
        with counted(vault, request.with_, request.mode), _said("malformed", _NO_KEY):
            vault.trust_provider(
                request.name, request.key, request.with_, request.mode, descriptors
            )
        return Reply()

    def _distrust(self, request: messages.DistrustProvider, descriptors: list[int]) -> Reply:
        vault = self._core.vault
        known = {each.fingerprint for each in vault.service().providers}
        if request.fingerprint.hex() not in known:
            # Before the secret is looked at, which `absent` may be about as well.
            raise ChipRefusalError("trusting a provider no more", *_UNKNOWN, code="absent")
        with counted(vault, request.with_, request.mode):
            vault.distrust_provider(request.fingerprint, request.with_, request.mode, descriptors)
        return Reply()

    def _record(self, request: messages.RecordService, descriptors: list[int]) -> Reply:
        core = self._core
        if core.disk.opened or core.left is not None:
            raise ChipRefusalError(
                _RECORDING,
                "the machine is on, or its disk is in use",
                "stop the workstation first",
                code="state",
            )
        if request.order and descriptors:
            raise PeerError("a work order comes without a secret")
        with (
            counted(core.vault, request.with_, request.mode),
            _said("other_chip", _OTHER_CHIP),
        ):
            signed = core.vault.record_service(
                request.job,
                request.detail,
                int(time.time()),
                order=request.order,
                continues=request.continues,
                with_=request.with_,
                mode=request.mode,
                proof=descriptors,
            )
        return Reply(msgspec.to_builtins(signed, builtin_types=(bytes,)))


@contextlib.contextmanager
def _said(code: str, words: tuple[str, str]) -> Iterator[None]:
    """Say of the refusal `code` what it means here: the vault has one word for several things."""
    try:
        yield
    except VaultRefusalError as refusal:
        if refusal.code != code:
            raise
        raise ChipRefusalError(refusal.doing, *words, code=code) from None
