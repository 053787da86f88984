"""The timeline as a picture: what happened as a staircase of dates, below it who was sold when.

Every event has a line of its own, so that no label covers another; its leader goes straight down to
the axis. The SVG keeps text as text, and says in `title` and `desc` what it shows, for each event
too. The same data gives the same bytes.
"""

import io
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING, Any, Final

from spacegray.catalog import data
from spacegray.catalog.figures import Mark
from spacegray.catalog.timeline import Entry, Lane, entries, lanes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH_INCHES: Final = 15.0
ROW_INCHES: Final = 0.33
HEAD_INCHES: Final = 1.0
"""Room above the first event, for the title and what the marks look like."""
LANE_INCHES: Final = 0.36
FOOT_INCHES: Final = 0.75
"""Room between events and products, for the years, and below the products."""
DOTS_PER_INCH: Final = 96
PNG_SCALE: Final = 2
"""A PNG has this many pixels for each of the SVG's, so that it is sharp on fine screens."""

FIRST_DAY: Final = date(2013, 1, 1)
LAST_DAY: Final = date(2023, 12, 31)
"""What the axis spans; labels of the last events reach beyond."""
LABEL_DAYS: Final = 780
"""Room to the right of the axis for the labels of the last events."""

ARROW_DAYS: Final = 60
"""Room for the arrow of a product whose end is not known."""

DATE_CHARACTER_DAYS: Final = 24
"""Room for each character of an event's date, on the same scale."""

INK: Final = "#1d1d1f"
QUIET: Final = "#6e6e73"
LEADER: Final = "#c9c9ce"
GRID: Final = "#ececf0"
ACCENT: Final = "#0b62b8"
BAR: Final = "#a9adb5"
PAPER: Final = "#ffffff"

TITLE: Final = "The iMac Pro and its neighbours, 2013 to 2022"
DESCRIPTION: Final = (
    "A timeline: {events} events from {first} to {last}, and below it the days between which "
    "{products} products were sold."
)
MARK_FACES: Final[dict[Mark, tuple[str, str]]] = {
    "confirmed": ("full", "confirmed"),
    "secondary": ("left", "secondary source"),
    "derived": ("bottom", "derived"),
    "unconfirmed": ("none", "unconfirmed"),
}
"""How full the dot of an event is, and what that is called."""

_SVG: Final = "http://www.w3.org/2000/svg"


def svg() -> str:
    """The timeline as an SVG document."""
    import matplotlib as mpl

    text = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "spacegray"}):
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        drawn().savefig(text, format="svg", metadata=nothing)
    return _described(text.getvalue())


def png() -> bytes:
    """The timeline as a PNG file."""
    content = io.BytesIO()
    metadata = {"Software": None, "Title": TITLE, "Description": _description()}
    drawn().savefig(content, format="png", dpi=DOTS_PER_INCH * PNG_SCALE, metadata=metadata)
    return content.getvalue()


def drawn() -> "Figure":
    """The figure that both formats are saved from."""
    from matplotlib.figure import Figure

    events, products = entries(), lanes()
    above = HEAD_INCHES + ROW_INCHES * len(events)
    below = FOOT_INCHES + LANE_INCHES * len(products)
    height = above + below
    figure = Figure(figsize=(WIDTH_INCHES, height), dpi=DOTS_PER_INCH, facecolor=PAPER)
    axes = figure.add_axes((0.03, 0.0, 0.95, 1.0))
    axes.set_axis_off()
    # One unit of y is an inch, counted from the axis of years: events upwards, products downwards.
    axes.set_ylim(-below, above)
    axes.set_xlim(FIRST_DAY.toordinal(), LAST_DAY.toordinal() + LABEL_DAYS)
    _years(axes, top=ROW_INCHES * len(events), bottom=-below + FOOT_INCHES / 3)
    for number, event in enumerate(events):
        _event(axes, event, number, y=ROW_INCHES * (len(events) - number - 0.4))
    for row, lane in enumerate(products):
        _lane(axes, lane, y=-FOOT_INCHES * 2 / 3 - LANE_INCHES * (row + 0.5))
    _head(axes, events, top=above)
    return figure


def _years(axes: "Axes", *, top: float, bottom: float) -> None:
    """The axis with its years, and a faint line through all for each."""
    axes.plot([FIRST_DAY.toordinal(), LAST_DAY.toordinal()], [0, 0], color=INK, lw=1.2, zorder=3)
    for year in range(FIRST_DAY.year, LAST_DAY.year + 1):
        begin, middle = date(year, 1, 1).toordinal(), date(year, 7, 2).toordinal()
        axes.plot([begin, begin], [bottom, top], color=GRID, lw=0.8, zorder=0)
        axes.plot([begin, begin], [-0.07, 0.07], color=INK, lw=1.0, zorder=3)
        axes.text(middle, -0.22, str(year), color=INK, size=10, ha="center", va="center")


def _event(axes: "Axes", event: Entry, number: int, *, y: float) -> None:
    day = date.fromisoformat(event.day).toordinal()
    ours = data.MACHINE in event.products
    color = ACCENT if ours else INK
    style = MARK_FACES[event.mark][0]
    axes.plot([day, day], [0, y], color=LEADER, lw=0.8, zorder=1)
    _dot(axes, day, 0, color, style, size=4.5)
    _dot(axes, day, y, color, style, size=7, gid=f"event-{number}")
    # A paper-coloured edge keeps the letters clear of the years' faint lines.
    box = {"facecolor": PAPER, "edgecolor": "none", "pad": 0.8}
    left = day + 32
    axes.text(left, y, event.when, color=QUIET, size=8.5, va="center", bbox=box, zorder=2)
    title = left + DATE_CHARACTER_DAYS * len(event.when) + 25
    weight = "bold" if ours else "normal"
    axes.text(
        title, y, event.title, color=color, size=9.5, weight=weight, va="center", bbox=box, zorder=2
    )


def _lane(axes: "Axes", lane: Lane, *, y: float) -> None:
    since, until = lane.since.toordinal(), (lane.until or LAST_DAY).toordinal()
    ours = lane.id == data.MACHINE
    color = ACCENT if ours else BAR
    axes.barh(y, until - since, left=since, height=LANE_INCHES * 0.68, color=color, zorder=2)
    for change in lane.changes:
        day = change.toordinal()
        half = LANE_INCHES * 0.34
        axes.plot([day, day], [y - half, y + half], color=PAPER, lw=1.6, zorder=3)
    if lane.until is None:
        # An arrow: it went on being sold beyond what the catalogue knows.
        _dot(axes, until + 12, y, color, "full", size=9, shape=">")
    axes.text(
        since + 18,
        y,
        lane.name,
        color=PAPER if ours else INK,
        size=8.5,
        weight="bold" if ours else "normal",
        va="center_baseline",
        zorder=4,
    )
    if lane.doubt:
        beside = until + (18 if lane.until else ARROW_DAYS)
        axes.text(beside, y, lane.doubt, color=QUIET, size=8.5, va="center_baseline", zorder=4)


def _head(axes: "Axes", events: Sequence[Entry], *, top: float) -> None:
    """The title, and what the dots mean of those marks that occur."""
    left = FIRST_DAY.toordinal()
    axes.text(left, top - 0.38, TITLE, color=INK, size=17, weight="bold", va="center")
    note = "Blue: the iMac Pro. A gap in a bar: the day the product changed."
    axes.text(left, top - 0.72, note, color=QUIET, size=9.5, va="center")
    x = float(LAST_DAY.toordinal() - 330)
    marks = {event.mark for event in events}
    faces = [face for mark, face in MARK_FACES.items() if mark in marks]
    for row, (style, name) in enumerate(faces):
        y = top - 0.38 - 0.25 * row
        _dot(axes, x, y, INK, style, size=7)
        axes.text(x + 30, y, name, color=QUIET, size=9, va="center")


def _dot(
    axes: "Axes",
    x: float,
    y: float,
    color: str,
    style: str,
    *,
    size: float,
    shape: str = "o",
    gid: str | None = None,
) -> None:
    axes.plot(
        [x],
        [y],
        marker=shape,
        fillstyle=style,
        ms=size,
        color=color,
        markerfacecoloralt=PAPER,
        mew=1.2,
        zorder=5,
        gid=gid,
    )


def _described(text: str) -> str:
    """The SVG with a title and a description of the whole, and a title for each event's dot."""
    ET.register_namespace("", _SVG)
    ET.register_namespace("xlink", "http://www.w3.org/1999/xlink")
    root = ET.fromstring(text)
    for old in root.findall(f"{{{_SVG}}}metadata"):
        root.remove(old)
    root.set("role", "img")
    root.set("aria-labelledby", "timeline-title timeline-desc")
    for place, (name, words) in enumerate((("title", TITLE), ("desc", _description()))):
        element = _titled(name, words)
        element.set("id", f"timeline-{name}")
        root.insert(place, element)
    groups: dict[str, Any] = {each.get("id", ""): each for each in root.iter(f"{{{_SVG}}}g")}
    for number, event in enumerate(entries()):
        source = f" Source: {event.source_title}." if event.source_title else ""
        words = f"{event.when}: {event.title}. {event.text} ({event.mark}){source}"
        groups[f"event-{number}"].insert(0, _titled("title", words))
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _titled(name: str, words: str) -> ET.Element:
    element = ET.Element(f"{{{_SVG}}}{name}")
    element.text = words
    return element


def _description() -> str:
    events = entries()
    return DESCRIPTION.format(
        events=len(events), first=events[0].when, last=events[-1].when, products=len(lanes())
    )
