"""The variable store of one start: what may start by the policy, one boot option, and that is all.

Invariants: a PK is enrolled, so that the firmware is never in set-up mode; the template's own
variables are dropped; db is a single hash under Full Security and for recovery; nothing but the
one boot option can be booted. The last is held by BootOrder's attributes: it lacks
RUNTIME_ACCESS, so every later SetVariable with the usual attributes fails (UEFI 2.10, 8.2:
attributes of an existing variable cannot change), and the firmware cannot append its shell, its
menu or the network to it. Nothing is written to disk.
"""

import base64
import struct
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from virt import firmware

from spacegray.chip import signatures, store
from spacegray.chip.images import Frozen
from spacegray.chip.keeping import Kept
from spacegray.chip.messages import Esp
from spacegray.chip.revocations import revoked
from spacegray.chip.signatures import Signature
from spacegray.chip.store import BOOT_SERVICE, NON_VOLATILE, RUNTIME, TIME_AUTHENTICATED, Variable
from spacegray.chip.vault import Identity
from spacegray.errors import SpacegrayError
from spacegray.links import Target

OWNER: Final = uuid.UUID("1dfc64a5-5f4e-4f0c-9b54-6d3a5c1f7e90")
"""Who enrolled the certificates: the signature owner GUID of the UEFI signature lists."""
MICROSOFT: Final = uuid.UUID("77fa9abd-0359-4d32-bd60-28f4e78f784b")
BOOT_FILE: Final = "\\EFI\\BOOT\\BOOTX64.EFI"
BOOT_TITLE: Final = "Spacegray"

_OTHERS_DB: Final = ("ms-uefi-2011.pem", "ms-uefi-2023.pem")
"""By whose leave systems of others start: Microsoft's CA for what is not Windows."""
_OTHERS_KEK: Final = ("ms-kek-2011.pem", "ms-kek-2023.pem")
"""Who may revoke what those let in."""

_ENABLE: Final = uuid.UUID("f0a30bc7-af08-4556-99c4-001009c93a44")
_KEYS: Final = NON_VOLATILE | BOOT_SERVICE | RUNTIME | TIME_AUTHENTICATED
_LOAD_OPTION_ACTIVE: Final = 1
_END: Final = struct.pack("<BBH", 0x7F, 0xFF, 4)
_MASS_STORAGE: Final = 8
_ANY_ID, _ANY = 0xFFFF, 0xFF
_GPT, _BY_GUID = 2, 2


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a start is to be allowed."""

    target: Target
    policy: str
    """`full`, `medium` or `none`."""
    other_systems: bool
    """Whether systems of others may start, where the policy asks for a signature."""
    image: bytes
    """SHA-256 (Authenticode) of the one image that may start where only one may."""
    esp: Esp
    """The boot file system of the system's slot."""
    kept: Kept
    """The guest's own variables."""

    @property
    def one_image(self) -> bool:
        """Whether nothing starts but `image`."""
        return self.policy == "full" or self.target == "recovery"

    @property
    def shim_may_run(self) -> bool:
        """Whether a shim's own variables count: where it may start, and only what is signed."""
        return self.secure_boot and not self.one_image

    @property
    def secure_boot(self) -> bool:
        """Whether anything is refused at all; recovery is verified always."""
        return self.policy != "none" or self.target == "recovery"


def build(template: Frozen, identity: Identity, plan: Plan, *, name: str) -> bytes:
    """A fresh store in the shape of `template`; raises SpacegrayError, link `firmware`.

    `name` is the workstation's, for the command that helps.
    """
    try:
        return store.write(template.read(), _variables(identity, plan))
    except ValueError as error:
        raise SpacegrayError(
            "making the firmware's variables",
            error,
            f"`reinstall {name}` installs firmware and system anew; your data stays",
            link="firmware",
        ) from None


def _variables(identity: Identity, plan: Plan) -> Iterator[Variable]:
    others = plan.other_systems and not plan.one_image
    kek = [_certificate(identity.kek), *(_microsofts(_OTHERS_KEK) if others else ())]
    if plan.one_image:
        allowed = [Signature(signatures.SHA256, OWNER, plan.image)]
    else:
        allowed = [_certificate(identity.vendor), *(_microsofts(_OTHERS_DB) if others else ())]
    refused = [Signature(signatures.SHA256, MICROSOFT, each) for each in revoked()]
    yield _database("PK", store.GLOBAL, [_certificate(identity.pk)])
    yield _database("KEK", store.GLOBAL, kek)
    yield _database("db", store.SECURITY, allowed)
    yield _database("dbx", store.SECURITY, [*refused, *signatures.read(plan.kept.dbx)])
    flag = bytes([plan.secure_boot])
    yield Variable("SecureBootEnable", _ENABLE, NON_VOLATILE | BOOT_SERVICE, flag)
    yield Variable("Boot0000", store.GLOBAL, NON_VOLATILE | BOOT_SERVICE | RUNTIME, _option(plan))
    yield Variable("BootOrder", store.GLOBAL, NON_VOLATILE | BOOT_SERVICE, struct.pack("<H", 0))
    timeout = struct.pack("<H", 0)
    yield Variable("Timeout", store.GLOBAL, NON_VOLATILE | BOOT_SERVICE | RUNTIME, timeout)
    if plan.shim_may_run:
        yield from plan.kept.shims()


def _database(name: str, vendor: uuid.UUID, content: list[Signature]) -> Variable:
    return Variable(name, vendor, _KEYS, signatures.write(content))


def _certificate(der: bytes) -> Signature:
    return Signature(signatures.X509, OWNER, der)


def _microsofts(names: tuple[str, ...]) -> Iterator[Signature]:
    folder = Path(firmware.__file__).parent / "certs" / "microsoft.com"
    for name in names:
        lines = (folder / name).read_text().splitlines()
        body = lines[lines.index("-----BEGIN CERTIFICATE-----") + 1 :]
        body = body[: body.index("-----END CERTIFICATE-----")]
        yield Signature(signatures.X509, MICROSOFT, base64.b64decode("".join(body)))


def _option(plan: Plan) -> bytes:
    """The load option (UEFI 2.10, 3.1.3) that leads to what `plan` starts and nowhere else."""
    path = _device_path(plan) + _END
    head = struct.pack("<IH", _LOAD_OPTION_ACTIVE, len(path))
    return head + store.text(BOOT_TITLE) + path


def _device_path(plan: Plan) -> bytes:
    file = _node(4, 4, store.text(BOOT_FILE))
    match plan.target:
        case "main":
            esp = plan.esp
            place = struct.pack("<IQQ", esp.number, esp.start_sector, esp.sectors)
            return _node(4, 1, place + esp.guid + bytes([_GPT, _BY_GUID])) + file
        case "external":
            anyone = (_ANY_ID, _ANY_ID, _MASS_STORAGE, _ANY, _ANY)
            return _node(3, 15, struct.pack("<HHBBB", *anyone))
        case "other" | "recovery":
            return file


def _node(kind: int, subkind: int, data: bytes) -> bytes:
    return struct.pack("<BBH", kind, subkind, 4 + len(data)) + data
