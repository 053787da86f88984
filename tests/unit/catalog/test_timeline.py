"""The timeline holds what the product's history turns on, in order, and fits any terminal."""

from datetime import date

import pytest

from spacegray.catalog import data, terminal
from spacegray.catalog.figures import marked
from spacegray.catalog.timeline import entries, lanes

TURNS = [
    # What the history turns on.
    ("2013-12-19", "goes on sale"),
    ("2017-04-03", "round table"),
    ("2017-06-05", "announced"),
    ("2017-12-14", "can be ordered"),
    ("2019-03-19", "256 GB and Vega 64X"),
    ("2020-08-04", "10 cores become the base"),
    ("2021-03-05", "While supplies last"),
    ("2021-03-19", "gone from the store"),
    ("2022-03-08", "Mac Studio"),
]


def test_it_holds_what_the_history_turns_on():
    for day, words in TURNS:
        assert [each for each in entries() if each.day == day and words in each.title], day


def test_events_come_in_their_order_each_with_its_source_spelled_out():
    days = [each.day for each in entries()]
    assert days == sorted(days)
    assert len(days) == len(data.load().events)
    for each in entries():
        assert each.source_title == data.load().sources[each.source].title
        assert each.when
        assert each.text.endswith(".")


def test_a_lane_lasts_from_the_sale_to_the_end():
    by_id = {lane.id: lane for lane in lanes()}
    ours = by_id["imac-pro"]
    assert (ours.since, ours.until) == (date(2017, 12, 14), date(2021, 3, 19))
    assert ours.changes == [date(2019, 3, 19), date(2020, 8, 4)]
    assert ours.doubt == ""
    # One that was only announced counts from then; one end is known from a mirror alone.
    assert by_id["imac"].since == date(2017, 6, 5)
    assert by_id["mac-pro-2013"].doubt == "end (secondary)"
    assert by_id["mac-studio"].doubt == "begin (unconfirmed), end (derived)"
    assert by_id["studio-display"].doubt == "begin (unconfirmed)"
    assert by_id["studio-display"].until is None
    assert [lane.since for lane in lanes()] == sorted(lane.since for lane in lanes())


@pytest.mark.parametrize("width", [1, 20, 60, 72, 80, 100, 110, 1000])
def test_in_a_terminal_every_event_is_there_and_its_text_fits(width):
    lines = [line.plain for line in terminal.drawn(width)]
    text = "\n".join(lines)
    for each in entries():
        assert f"{each.when}  {marked(each.title, each.mark)}" in text
    assert ("━" in text) == (width >= 72)
    if width >= 72:
        assert all(each.doubt in text for each in lanes())
        assert max(map(len, lines)) <= min(width, terminal.WIDTH_LIMIT_CHARACTERS)


@pytest.mark.parametrize("width", [80, 110])
def test_a_bar_lies_under_its_years(width):
    lines = [line.plain for line in terminal.drawn(width)]
    years = lines[0]
    bar = next(line for line in lines if line.startswith("iMac Pro "))
    first, last = ("2017", "2021") if width > 100 else ("17", "21")
    assert years.index(first) < bar.index("━") < years.index(first) + width // 11
    assert years.index(last) <= bar.rindex("━") < years.index(last) + width // 11
