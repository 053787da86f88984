"""The chip's life: born, or born to take over another's disk; erased, restored, destroyed.

At its beginning, and with each restore, it learns which signing authority to believe.

Each step is the vault's; the firmware keeps `chip.json` in step with it. Erasing asks for
nothing and waits for nobody: the disk's controller is killed, the keys go, and what lies in the
modules stays there as noise.
"""

import contextlib
import time
from collections.abc import Iterator
from typing import Final

import msgspec

from spacegray.chip import keeping, manifest, messages
from spacegray.chip.core import Core, Handler, Reply
from spacegray.chip.messages import Seal
from spacegray.chip.modules import Module
from spacegray.chip.refusal import ChipRefusalError
from spacegray.chip.vault import VaultRefusalError

_MILLISECONDS = 1000.0
_BUNDLE: Final = {
    "wrong": (
        "the bundle was made for another recovery key",
        "give the key that was made last before this bundle",
    ),
    "secret": ("this is no recovery key", "look for a typing error"),
    "descriptor": (
        "the bundle is no regular file that can be read",
        "give the file that `export --recovery` wrote",
    ),
    "corrupt": (
        "the file is no recovery bundle, or is damaged",
        "give a whole copy of what `export --recovery` wrote",
    ),
}


class Life:
    """Answers whatever begins or ends something of the chip."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self.handlers: dict[type, Handler] = {
            messages.Birth: self._birth,
            messages.AdoptBundle: self._adopt_bundle,
            messages.Erase: self._erase,
            messages.Restore: self._restore,
            messages.Destroy: self._destroy,
        }

    def _birth(self, request: messages.Birth, descriptors: list[int]) -> Reply:
        """Make the keys; a birth that was cut off before `chip.json` was written is completed."""
        core = self._core
        self._refuse_existing()
        try:
            ecid = core.vault.open(descriptors)
            if core.vault.identity().vendor != request.vendor:
                raise self._existing("its birth was begun under another signing authority")
        except VaultRefusalError as refusal:
            if refusal.code != "unborn":
                raise
            ecid = core.vault.birth(request.seal, request.authority, request.vendor, descriptors)
        return self._born(ecid, core.vault.status().seal)

    def _adopt_bundle(self, request: messages.AdoptBundle, descriptors: list[int]) -> Reply:
        self._refuse_existing()
        # Nothing cut off is completed here: whose keys those were is not to be seen.
        with _about_the_bundle():
            ecid = self._core.vault.adopt_bundle(
                request.seal, request.authority, request.vendor, descriptors
            )
        return self._born(ecid, request.seal)

    def _born(self, ecid: int, seal: Seal) -> Reply:
        made = manifest.make(ecid=ecid, seal=seal)
        self._core.remember(made)
        self._core.now_open(made)
        return Reply({"ecid": made.ecid})

    def _erase(self, _: messages.Erase, __: list[int]) -> Reply:
        begun = time.monotonic()
        self._core.disk.kill()
        receipt = self._core.vault.erase()
        milliseconds = (time.monotonic() - begun) * _MILLISECONDS
        return Reply(
            {
                "receipt": receipt,
                "milliseconds": milliseconds,
                "modules": msgspec.to_builtins(self._modules()),
            }
        )

    def _restore(self, request: messages.Restore, _: list[int]) -> Reply:
        core = self._core
        core.disk.kill()
        receipt = core.vault.restore(request.authority, request.vendor)
        core.forget_start()
        core.now_open(core.remembered)
        core.remember(manifest.without_systems(core.remembered))
        keeping.forget(core.place.state_folder)
        return Reply({"ecid": core.remembered.ecid, "receipt": receipt})

    def _destroy(self, _: messages.Destroy, __: list[int]) -> Reply:
        core = self._core
        core.disk.kill()
        core.vault.destroy()
        core.now_unborn()
        manifest.remove(core.place.state_folder)
        keeping.forget(core.place.state_folder)
        return Reply()

    def _refuse_existing(self) -> None:
        if self._core.manifest is not None or manifest.exists(self._core.place.state_folder):
            raise self._existing("it exists already")

    def _existing(self, stopped_by: str) -> ChipRefusalError:
        return ChipRefusalError(
            f"making the chip of {self._core.place.name}",
            stopped_by,
            "choose another name, or delete that workstation first",
            code="exists",
        )

    def _modules(self) -> list[Module]:
        try:
            return self._core.disk.modules.found()
        except OSError:  # A host's disk that fails does not unsay that the keys are gone.
            return []


@contextlib.contextmanager
def _about_the_bundle() -> Iterator[None]:
    """Say of a refused bundle what is wrong with it, or with its key."""
    try:
        yield
    except VaultRefusalError as refusal:
        if refusal.code not in _BUNDLE:
            raise
        raise ChipRefusalError(refusal.doing, *_BUNDLE[refusal.code], code=refusal.code) from None
