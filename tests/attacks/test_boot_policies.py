"""What starts under which policy: each cell of docs/secure-boot.md's table, seen by a boot.

Real things that nobody here wrote are among them: Debian's shim, GRUB and kernel, with Microsoft's
and Debian's signatures. A revocation reaches the chip as it would from a running system: through
the variables that a machine leaves.
"""

import concurrent.futures
import contextlib
import multiprocessing
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from virt.firmware.efi import siglist

from spacegray import authenticode
from spacegray.chip import store
from spacegray.links import Target
from spacegray.system.image import SystemImage
from tests.support import booting, media
from tests.support.authority import another_authority
from tests.support.booting import Bench, Verdict
from tests.support.ssd import flip

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "secure-boot.md"
COLUMNS = {
    "Full Security": {"policy": "full", "other_systems": "deny"},
    "Medium Security": {"policy": "medium", "other_systems": "deny"},
    "Medium Security, other systems allowed": {"policy": "medium", "other_systems": "allow"},
    "No Security": {"policy": "none", "other_systems": "deny"},
}
ALL_BUT_NONE: list[Verdict] = [
    "refused by the firmware", "refused by the firmware", "refused by the firmware", "starts",
]  # fmt: skip
"""Refused under every policy but No Security."""
OTHERS: list[Verdict] = ["refused by the firmware", "refused by the firmware", "starts", "starts"]
EXPECTED: dict[str, list[Verdict]] = {
    "our system, as its ticket names it": ["starts"] * 4,
    "our system of another build, signed by our vendor": [
        "refused by the firmware", "starts", "starts", "starts",
    ],
    "our system of another build, unsigned": ALL_BUT_NONE,
    "our system of another build, signed by a stranger": ALL_BUT_NONE,
    "our recovery system, as the ticket names it": ["starts"] * 4,
    "our recovery system, changed": ["refused by the chip"] * 4,
    "Debian on the internal disk (shim, GRUB, kernel)": OTHERS,
    "Debian on an external disk, external boot denied": ["refused by the chip"] * 4,
    "Debian on an external disk, external boot allowed": OTHERS,
    "Debian with a shim whose generation is revoked (SBAT)": [
        "refused by the firmware", "refused by the firmware", "refused by shim", "starts",
    ],
    "Debian with a shim whose hash is revoked (dbx)": ALL_BUT_NONE,
}  # fmt: skip
"""What is promised; the boots have to agree."""
SECONDS = 1200
"""What all of it may take on a busy host."""
pytestmark = pytest.mark.timeout(SECONDS + 60)
SHIM = uuid.UUID("605dab50-e046-4300-abb6-3dd810dd8b23")
"""The vendor of the shim's variables."""
REVOKING_LEVEL = b"sbat,1,2099010100\nshim,99\n"

Verdicts = dict[str, list[Verdict]]


@dataclass(frozen=True)
class Given:
    """What a worker makes its media of."""

    kernel: bytes
    """Our unsigned kernel image."""
    recovery: bytes
    folder: Path


@pytest.fixture(scope="module")
def seen(tiny: SystemImage, tmp_path_factory: pytest.TempPathFactory) -> Verdicts:
    """What became of each start, by row and column; two machines run at a time."""
    folder = tmp_path_factory.mktemp("media")
    given = Given(tiny.kernel.read_bytes(), tiny.recovery.read_bytes(), folder)
    # Processes: each chip and each machine belongs to the thread that started it.
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(2, context) as pool:
        work = [pool.submit(each, given) for each in (our_own, others)]
        found: Verdicts = {}
        for each in work:
            found |= each.result(SECONDS)
    return {row: found[row] for row in EXPECTED}


def our_own(given: Given) -> Verdicts:
    """Rows of our own images on the boot partition of our own system."""
    named = booting.signed(given.kernel)
    other = media.of_another_build(given.kernel)
    rows = {
        "our system, as its ticket names it": named,
        "our system of another build, signed by our vendor": booting.signed(other),
        "our system of another build, unsigned": other,
        "our system of another build, signed by a stranger": booting.signed(
            other, another_authority()
        ),
    }
    found: Verdicts = {}
    with booting.bench(named, booting.signed(given.recovery)) as bench:
        for row, image in rows.items():
            bench.lay(image)
            found[row] = across(bench, "main")
        found["our recovery system, as the ticket names it"] = across(bench, "recovery")
        found["our recovery system, changed"] = []
        for settings in COLUMNS.values():
            bench.choose(**settings)
            with changed(bench.at.slot("a").recovery):
                found["our recovery system, changed"].append(bench.verdict("recovery"))
    return found


@contextlib.contextmanager
def changed(path: Path) -> Iterator[None]:
    """A file with one bit of it changed for a while."""
    good = path.read_bytes()
    flip(path, len(good) // 2)
    yield
    path.write_bytes(good)


def others(given: Given) -> Verdicts:
    """Rows of Debian's chain: on the internal disk, on an external one, with a revoked shim."""
    found: Verdicts = {}
    files = media.debians_chain(media.section(given.kernel, ".linux"))
    disk = media.disk(given.folder / "debian", files)
    said = media.SAID_BY_LINUX
    with booting.bench(booting.signed(given.kernel), booting.signed(given.recovery)) as bench:
        found["Debian on an external disk, external boot denied"] = across(
            bench, "external", disk, success=said
        )
        bench.choose(external_boot="allow")
        found["Debian on an external disk, external boot allowed"] = across(
            bench, "external", disk, success=said
        )
        bench.copy_onto_disk(disk)
        found["Debian on the internal disk (shim, GRUB, kernel)"] = across(
            bench, "other", success=said
        )
        for row, revoke in (
            ("Debian with a shim whose generation is revoked (SBAT)", revoke_generation),
            ("Debian with a shim whose hash is revoked (dbx)", revoke_hash),
        ):
            bench.choose(**COLUMNS["Medium Security, other systems allowed"])
            bench.leave(revoke)
            found[row] = across(bench, "other", success=said)
    return found


def across(
    bench: Bench,
    target: Target,
    external: Path | None = None,
    *,
    success: bytes = booting.OURS_STARTED,
) -> list[Verdict]:
    """What becomes of a start under each policy."""
    verdicts = []
    for settings in COLUMNS.values():
        bench.choose(**settings)
        verdicts.append(bench.verdict(target, external, success=success))
    return verdicts


def revoke_generation(variables: list[store.Variable]) -> list[store.Variable]:
    """As a newer shim, or an update of one, leaves it."""
    kept = [each for each in variables if each.name != "SbatLevel"]
    attributes = store.NON_VOLATILE | store.BOOT_SERVICE
    return [*kept, store.Variable("SbatLevel", SHIM, attributes, REVOKING_LEVEL)]


def revoke_hash(variables: list[store.Variable]) -> list[store.Variable]:
    """As the firmware leaves it after an update of dbx that Microsoft signed."""
    dbx = next(each for each in variables if each.name == "dbx")
    database = siglist.EfiSigDB(dbx.data)
    database.add_hash(
        "77fa9abd-0359-4d32-bd60-28f4e78f784b", authenticode.digest(media.SHIM.read_bytes())
    )
    others_ = [each for each in variables if each.name != "dbx"]
    return [*others_, dbx._replace(data=bytes(database))]


def table(verdicts: Verdicts) -> str:
    """The verdicts as the document shows them."""
    head = ["| |" + "|".join(f" {column} " for column in COLUMNS) + "|", "|---" * 5 + "|"]
    rows = [f"| {row} | " + " | ".join(cells) + " |" for row, cells in verdicts.items()]
    return "\n".join([*head, *rows])


@pytest.mark.parametrize("row", EXPECTED)
def test_what_starts_is_what_is_promised(seen: Verdicts, row: str) -> None:
    assert dict(zip(COLUMNS, seen[row], strict=True)) == dict(
        zip(COLUMNS, EXPECTED[row], strict=True)
    )


def test_the_document_shows_what_was_seen(seen: Verdicts) -> None:
    shown = DOCUMENT.read_text().partition("<!-- table -->\n")[2].partition("\n<!-- /table -->")[0]
    assert shown == table(seen), f"it would be:\n{table(seen)}"


def test_what_starts_of_debian_is_what_debian_signed(tiny: SystemImage, tmp_path: Path) -> None:
    """Nothing of it was made here: its signatures are Microsoft's and Debian's."""
    kernel = tmp_path / "kernel"
    kernel.write_bytes(media.section(tiny.kernel.read_bytes(), ".linux"))
    for image, signer in (
        (media.SHIM, "Microsoft UEFI CA 2023"),
        (media.GRUB, "Debian Secure Boot CA"),
        (kernel, "Debian Secure Boot CA"),
    ):
        done = subprocess.run(
            ["sbverify", "--list", str(image)], capture_output=True, text=True, check=True
        )
        assert signer in done.stdout, done.stdout
