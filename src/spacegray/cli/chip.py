"""The verbs of the chip: what it says of itself, plainly and signed."""

import os
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from spacegray.chip import attestation
from spacegray.chip.messages import NONCE_LEAST_BYTES, NONCE_LIMIT_BYTES
from spacegray.cli import output
from spacegray.cli.asking import Asker, Files
from spacegray.cli.options import format_option, name_argument, passphrase_option
from spacegray.cli.writing import STDOUT, must_be_elsewhere
from spacegray.errors import UsageError
from spacegray.files import write_atomically
from spacegray.paths import Paths
from spacegray.workstation import facts
from spacegray.workstation.api import Workstation

_HEX = re.compile(r"(?:[0-9a-fA-F]{2})+")
_BUDGETS = (
    ("password", "password"),
    ("recovery", "password, in recovery mode"),
    ("recovery_key", "recovery key"),
    ("firmware_password", "firmware password"),
)


@click.group("chip")
def group() -> None:
    """The security chip: who it is, what it holds against, what it vouches for."""


@group.command()
@name_argument
@format_option
def show(name: str, format_: str) -> None:
    """Who the chip is, how it is locked, and what that holds against whom."""
    shown = facts.show(Workstation.find(Paths.current(), name))
    if format_ == "json":
        output.as_json(shown)
        return
    output.table(("", name), _summary(shown))
    if shown["attempts"]:
        print()
        rows = [(label, *_tries(shown["attempts"][key])) for key, label in _BUDGETS]
        output.table(("tries", "failed", "left", "next one"), rows)
    print()
    output.table(
        ("against", f"seal {shown['seal']}"),
        [(each["against"], each["holds"]) for each in shown["holds"]],
    )
    if shown["identity_key"]:
        print("\nits identity key, for `chip attest --verify FILE --key`:")
        print(shown["identity_key"], end="")


@group.command()
@name_argument
@click.option("--nonce", metavar="HEX", help="What the asker wants to find in the statement.")
@click.option("--out", metavar="FILE", help="Write the statement there (COSE_Sign1).")
@click.option(
    "--verify", "verified", metavar="FILE", help="Check a statement, or a receipt of `erase`."
)
@click.option(
    "--key", metavar="PEM", help="With --verify: the identity key that must have signed it."
)
@passphrase_option
@format_option
def attest(
    name: str,
    nonce: str | None,
    out: str | None,
    verified: str | None,
    key: str | None,
    passphrase_file: str | None,
    format_: str,
) -> None:
    """Have the chip state what it is, signed; or check such a statement."""
    wanted = None if nonce is None else _nonce(nonce)
    if verified is not None:
        if out is not None:
            raise click.UsageError("--out does not belong to --verify")
        _verify(Path(verified), key, wanted, as_json=format_ == "json")
        return
    if key is not None:
        raise click.UsageError("--key belongs to --verify")
    if wanted is None:
        raise click.UsageError("--nonce is missing: a fresh random one, from whoever asks")
    workstation = Workstation.find(Paths.current(), name)
    if out is not None:
        _may_write(workstation, out)
    asker = Asker(name, Files(passphrase=passphrase_file))
    statement, identity_key = facts.attest(workstation, asker, wanted)
    if out is not None:
        write_atomically(Path(out), statement)
    found = attestation.verify(statement, key_pem=identity_key.encode(), nonce=wanted)
    if format_ == "json":
        output.as_json({"statement": statement.hex(), **found.plain()})
        return
    output.table(("", f"the chip of {name} states"), _rows(found.plain()))
    print(f"\n{'it is in ' + out if out else '--out FILE keeps the statement itself'}")


def _may_write(workstation: Workstation, out: str) -> None:
    """Raise UsageError where the statement cannot go there: nothing is replaced by one."""
    doing = f"writing the statement to {out}"
    if out == STDOUT:
        raise UsageError(doing, "it is not text", "give a file, or --format json, which has it too")
    must_be_elsewhere(workstation.at, Path(out), doing)
    if os.path.lexists(out):
        raise UsageError(doing, "there is something of that name", "choose another name")


def _verify(file: Path, key: str | None, nonce: bytes | None, *, as_json: bool) -> None:
    doing = f"checking {file}"
    statement = _read(file, doing)
    key_pem = None if key is None else _read(Path(key), f"reading the key {key}")
    found = attestation.verify_any(statement, key_pem=key_pem, nonce=nonce)
    if as_json:
        output.as_json(found.plain())
        return
    whose = "the key that was given" if found.key_is_known else "the key that it names itself"
    output.table(("", f"whole, and signed by {whose}"), _rows(found.plain()))
    if not found.key_is_known:
        print("\nwhose key that is only --key PEM can tell: `chip show` says a chip's own")


def _read(path: Path, doing: str) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(attestation.STATEMENT_LIMIT_BYTES + 1)
    except OSError as error:
        raise UsageError(doing, error.strerror, "give a readable file") from None


def _nonce(text: str) -> bytes:
    if not _HEX.fullmatch(text) or not (NONCE_LEAST_BYTES <= len(text) // 2 <= NONCE_LIMIT_BYTES):
        raise UsageError(
            "reading the nonce",
            f"it is not {NONCE_LEAST_BYTES} to {NONCE_LIMIT_BYTES} bytes in hexadecimal digits",
            "give one such as that of `openssl rand -hex 16`",
        )
    return bytes.fromhex(text)


def _summary(shown: dict[str, Any]) -> list[tuple[str, object]]:
    def yes(key: str, words: str, otherwise: str) -> str:
        if shown[key] is None:
            return "not known while sealed"
        return words if shown[key] else otherwise

    needs = ", ".join(shown["needs"])
    return [
        ("state", shown["state"] + (f", waiting for: {needs}" if needs else "")),
        ("ecid", shown["ecid"]),
        ("born", shown["born"]),
        ("life", shown["life"] and f"{shown['life']} (life {shown['lives']})"),
        ("seal", shown["seal"]),
        ("root", shown["root"]),
        ("password", yes("password", "set", "none")),
        ("recovery key", yes("recovery_key", "made", "none: a forgotten password loses all")),
        ("rollbacks", shown["rollbacks"]),
        ("policy", shown["policy"]),
        ("external boot", shown["external_boot"]),
        ("other systems", shown["other_systems"]),
        ("firmware password", yes("firmware_password", "set", "none")),
        ("firmware", f"{shown['firmware_source']}, SHA-256 {shown['firmware_sha256']}"),
        *_slots(shown),
        ("version", shown["version"]),
    ]


def _slots(shown: dict[str, Any]) -> list[tuple[str, object]]:
    """The systems that the chip has a ticket for."""
    rows: list[tuple[str, object]] = []
    for slot, entry in sorted((shown["slots"] or {}).items()):
        if entry is not None:
            day = datetime.fromtimestamp(entry["epoch"], UTC)
            standing = "starts" if slot == shown["current"] else "beside it"
            told = f"{entry['product']} of {day:%Y-%m-%d %H:%M} UTC, {standing}"
            rows.append((f"system {slot}", told))
    return rows


def _tries(budget: dict[str, int]) -> tuple[object, ...]:
    wait = budget["wait_seconds"]
    following = "never" if budget["left"] == 0 else f"in {wait} s" if wait else "now"
    return budget["failures"], budget["left"], following


def _rows(claims: dict[str, Any]) -> list[tuple[str, object]]:
    rows: list[tuple[str, object]] = []
    for key, value in claims.items():
        label = key.replace("_", " ")
        if isinstance(value, dict):
            rows += [(f"{label}: {name}", each) for name, each in _rows(value)]
        elif isinstance(value, list):
            rows += [(label, _item(each)) for each in value]
        elif key == "identity_key":
            rows.append((label, "".join(str(value).splitlines()[1:-1])))
        elif key != "key_is_known":
            rows.append((label, value))
    return rows


def _item(item: dict[str, Any]) -> str:
    """One thing of a list, what it is first and its times as dates."""
    words = dict(item)
    since = words.pop("since", None)
    names = [str(words.pop(key)) for key in ("component", "what") if key in words]
    if since is not None:
        words["since"] = f"since {datetime.fromtimestamp(since, UTC):%Y-%m-%d %H:%M} UTC"
    return ", ".join([*names, *map(str, words.values())])
