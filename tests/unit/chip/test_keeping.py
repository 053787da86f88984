"""The guest's own variables: revocations never go back, and nothing else comes along."""

import hashlib
import uuid
from pathlib import Path

import pytest

from spacegray import host
from spacegray.chip import keeping, signatures, store
from spacegray.chip.keeping import SHIM, Kept
from spacegray.chip.messages import encode_canonical
from spacegray.chip.refusal import ChipRefusalError
from spacegray.chip.signatures import SHA256, Signature
from spacegray.chip.store import Variable

TEMPLATE = host.ovmf().variables.read_bytes()
OWNER = uuid.UUID("77fa9abd-0359-4d32-bd60-28f4e78f784b")
OLD_LEVEL, NEW_LEVEL = b"sbat,1,2021030218\n", b"sbat,1,2024010900\nshim,4\n"
ONE, TWO = b"\x01" * 32, b"\x02" * 32


def hashes(*digests: bytes) -> bytes:
    return signatures.write(Signature(SHA256, OWNER, each) for each in digests)


def dbx(*digests: bytes) -> Variable:
    return Variable("dbx", store.SECURITY, 0x27, hashes(*digests))


def shims(name: str, data: bytes = b"x", attributes: int = 3) -> Variable:
    return Variable(name, SHIM, attributes, data)


def after(
    *variables: Variable, before: Kept | None = None, shim_ran: bool = True, spared: bytes = b""
) -> Kept:
    content = store.write(TEMPLATE, variables)
    return keeping.after(content, before or Kept(), shim_ran=shim_ran, spared={spared})


def test_revocations_are_only_added() -> None:
    """Promise: a dbx that was emptied, or put back to an older one, forgets nothing."""
    kept = after(dbx(ONE))
    assert kept == Kept(hashes(ONE))
    assert after(dbx(TWO), before=kept).dbx == hashes(ONE, TWO)
    assert after(before=kept) == kept
    assert after(dbx(ONE, TWO), shim_ran=False).dbx == hashes(ONE, TWO)


def test_nothing_revokes_the_chips_own_systems() -> None:
    """Promise: who broke out of the guest cannot lock the owner out by it."""
    assert after(dbx(ONE, TWO), spared=TWO) == Kept(hashes(ONE))


@pytest.mark.parametrize(
    ("before", "found", "expected"),
    [
        (OLD_LEVEL, NEW_LEVEL, NEW_LEVEL),
        (NEW_LEVEL, OLD_LEVEL, NEW_LEVEL),
        (NEW_LEVEL, None, NEW_LEVEL),
        (None, OLD_LEVEL, OLD_LEVEL),
        (OLD_LEVEL, b"sbat,1,latest\n", OLD_LEVEL),
        (OLD_LEVEL, b"", OLD_LEVEL),
        (None, b"rubbish", None),
    ],
)
def test_the_shims_level_never_goes_back(
    before: bytes | None, found: bytes | None, expected: bytes | None
) -> None:
    known = Kept(shim={"SbatLevel": before} if before is not None else {})
    left = [shims("SbatLevel", found)] if found is not None else []
    assert after(*left, before=known).shim.get("SbatLevel") == expected


def test_what_the_owner_asks_of_the_shim_reaches_it_and_what_it_did_is_kept() -> None:
    asked = after(shims("MokNew", b"a key", 7), shims("MokAuth", b"a hash", 7))
    assert asked.shim == {"MokNew": b"a key", "MokAuth": b"a hash"}
    assert {(each.name, each.attributes) for each in asked.shims()} == {
        ("MokNew", 7), ("MokAuth", 7),
    }  # fmt: skip
    done = after(shims("MokList", b"a key"), before=asked)
    assert done.shim == {"MokList": b"a key"}


@pytest.mark.parametrize(
    "planted",
    [
        shims("MokList", attributes=7),
        shims("SbatLevel", NEW_LEVEL, attributes=7),
        shims("MokSBState", attributes=7),
        shims("MokNew", attributes=3),
        Variable("MokList", store.GLOBAL, 3, b"x"),
        shims("SHIM_DEBUG"),
        Variable("BootNext", store.GLOBAL, 7, b"\1\0"),
        Variable("BootOrder", store.GLOBAL, 7, b"\1\0"),
        Variable("Boot0001", store.GLOBAL, 7, b"x"),
        Variable("SysPrep0000", store.GLOBAL, 7, b"x"),
        Variable("Driver0000", store.GLOBAL, 7, b"x"),
        Variable("OsIndications", store.GLOBAL, 7, b"\1" + bytes(7)),
        Variable("PK", store.GLOBAL, 0x27, hashes(ONE)),
        Variable("KEK", store.GLOBAL, 0x27, hashes(ONE)),
        Variable("db", store.SECURITY, 0x27, hashes(ONE)),
        Variable("dbx", store.GLOBAL, 0x27, hashes(ONE)),
    ],
    ids=lambda each: f"{each.name}-{each.attributes}",
)
def test_nothing_else_comes_along(planted: Variable) -> None:
    """Promise: what an operating system can plant, or what would lead elsewhere, is dropped."""
    assert after(planted) == Kept()


def test_where_no_shim_ran_its_variables_stay_as_they_were() -> None:
    """Promise: under Full Security, where they are not placed, they are not lost either."""
    known = Kept(shim={"MokList": b"a key"})
    assert after(shims("MokNew", attributes=7), before=known, shim_ran=False) == known


@pytest.mark.parametrize(
    "left",
    [
        [Variable("dbx", store.SECURITY, 0x27, b"rubbish")],
        [shims("MokList", bytes(keeping.SIZE_LIMIT_BYTES))],
    ],
)
def test_rubbish_and_too_much_are_refused(left: list[Variable]) -> None:
    with pytest.raises(ValueError, match=r"list|bytes"):
        after(*left)


def test_what_is_saved_is_found_by_its_digest(tmp_path: Path) -> None:
    kept = Kept(hashes(ONE), {"MokList": b"a key"})
    older = keeping.save(tmp_path, Kept(hashes(TWO)))
    digest = keeping.save(tmp_path, kept)
    assert keeping.load(tmp_path, digest) == kept
    assert keeping.load(tmp_path, b"") == Kept()
    keeping.forget(tmp_path, digest)
    assert keeping.load(tmp_path, digest) == kept
    assert len(list(tmp_path.iterdir())) == 1
    with pytest.raises(ChipRefusalError):
        keeping.load(tmp_path, older)
    keeping.forget(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "content",
    [
        None,
        b"",
        keeping.Kept(hashes(TWO)).encode(),
        b"\xa1\x63dbx\x40",
        encode_canonical({"dbx": b"", "shim": {"BootNext": b""}}),
        encode_canonical({"dbx": b"", "shim": {"MokList": 1}}),
    ],
)
@pytest.mark.parametrize("fits", [False, True])
def test_another_file_is_refused_by_name(tmp_path: Path, content: bytes | None, fits: bool) -> None:
    """Promise: revocations that were taken away, or an older list of them, start nothing."""
    digest = keeping.save(tmp_path, Kept(hashes(ONE)))
    if content is None:
        keeping.forget(tmp_path)
    else:
        if fits and content != Kept(hashes(TWO)).encode():
            digest = hashlib.sha256(content).digest()
        (tmp_path / f"{digest.hex()}{keeping.SUFFIX}").write_bytes(content)
    with pytest.raises(ChipRefusalError) as caught:
        keeping.load(tmp_path, digest)
    assert (caught.value.code, caught.value.link) == ("corrupt", "firmware")
    assert digest.hex() in str(caught.value)
