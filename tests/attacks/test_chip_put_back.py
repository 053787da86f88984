"""Attack: put yesterday's files of the chip back, each alone, some of them, all of them.

Guards the rows of the design's table on what was put back. Yesterday the password was another
one and nobody had guessed: both is what a thief would like to have again.
"""

import contextlib
import hashlib
import itertools
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import vault_store
from tests.support.seals import SEALS, Place, sealed
from tests.support.vaultd import Vaultd

OLD, NEW, WRONG = b"yesterday's password", b"today's password", b"a guess"
STORE, ANCHOR = Path("pro/vault.sealed"), Path("pro/anchor")
SLOT_BYTES = vault_store.SLOT_SIZE_BYTES


@dataclass(frozen=True)
class Days:
    """The same chip as it was and as it is."""

    yesterday: Place
    today: Place


@pytest.fixture(scope="module", params=SEALS)
def lived(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Days]:
    """A chip with a disk, copied; then its password was changed, guessed at, and its disk used."""
    folder = tmp_path_factory.mktemp("put-back")
    with sealed(request.param, folder / "chip") as place:
        with place.vault() as vault:
            place.birth(vault)
            with vault.attach("format") as ssd:
                assert ssd.write(1, b"anchor of yesterday") == {"ok": True}
            assert vault.give("set_password", OLD) == {"ok": True}
            assert vault.close() == 0
        yesterday = place.copy(folder / "yesterday")
        with place.opened() as vault:
            assert vault.give("change_password", OLD, NEW) == {"ok": True}
            with vault.attach() as ssd:
                assert ssd.write(7, b"anchor of today") == {"ok": True}
            for number in range(2):
                assert vault.give("unlock", WRONG + b"%d" % number)["error"] == "wrong"
            assert vault.close() == 0
        yield Days(yesterday, place)


def words(place: Place) -> dict[str, object]:
    """How the chip is found: the refusal to open it, or what its passwords open."""
    with place.vault() as vault:
        answer = place.open(vault)
        if answer != "ok":
            return {"open": answer}
        status = vault.ask("status")
        found: dict[str, object] = {
            "open": "ok",
            "put_back": status["put_back"],
            "failures": status["password_failures"],
            # Rules of yesterday start nothing; without a ticket nothing starts either.
            "start": vault.ask("begin_start", target="recovery")["error"],
        }
        for name, password in (("new", NEW), ("old", OLD)):
            reply = vault.give("unlock", password)
            found[name] = "ok" if reply["ok"] else reply["error"]
        return found


FITS = {"open": "ok", "put_back": False, "start": "no_ticket"}
UNTOUCHED = {**FITS, "failures": 2, "new": "ok", "old": "wrong"}
NOTICED = {
    "open": "ok",
    "put_back": True,
    "start": "put_back",
    "old": "put_back",
    "new": "put_back",
}
NOT_NOTICED = {**FITS, "failures": 0, "old": "ok", "new": "wrong"}
"""Where the table says so: the whole host disk put back, with no TPM to tell."""


def test_control_nothing_is_put_back(lived: Days, tmp_path: Path) -> None:
    with lived.today.cloned(tmp_path / "chip") as place:
        assert words(place) == UNTOUCHED


def test_files_put_back_are_noticed_unless_it_is_all_of_them(lived: Days, tmp_path: Path) -> None:
    """Every choice of files: the counters alone, the anchor alone, store and map of the host …

    Each may also be put where the chip prepares the next one, as if a change had been cut off.
    """
    changed = [path for path in lived.today.files() if differs(path, lived)]
    assert {STORE, ANCHOR} <= set(changed)
    pieces = [(path, path) for path in changed]
    pieces += [(path, path.with_name(f"{path.name}.new")) for path in (STORE, ANCHOR)]
    for chosen in subsets(pieces):
        with lived.today.cloned(tmp_path / "chip") as place:
            for source, target in chosen:
                shutil.copy(lived.yesterday.folder / source, place.folder / target)
            found = words(place)
        assert found in expected(place.seal, {target for _, target in chosen}), chosen
        shutil.rmtree(tmp_path / "chip")


def subsets(pieces: list[tuple[Path, Path]]) -> Iterator[tuple[tuple[Path, Path], ...]]:
    for count in range(1, len(pieces) + 1):
        yield from itertools.combinations(pieces, count)


def expected(seal: str, put_back: set[Path]) -> list[dict[str, object]]:
    """What may be found, with yesterday's files at these places."""
    prepared = {STORE.with_name("vault.sealed.new"), ANCHOR.with_name("anchor.new")}
    if put_back <= prepared:
        return [UNTOUCHED]
    noticed = [{**NOTICED, "failures": failures} for failures in (0, 2)]
    if seal == "tpm2":
        # The key of a store that was replaced is no more.
        return [*noticed, {"open": "sealed"}]
    if STORE in put_back and put_back & {ANCHOR, ANCHOR.with_name("anchor.new")}:
        return [NOT_NOTICED]
    return noticed


def differs(path: Path, days: Days) -> bool:
    """Whether a file is another one today."""
    before = days.yesterday.folder / path
    return not before.exists() or before.read_bytes() != (days.today.folder / path).read_bytes()


@pytest.mark.parametrize("part", ["salt", "parameters", "contents", "salt and contents", "tail"])
def test_an_old_wrapped_key_spliced_into_todays_store_opens_nothing(
    lived: Days, tmp_path: Path, part: str
) -> None:
    """The thief repairs the check sum, which is no secret. Without the sealing key it is no use."""
    spans = {
        "salt": (24, 56),
        "parameters": (56, 120),
        "contents": (120, vault_store.STORE_SIZE_BYTES - vault_store.CHECK_SUM_SIZE_BYTES),
        "salt and contents": (24, vault_store.STORE_SIZE_BYTES - vault_store.CHECK_SUM_SIZE_BYTES),
        "tail": (1000, vault_store.STORE_SIZE_BYTES - vault_store.CHECK_SUM_SIZE_BYTES),
    }
    start, end = spans[part]
    old, new = ((day.folder / STORE).read_bytes() for day in (lived.yesterday, lived.today))
    if part in ("parameters", "salt and contents") and lived.today.seal != "tpm2":
        # The parameters are the same each day: all that is left of this is the whole old store.
        assert old[56:120] == new[56:120]
        return
    body = new[:start] + old[start:end] + new[end : -vault_store.CHECK_SUM_SIZE_BYTES]
    with lived.today.cloned(tmp_path / "chip") as place:
        (place.folder / STORE).write_bytes(body + hashlib.sha256(body).digest())
        # A passphrase that fits no store is a wrong one.
        wrong = "passphrase" if place.seal == "passphrase" else "sealed"
        assert words(place) in ({"open": wrong}, {"open": "corrupt"})


def test_one_slot_of_the_anchor_file_put_back_turns_back_one_anchor_at_most(
    lived: Days, tmp_path: Path
) -> None:
    """After a power cut in the middle of a session. What is lost then is the SSD's to judge."""
    with lived.today.cloned(tmp_path / "chip") as place:
        with unlocked(place) as vault, vault.attach() as ssd:
            for sequence in range(10, 14):
                assert ssd.write(sequence, b"anchor %d" % sequence) == {"ok": True}
            kept = (place.folder / ANCHOR).read_bytes()
            for sequence in range(14, 17):
                assert ssd.write(sequence, b"anchor %d" % sequence) == {"ok": True}
            vault.process.kill()
            vault.process.wait()
        found = []
        for number in range(2):
            with place.cloned(tmp_path / str(number)) as copy:
                slots = bytearray((copy.folder / ANCHOR).read_bytes())
                span = slice(number * SLOT_BYTES, (number + 1) * SLOT_BYTES)
                slots[span] = kept[span]
                (copy.folder / ANCHOR).write_bytes(slots)
                with unlocked(copy) as vault, vault.attach() as ssd:
                    found.append(ssd.anchor())
    assert set(found) == {b"anchor 15", b"anchor 16"}


def test_a_slot_of_before_the_last_boundary_is_no_slot(lived: Days, tmp_path: Path) -> None:
    """After a session that ended in order, an old slot changes nothing at all."""
    for number in range(2):
        with lived.today.cloned(tmp_path / str(number)) as place:
            slots = bytearray((place.folder / ANCHOR).read_bytes())
            span = slice(number * SLOT_BYTES, (number + 1) * SLOT_BYTES)
            slots[span] = (lived.yesterday.folder / ANCHOR).read_bytes()[span]
            (place.folder / ANCHOR).write_bytes(slots)
            with unlocked(place) as vault, vault.attach() as ssd:
                assert ssd.anchor() == b"anchor of today"


@contextlib.contextmanager
def unlocked(place: Place) -> Iterator[Vaultd]:
    """Today's chip, opened by its owner."""
    with place.opened() as vault:
        assert vault.give("unlock", NEW) == {"ok": True}
        yield vault
