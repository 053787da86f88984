"""The variable store of one start: our three certificates, one boot option, and that is all.

Invariants: Secure Boot is on and out of set-up mode (a PK is enrolled); the template's own
variables are dropped; nothing but `\\EFI\\BOOT\\BOOTX64.EFI` can be booted. The last is held by
BootOrder's attributes: it lacks RUNTIME_ACCESS, so every later SetVariable with the usual
attributes fails (UEFI 2.10, 8.2: attributes of an existing variable cannot change), and the
firmware cannot append its shell, its menu or the network to it. Nothing is written to disk.
"""

import struct
from typing import Any, Final

from virt.firmware.efi import devpath, efivar, siglist
from virt.firmware.varstore import edk2

from spacegray.chip.images import Frozen
from spacegray.chip.vault import Identity
from spacegray.errors import SpacegrayError

OWNER: Final = "1dfc64a5-5f4e-4f0c-9b54-6d3a5c1f7e90"
"""Who enrolled the certificates: the signature owner GUID of the UEFI signature lists."""
BOOT_FILE: Final = "\\EFI\\BOOT\\BOOTX64.EFI"
BOOT_TITLE: Final = "Spacegray"

_NON_VOLATILE, _BOOT_SERVICE, _RUNTIME = 1, 2, 4


def build(template: Frozen, identity: Identity) -> bytes:
    """A fresh store in the shape of `template`; raises SpacegrayError, link `firmware`."""
    try:
        store: Any = edk2.Edk2VarStore(f"/proc/self/fd/{template.descriptor}")
        variables: Any = efivar.EfiVarList()
        _enroll(variables, "PK", identity.pk)
        _enroll(variables, "KEK", identity.kek)
        _enroll(variables, "db", identity.db)
        variables.set_bool("SecureBootEnable", True)
        variables.set_boot_entry(0, BOOT_TITLE, devpath.DevicePath.filepath(BOOT_FILE))
        order = variables.create("BootOrder")
        order.attr = _NON_VOLATILE | _BOOT_SERVICE
        order.set_boot_order([0])
        timeout = variables.create("Timeout")
        timeout.attr = _NON_VOLATILE | _BOOT_SERVICE | _RUNTIME
        timeout.data = struct.pack("<H", 0)
        # The library's own bytes_varstore pads byte by byte, which takes half a second.
        written = store.filedata[: store.start] + store.bytes_varlist(variables)
        return bytes(written.ljust(store.end, b"\xff") + store.filedata[store.end :])
    except (SystemExit, ValueError, struct.error) as error:
        # The library leaves the process when a store is not as it expects.
        stopped_by = "not an EDK II store" if isinstance(error, SystemExit) else error
        raise SpacegrayError(
            "making the firmware's variables",
            stopped_by,
            "install the package ovmf again",
            link="firmware",
        ) from None


def _enroll(variables: Any, name: str, certificate: bytes) -> None:
    database = siglist.EfiSigDB()
    database.add_cert_data(OWNER, certificate)
    variables.create(name).sigdb_set(database)
