"""The service providers whose work orders a machine's chip takes, by their owner's word."""

from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_public_key,
)

from spacegray.chip.client import ChipClient, Provider
from spacegray.chip.messages import PROVIDER_NAME_LIMIT_CHARACTERS as NAME_LIMIT_CHARACTERS
from spacegray.errors import UsageError
from spacegray.workstation import hold, unlock
from spacegray.workstation.api import Workstation
from spacegray.workstation.unlock import Given, Owner

KEY_LIMIT_BYTES: Final = 16 * 1024
PREFIX_DIGITS: Final = 8
"""So much of a fingerprint is enough to name a provider, if it names one alone."""


def listed(workstation: Workstation, owner: Owner | None = None) -> tuple[Provider, ...]:
    """Those that are trusted, the machine on or off."""
    doing = f"listing the providers of {workstation.name}"
    asked = hold.any_chip(workstation, doing, "being looked at", owner, locked=True)
    with asked as (mailbox, _):
        return mailbox.service().providers


def trust(workstation: Workstation, name: str, key: bytes, owner: Owner) -> None:
    """Trust the provider `name` with this `key` (as `read_key` gives it); the owner proves it."""
    doing = f"trusting the provider {name!r} with {workstation.name}"
    if not (name.isascii() and name.isprintable() and 0 < len(name) <= NAME_LIMIT_CHARACTERS):
        raise UsageError(
            doing,
            f"a provider's name has 1 to {NAME_LIMIT_CHARACTERS} printable characters of ASCII",
            "give another --provider",
        )

    def act(mailbox: ChipClient, given: Given | None) -> None:
        if given is None:
            mailbox.trust_provider(name, key)
        else:
            mailbox.trust_provider(name, key, given.descriptor, with_=given.proof, mode=given.mode)

    with hold.any_chip(workstation, doing, "getting a provider", owner) as (mailbox, _):
        unlock.prove_if_locked(doing, owner, mailbox, act)


def distrust(workstation: Workstation, fingerprint: str, owner: Owner) -> Provider:
    """Trust a provider no more, whose key's fingerprint begins so; returns which it was."""
    doing = f"distrusting a provider of {workstation.name}"
    with hold.any_chip(workstation, doing, "losing a provider", owner) as (mailbox, _):
        found = _named(doing, fingerprint, mailbox.service().providers)
        digest = bytes.fromhex(found.fingerprint)

        def act(mailbox: ChipClient, given: Given | None) -> None:
            if given is None:
                mailbox.distrust_provider(digest)
            else:
                mailbox.distrust_provider(
                    digest, given.descriptor, with_=given.proof, mode=given.mode
                )

        unlock.prove_if_locked(doing, owner, mailbox, act)
        return found


def read_key(file: Path) -> bytes:
    """The P-256 key in a PEM file, as SubjectPublicKeyInfo, DER; raises UsageError."""
    doing = f"reading the provider's key {file}"
    try:
        with file.open("rb") as opened:
            key = load_pem_public_key(opened.read(KEY_LIMIT_BYTES))
    except OSError as error:
        raise UsageError(doing, error.strerror, "give the path of a readable file") from None
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise UsageError(
            doing, "it is no public P-256 key in PEM", "give what `service provider-key` wrote"
        )
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _named(doing: str, fingerprint: str, providers: tuple[Provider, ...]) -> Provider:
    wanted = fingerprint.lower()
    found = [each for each in providers if each.fingerprint.startswith(wanted)]
    if len(wanted) < PREFIX_DIGITS or len(found) != 1:
        known = ", ".join(f"{each.fingerprint[:16]} ({each.name})" for each in providers)
        raise UsageError(
            doing,
            f"{fingerprint!r} names none of those that are trusted ({known or 'none is'})",
            f"give {PREFIX_DIGITS} or more digits of the fingerprint of one",
        )
    return found[0]
