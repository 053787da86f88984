"""Attack: fill the host's disk under the chip's state folder, so that it cannot count or change.

Promise: an error, and no state lost. What a change takes has its room set aside: a full disk stops
neither the counting of guesses nor an erase.
"""

from pathlib import Path

from tests.support import small_disk

HEAD = """
from tests.support.vaultd import pins, vaultd
state = home / "state" / "pro"
state.mkdir()
def answers(vault, op, *secrets, **fields):
    reply = vault.give(op, *secrets, **fields)
    return "ok" if reply["ok"] else reply["error"]
"""

GUESSES_SCRIPT = (
    HEAD
    + """
with vaultd(state) as vault:
    vault.birth()
    assert answers(vault, "set_password", b"old") == "ok"
    fill_up(home / "state")
    assert answers(vault, "change_password", b"old", b"new") == "ok"
    for number in range(3):
        assert answers(vault, "unlock", b"wrong %d" % number) == "wrong"
    assert answers(vault, "unlock", b"new") == "wait"
with vaultd(state) as vault:
    assert vault.ask("open")["ok"] is True
    status = vault.ask("status")
    assert status["password_failures"] == 3, status
    assert not status["put_back"], status
    assert answers(vault, "unlock", b"new") == "wait"
    assert vault.ask("erase")["ok"] is True
with vaultd(state) as vault:
    assert vault.ask("open")["ok"] is True
    assert vault.ask("status")["life"] == "erased"
print("counted")
"""
)

BIRTH_SCRIPT = (
    HEAD
    + """
filler = fill_up(home / "state", leave_bytes=8192)
with vaultd(state) as vault:
    reply = vault.ask("birth", seal="keyfile", **pins())
    assert reply["error"] == "storage", reply
with vaultd(state) as vault:
    assert vault.ask("open")["error"] == "unborn"
filler.unlink()
with vaultd(state) as vault:
    vault.birth()
with vaultd(state) as vault:
    assert vault.ask("open")["ok"] is True
print("born")
"""
)

ROOM_SCRIPT = (
    HEAD
    + """
with vaultd(state) as vault:
    vault.birth()
    assert answers(vault, "set_password", b"old") == "ok"
    assert vault.close() == 0
for name in ("vault.sealed.new", "anchor.new"):
    (state / name).unlink()
filler = fill_up(home / "state")
with vaultd(state) as vault:
    vault.ask("open")
    opened = answers(vault, "unlock", b"wrong")
    assert opened == "storage", opened
    # Not charged, so not computed either: the right one is as good as the wrong one.
    assert answers(vault, "unlock", b"old") in ("storage", "locked")
filler.unlink()
with vaultd(state) as vault:
    assert vault.ask("open")["ok"] is True
    assert answers(vault, "unlock", b"old") == "ok"
print("no guess")
"""
)


def test_a_full_disk_stops_no_count_no_change_and_no_erase(tmp_path: Path) -> None:
    assert small_disk.run(tmp_path, GUESSES_SCRIPT, modules_mb=1, state_kb=256) == "counted\n"


def test_without_room_a_birth_is_refused_and_can_be_repeated(tmp_path: Path) -> None:
    assert small_disk.run(tmp_path, BIRTH_SCRIPT, modules_mb=1, state_kb=256) == "born\n"


def test_without_room_to_count_a_guess_there_is_none(tmp_path: Path) -> None:
    """Somebody has removed what was set aside, to guess without being counted."""
    assert small_disk.run(tmp_path, ROOM_SCRIPT, modules_mb=1, state_kb=256) == "no guess\n"
