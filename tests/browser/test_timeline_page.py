"""Guards: the timeline is drawn with every event and product, and said in words with sources."""

import pytest
from playwright.sync_api import Page, expect

from spacegray.catalog import timeline
from tests.browser.conftest import OpenPage, artifact
from tests.support.console import Serving


@pytest.fixture
def drawn(serving: Serving, open_page: OpenPage) -> Page:
    page = open_page(serving.address(), color_scheme="light")
    page.get_by_role("link", name="Timeline").click()
    expect(page.locator("#drawing svg")).to_be_visible()
    return page


def test_every_event_is_in_the_list_with_its_mark_and_source(drawn: Page):
    events = timeline.entries()
    items = drawn.locator("#events li")
    expect(items).to_have_count(len(events))
    for index, event in enumerate(events):
        item = items.nth(index)
        expect(item.locator("h3")).to_contain_text(event.title)
        expect(item.locator("time")).to_have_attribute("datetime", event.day)
        marks = [] if event.mark == "confirmed" else [event.mark]
        assert item.locator(".mark").all_text_contents() == marks
        if event.source_url:
            link = item.get_by_role("link", name=event.source_title, exact=True)
            expect(link).to_have_attribute("href", event.source_url)
            expect(link).to_have_attribute("rel", "noopener noreferrer")


def test_the_drawing_has_them_too_and_every_product(drawn: Page):
    labels = drawn.locator("#drawing a.event")
    expect(labels).to_have_count(len(timeline.entries()))
    for event in timeline.entries():
        label = labels.filter(has_text=event.title).first
        expect(label).to_have_attribute("data-mark", event.mark)
    for lane in timeline.lanes():
        expect(drawn.locator(f'#drawing [data-product="{lane.id}"]')).to_contain_text(lane.name)
    if (picture := artifact("timeline.png")) is not None:
        drawn.set_viewport_size({"width": 1440, "height": 1600})
        drawn.screenshot(path=picture)


def test_time_runs_to_the_right_and_labels_lie_apart(drawn: Page):
    boxes = [label.bounding_box() for label in drawn.locator("#drawing text.title").all()]
    found = [box for box in boxes if box is not None]
    assert len(found) == len(boxes) > 10
    assert [box["x"] for box in found] == sorted(box["x"] for box in found)
    for index, one in enumerate(found):
        for other in found[index + 1 :]:
            beside = one["x"] + one["width"] <= other["x"]
            under = one["y"] + one["height"] <= other["y"] + 4
            above = other["y"] + other["height"] <= one["y"] + 4
            assert beside or under or above, (one, other)
    figure = drawn.locator("#drawing").bounding_box()
    assert figure is not None
    assert max(box["x"] + box["width"] for box in found) <= figure["x"] + figure["width"]


def test_a_label_leads_to_its_entry(drawn: Page):
    wanted = next(event for event in timeline.entries() if event.day == "2017-12-14")
    drawn.locator("#drawing a.event").filter(has_text=wanted.title).locator("text").click()
    target = drawn.locator("#events li:target")
    expect(target.locator("h3")).to_contain_text(wanted.title)
    expect(target).to_be_in_viewport()


def test_where_it_is_narrow_numbers_stand_for_the_entries(drawn: Page):
    drawn.set_viewport_size({"width": 390, "height": 800})
    numbers = drawn.locator("#drawing text.number")
    expect(numbers).to_have_count(len(timeline.entries()))
    expect(drawn.locator("#drawing text.title")).to_have_count(0)
    drawn.set_viewport_size({"width": 1440, "height": 900})
    expect(numbers).to_have_count(0)
