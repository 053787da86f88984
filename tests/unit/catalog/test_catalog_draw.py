"""The picture of the timeline: readable by eyes and by programs, nothing covers anything."""

import itertools
import struct
import subprocess
import sys
import xml.etree.ElementTree as ET

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from spacegray.catalog import draw
from spacegray.catalog.timeline import entries, lanes

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def svg() -> ET.Element:
    return ET.fromstring(draw.svg())


def test_it_says_what_it_shows(svg):
    title, desc = svg[0], svg[1]
    assert (title.tag, desc.tag) == (f"{SVG}title", f"{SVG}desc")
    assert svg.get("role") == "img"
    assert svg.get("aria-labelledby") == f"{title.get('id')} {desc.get('id')}"
    assert f"{len(entries())} events from 2013-06-10 to 2022-03-18" in (desc.text or "")


def test_its_text_is_text(svg):
    texts = {"".join(each.itertext()).strip() for each in svg.iter(f"{SVG}text")}
    for event in entries():
        assert {event.title, event.when} <= texts
    for lane in lanes():
        assert lane.name in texts
        assert not lane.doubt or lane.doubt in texts


def test_each_event_says_its_mark_and_source_to_whoever_cannot_see_the_dot(svg):
    titles = [each.text or "" for each in svg.iter(f"{SVG}title")]
    for event in entries():
        said = next(text for text in titles if text.startswith(f"{event.when}: {event.title}."))
        assert f"({event.mark})" in said
        assert event.source_title in said


def test_the_marks_that_occur_are_explained(svg):
    texts = {"".join(each.itertext()).strip() for each in svg.iter(f"{SVG}text")}
    faces = [draw.MARK_FACES[mark] for mark in {event.mark for event in entries()}]
    assert {name for _, name in faces} <= texts
    assert len({style for style, _ in draw.MARK_FACES.values()}) == len(draw.MARK_FACES)


def test_no_text_covers_another_or_leaves_the_picture():
    figure = draw.drawn()
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    boxes = [
        (text.get_text(), text.get_window_extent(canvas.get_renderer()))
        for text in figure.axes[0].texts
    ]
    assert len(boxes) > 2 * len(entries())
    for (one, first), (other, second) in itertools.combinations(boxes, 2):
        assert not first.overlaps(second), f"{one} covers {other}"
    for text, box in boxes:
        assert box.x0 >= 0, text
        assert box.y0 >= 0, text
        assert box.x1 <= figure.bbox.x1, text
        assert box.y1 <= figure.bbox.y1, text


def test_no_leader_crosses_a_label():
    figure = draw.drawn()
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    axes = figure.axes[0]
    axis = axes.transData.transform((0, 0))[1]
    boxes = [text.get_window_extent(canvas.get_renderer()) for text in axes.texts]
    labels = [box for box in boxes if box.y0 > axis]
    leaders = [line for line in axes.lines if line.get_color() == draw.LEADER]
    assert len(leaders) == len(entries())
    for leader in leaders:
        line = leader.get_window_extent(canvas.get_renderer())
        crossed = [box for box in labels if box.x0 < line.x0 < box.x1 and box.y0 < line.y1]
        assert not crossed


def test_a_product_name_stays_within_its_bar():
    figure = draw.drawn()
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    names = {lane.name for lane in lanes()}
    bars = [patch.get_window_extent() for patch in figure.axes[0].patches]
    texts = [text for text in figure.axes[0].texts if text.get_text() in names]
    assert len(texts) == len(names)
    for text in texts:
        box = text.get_window_extent(canvas.get_renderer())
        assert any(bar.x0 <= box.x0 and box.x1 <= bar.x1 and bar.y0 <= box.y0 for bar in bars)


def test_the_same_data_gives_the_same_bytes():
    assert draw.svg() == draw.svg()


def test_a_png_has_two_pixels_for_each_of_the_svg(svg):
    content = draw.png()
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", content[16:24])
    inches = [float((svg.get(side) or "").removesuffix("pt")) / 72 for side in ("width", "height")]
    wanted = [round(each * draw.DOTS_PER_INCH * draw.PNG_SCALE) for each in inches]
    assert abs(width - wanted[0]) <= 1
    assert abs(height - wanted[1]) <= 1


def test_the_plot_library_is_not_loaded_before_something_is_drawn():
    program = "import sys, spacegray.cli.app; print('matplotlib' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-P", "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"
