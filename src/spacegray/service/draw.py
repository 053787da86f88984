"""A plan as a picture (SVG): a ladder of steps from the first to the part that is wanted.

Each rung is one step: what is done, with what, at what risk, how sure that is. Lines in the left
margin lead from a step to a later one that it makes way for, where that is not simply the next;
what follows from other lines is left out. Lengths are in pixels of a picture that scales.
"""

import textwrap
from itertools import pairwise
from typing import Final
from xml.etree import ElementTree as ET

import networkx as nx

from spacegray.catalog.figures import Mark, marked
from spacegray.service.plan import Plan, Step, counted, permitted

WIDTH: Final = 1120
MARGIN: Final = 32
RUNG_LEFT: Final = 190
RUNG_WIDTH: Final = 610
ASIDE_LEFT: Final = 824
LANE_WIDTH: Final = 16
"""Between two lines in the margin."""
GAP: Final = 22
"""Between two rungs: room for an arrow."""
PADDING: Final = 14
LINE: Final = 19
"""From one line of text to the next."""
CHARACTER_WIDTH: Final = 0.53
"""Of a letter on the average, as a part of the font's size: enough for breaking lines."""

INK: Final = "#1d1d1f"
QUIET: Final = "#5f6368"
RISK: Final = "#a3320b"
RULE: Final = "#c9ccd1"
MARK_COLOURS: Final[dict[Mark, str]] = {
    "confirmed": "#1b6e3c",
    "secondary": "#1f5fa8",
    "derived": "#8a5a00",
    "unconfirmed": "#a3320b",
}
LANE_COLOURS: Final = ("#3d6fb6", "#7a4fa3", "#2e8577", "#b0643a", "#64748b")
FONT: Final = "system-ui, 'Segoe UI', 'Helvetica Neue', 'DejaVu Sans', Arial, sans-serif"


def svg(plan: Plan) -> str:
    """The picture as the text of an SVG file."""
    picture = _Picture(plan)
    picture.head()
    picture.ladder()
    picture.foot()
    return picture.text()


class _Picture:
    """The drawing as it grows downwards; `y` is where the next thing begins."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._root = ET.Element(
            "svg",
            {"xmlns": "http://www.w3.org/2000/svg", "role": "img", "font-family": FONT},
        )
        ET.SubElement(self._root, "title").text = plan.title
        steps = "; ".join(f"{step.number}. {step.name}" for step in plan.steps)
        ET.SubElement(self._root, "desc").text = f"{counted(plan)}. In order: {steps}."
        self._arrow_heads()
        self._ground = self._add("rect", x=0, y=0, width=WIDTH, height=0, fill="#ffffff")
        self._y = float(MARGIN)

    def text(self) -> str:
        """The finished file."""
        height = self._y + MARGIN
        self._ground.set("height", f"{height:g}")
        self._root.set("viewBox", f"0 0 {WIDTH} {height:g}")
        self._root.set("width", str(WIDTH))
        self._root.set("height", f"{height:g}")
        ET.indent(self._root)
        return ET.tostring(self._root, encoding="unicode") + "\n"

    def head(self) -> None:
        """Title, who may do it, how sure the plan is."""
        plan = self._plan
        self._y += 24
        self._write(self._plan.title, MARGIN, self._y, size=26, weight=700)
        self._y += 10
        self._paragraph(f"{permitted(plan)}.", MARGIN, WIDTH - 2 * MARGIN, size=14)
        self._paragraph(f"{counted(plan)}.", MARGIN, WIDTH - 2 * MARGIN, size=14)
        for fact in plan.before:
            text = f"Before: {marked(fact.text, fact.mark)}"
            self._paragraph(text, MARGIN, WIDTH - 2 * MARGIN, size=14)
        self._y += GAP

    def ladder(self) -> None:
        """The rungs, then the lines between them."""
        places: dict[str, tuple[float, float]] = {}
        for step in self._plan.steps:
            top = self._y
            self._rung(step, wanted=step.part == (self._plan.exchanged_with or self._plan.part))
            places[step.part] = (top, self._y)
            self._y += GAP
        for one, next_ in pairwise(self._plan.steps):
            if one.part in next_.needs:
                x = RUNG_LEFT + RUNG_WIDTH / 2
                self._line(f"M{x:g} {places[one.part][1]:g}V{places[next_.part][0] - 1:g}", INK)
        for lane, (first, then) in _lanes(self._plan.steps):
            colour = LANE_COLOURS[lane % len(LANE_COLOURS)]
            x = RUNG_LEFT - 22 - lane * LANE_WIDTH
            start, end = places[first][1] - 12, places[then][0] + 14 + 5 * lane
            self._line(
                f"M{RUNG_LEFT} {start:g}H{x + 8:g}Q{x:g} {start:g} {x:g} {start + 8:g}"
                f"V{end - 8:g}Q{x:g} {end:g} {x + 8:g} {end:g}H{RUNG_LEFT - 1}",
                colour,
            )

    def foot(self) -> None:
        """The way back, and what remains to be done."""
        plan = self._plan
        back = f"Put together: the same way in reverse, from {len(plan.steps)} to 1"
        back += f"; needs {', '.join(plan.consumables)}." if plan.consumables else "."
        checks = [marked(fact.text, fact.mark) for step in plan.reassembly for fact in step.checks]
        afterwards = [marked(fact.text, fact.mark) for fact in plan.afterwards]
        self._section("Then", [back, *checks, *afterwards])
        self._section("Risks", [marked(fact.text, fact.mark) for fact in plan.risks])
        self._section("Notes", [marked(fact.text, fact.mark) for fact in plan.notes])
        meaning = "A line leads from what is freed to what it makes way for."
        self._paragraph(meaning, MARGIN, WIDTH - 2 * MARGIN, size=12, colour=QUIET)

    def _rung(self, step: Step, *, wanted: bool) -> None:
        """One step: the box with what is done, and beside it what it takes and how sure it is."""
        top = self._y
        box = self._add(
            "rect",
            x=RUNG_LEFT, y=top, width=RUNG_WIDTH, height=0, rx=9,
            fill="#eef4fd" if wanted else "#f7f8fa", stroke="#3d6fb6" if wanted else RULE,
            stroke_width=2 if wanted else 1,
        )  # fmt: skip
        left, width = RUNG_LEFT + 52, RUNG_WIDTH - 52 - PADDING
        self._y += PADDING - 4
        self._paragraph(step.name, left, width, size=15, weight=700)
        self._paragraph(step.action, left, width, size=14)
        if step.risk:
            self._paragraph(f"Risk: {step.risk}", left, width, size=13, colour=RISK)
        bottom = self._y + PADDING - 2
        self._number(step.number, RUNG_LEFT + 26, top + 24)
        self._y = top + 4
        self._chip(step.mark, ASIDE_LEFT, self._y)
        self._y += 24
        if step.tools:
            tools = ", ".join(step.tools)
            self._paragraph(tools, ASIDE_LEFT, WIDTH - MARGIN - ASIDE_LEFT, size=13, colour=QUIET)
        self._y = max(bottom, self._y + 4)
        box.set("height", f"{self._y - top:g}")

    def _number(self, number: int, x: float, y: float) -> None:
        self._add("circle", cx=x, cy=y, r=14, fill=INK)
        at = self._write(str(number), x, y + 5, size=14, weight=700, colour="#ffffff")
        at.set("text-anchor", "middle")

    def _chip(self, mark: Mark, x: float, y: float) -> None:
        """The mark, in words; its colour says it again."""
        colour, dashes = MARK_COLOURS[mark], "4 3" if mark == "unconfirmed" else "none"
        width = len(mark) * 13 * CHARACTER_WIDTH + 22
        self._add(
            "rect",
            x=x, y=y, width=width, height=21, rx=10.5, fill="#ffffff", stroke=colour,
            stroke_dasharray=dashes,
        )  # fmt: skip
        at = self._write(mark, x + width / 2, y + 15, size=13, colour=colour)
        at.set("text-anchor", "middle")

    def _section(self, title: str, lines: list[str]) -> None:
        if not lines:
            return
        self._paragraph(title, MARGIN, WIDTH - 2 * MARGIN, size=16, weight=700)
        for line in lines:
            self._add("circle", cx=MARGIN + 5, cy=self._y + LINE - 5, r=2.5, fill=INK)
            self._paragraph(line, MARGIN + 18, WIDTH - 2 * MARGIN - 18, size=14)
        self._y += LINE / 2

    def _paragraph(
        self, text: str, x: float, width: float, *, size: int, weight: int = 400, colour: str = INK
    ) -> None:
        """Text broken into lines of `width`; moves on behind it."""
        letters = CHARACTER_WIDTH * (1.06 if weight > 400 else 1)
        for line in textwrap.wrap(text, int(width / (size * letters)), break_on_hyphens=False):
            self._y += LINE
            self._write(line, x, self._y, size=size, weight=weight, colour=colour)

    def _write(
        self, text: str, x: float, y: float, *, size: int, weight: int = 400, colour: str = INK
    ) -> ET.Element:
        at = self._add("text", x=x, y=y, font_size=size, font_weight=weight, fill=colour)
        at.text = text
        return at

    def _line(self, path: str, colour: str) -> None:
        head = f"url(#head-{colour[1:]})"
        self._add("path", d=path, fill="none", stroke=colour, stroke_width=1.6, marker_end=head)

    def _arrow_heads(self) -> None:
        """One for each colour: not every viewer lets a marker take its line's."""
        definitions = ET.SubElement(self._root, "defs")
        for colour in (INK, *LANE_COLOURS):
            head = ET.SubElement(
                definitions,
                "marker",
                {
                    "id": f"head-{colour[1:]}", "orient": "auto", "refX": "8", "refY": "4",
                    "markerWidth": "9", "markerHeight": "8", "markerUnits": "userSpaceOnUse",
                },
            )  # fmt: skip
            ET.SubElement(head, "path", {"d": "M0 0 8 4 0 8z", "fill": colour})

    def _add(self, name: str, **attributes: float | str) -> ET.Element:
        words = {
            key.replace("_", "-"): value if isinstance(value, str) else f"{value:g}"
            for key, value in attributes.items()
        }
        return ET.SubElement(self._root, name, words)


def _lanes(steps: list[Step]) -> list[tuple[int, tuple[str, str]]]:
    """The lines for the margin, each with the innermost lane where it crosses no other."""
    order = {step.part: step.number for step in steps}
    needs: nx.DiGraph[str] = nx.DiGraph((need, step.part) for step in steps for need in step.needs)
    long = [(a, b) for a, b in nx.transitive_reduction(needs).edges if order[b] - order[a] > 1]
    taken: list[list[tuple[int, int]]] = []
    lanes = []
    for first, then in sorted(long, key=lambda edge: (order[edge[1]] - order[edge[0]], *edge)):
        start, end = order[first], order[then]
        lane = next(
            (
                number
                for number, spans in enumerate(taken)
                if all(end < s or e < start for s, e in spans)
            ),
            len(taken),
        )
        if lane == len(taken):
            taken.append([])
        taken[lane].append((start, end))
        lanes.append((lane, (first, then)))
    return lanes
