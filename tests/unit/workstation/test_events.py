"""The event log: whole lines, in order, whoever writes and however long it is followed."""

import threading

from spacegray.workstation import events
from spacegray.workstation.events import EventLog, follow


def test_what_is_written_is_read_in_order(tmp_path):
    log = EventLog(tmp_path / "events.jsonl")
    for number in range(5):
        log.write("note", text=str(number))
    read = list(follow(tmp_path / "events.jsonl", until=lambda: True))
    assert [event["text"] for event in read] == list("01234")


def test_a_torn_line_and_foreign_lines_are_passed_over(tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'garbage\n[1]\n{"no": "kind"}\n{"kind": "note", "text": "a"}\n{"kind": "no')
    assert [event["text"] for event in follow(path, until=lambda: True)] == ["a"]


def test_followers_see_what_comes_later_even_after_rotation(tmp_path):
    path = tmp_path / "events.jsonl"
    log = EventLog(path)
    log.write("note", text="before")
    seen = []
    done = threading.Event()

    def read():
        for event in follow(path, until=done.is_set):
            seen.append(event["text"])

    reader = threading.Thread(target=read)
    reader.start()
    while seen != ["before"]:
        pass
    path.unlink()
    log.write("note", text="x")
    while seen[-1] != "x":
        pass
    done.set()
    reader.join(10)
    assert seen == ["before", "x"]


def test_an_overlong_log_is_put_aside(tmp_path, monkeypatch):
    monkeypatch.setattr(events, "LOG_LIMIT_BYTES", 10)
    log = EventLog(tmp_path / "events.jsonl")
    log.write("note", text="long enough")
    log.rotate()
    assert (tmp_path / "events.1.jsonl").exists()
    assert events.size(tmp_path / "events.jsonl") == 0
