"""Entries of service records as docs/service-record.md describes them, made in a bit of Python.

Tests make with it what a vault never would: entries that are signed and still wrong. The product
never imports it.
"""

import hashlib
from typing import Any, Final

import cbor2
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from spacegray.chip.service_record import ServiceRecord
from spacegray.spec import Spec
from spacegray.workstation import jobs
from spacegray.workstation.jobs import Job

TYPE: Final = "application/x-spacegray-service-entry+cbor"
EXTERNAL: Final = b"spacegray service entry 1"
NOTHING: Final = bytes(32)
TIME: Final = 1_700_000_000


class Signer:
    """A chip outside of any vault, which keeps what it signed."""

    def __init__(self, ecid: int = 0x0123456789ABCDEF) -> None:
        self.number = ecid
        self.key = ec.generate_private_key(ec.SECP256R1())
        numbers = self.key.public_key().public_numbers()
        cose_key = {1: 2, -1: 1, -2: numbers.x.to_bytes(32), -3: numbers.y.to_bytes(32)}
        self.thumbprint = hashlib.sha256(cbor2.dumps(cose_key)).digest()
        self.pem = (
            self.key.public_key()
            .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
            .decode()
        )
        self.entries: list[bytes] = []
        self.head = NOTHING

    @property
    def ecid(self) -> str:
        """As it is written."""
        return f"0x{self.number:016x}"

    def sign(self, said: Any, header: dict[int, Any] | None = None) -> bytes:
        """A COSE_Sign1 over whatever it is."""
        protected = cbor2.dumps(header or {1: -7, 4: self.thumbprint, 16: TYPE})
        payload = cbor2.dumps(said)
        signed = cbor2.dumps(["Signature1", protected, EXTERNAL, payload])
        r, s = decode_dss_signature(self.key.sign(signed, ec.ECDSA(SHA256())))
        signature = r.to_bytes(32) + s.to_bytes(32)
        return cbor2.dumps(cbor2.CBORTag(18, [protected, {}, payload, signature]))

    def record(
        self, job: str, before: Spec, *, new_chip: str | None = None, **changed: Any
    ) -> bytes:
        """The next entry, remembered as the newest; `changed` replaces fields of it."""
        first = self.pem if not self.entries else None
        fields = {
            "ecid": self.number,
            "type": "service entry",
            "version": 1,
            "number": len(self.entries),
            "previous": self.head,
            "time": TIME + len(self.entries),
            "job": job,
            "by": "owner",
            "provider": b"",
            "order": b"",
            "detail": jobs.detail(before, parsed(job), identity_key=first, new_chip=new_chip),
        }
        entry = self.sign(fields | changed)
        self.entries.append(entry)
        self.head = hashlib.sha256(entry).digest()
        return entry

    def kept(self) -> ServiceRecord:
        """What it would say of its record."""
        last = self.entries[-1] if self.entries else b""
        return ServiceRecord(entries=len(self.entries), head=self.head, last=last, providers=())


def parsed(job: str) -> Job:
    """The job of this name, or for a strange name some other."""
    try:
        return jobs.parse(job)
    except ValueError:
        return Job("logic-board")


def filed(*entries: bytes) -> bytes:
    """A record's file with these entries."""
    return b"".join(len(entry).to_bytes(2) + entry for entry in entries)
