"""Guards: an event log is followed through torn lines, foreign lines and replacement."""

import json

from spacegray.console.follow import Tail
from spacegray.console.limits import EVENT_LINE_LIMIT_BYTES, HISTORY_LIMIT_BYTES


def line(number: int) -> bytes:
    return json.dumps({"kind": "note", "n": number}).encode() + b"\n"


def numbers(tail: Tail) -> list[int]:
    return [event["n"] for event in tail.read()]


def test_what_is_there_then_what_comes(tmp_path):
    path = tmp_path / "events"
    path.write_bytes(line(1))
    tail = Tail(path)
    assert numbers(tail) == [1]
    assert numbers(tail) == []
    with path.open("ab") as file:
        file.write(line(2))
    assert numbers(tail) == [2]


def test_a_torn_line_waits_for_its_end(tmp_path):
    path = tmp_path / "events"
    path.write_bytes(line(1)[:-5])
    tail = Tail(path)
    assert numbers(tail) == []
    path.write_bytes(line(1))
    assert numbers(tail) == [1]


def test_a_log_that_does_not_exist_yet_or_is_replaced(tmp_path):
    path = tmp_path / "events"
    tail = Tail(path)
    assert numbers(tail) == []
    path.write_bytes(line(1) + line(2))
    assert numbers(tail) == [1, 2]
    path.rename(tmp_path / "old")
    path.write_bytes(line(3) + line(4) + line(5))
    assert numbers(tail) == [3, 4, 5]


def test_foreign_lines_are_skipped(tmp_path):
    path = tmp_path / "events"
    path.write_bytes(b'not json\n[]\n{"kind":3}\n{}\n\xff\n' + line(1))
    assert numbers(Tail(path)) == [1]


def test_only_the_end_of_a_long_log_is_read(tmp_path):
    path = tmp_path / "events"
    path.write_bytes(b"".join(map(line, range(5000))))
    assert path.stat().st_size > 2 * HISTORY_LIMIT_BYTES
    found = numbers(Tail(path))
    assert found[-1] == 4999
    assert found == list(range(found[0], 5000))
    assert len(found) < 5000


def test_an_endless_line_is_dropped_and_the_next_one_is_read(tmp_path):
    path = tmp_path / "events"
    tail = Tail(path)
    path.write_bytes(b"x" * (EVENT_LINE_LIMIT_BYTES * 2) + b"\n" + line(7))
    found = []
    for _ in range(10):
        found += numbers(tail)
        assert len(tail._rest) <= EVENT_LINE_LIMIT_BYTES
    assert found == [7]
