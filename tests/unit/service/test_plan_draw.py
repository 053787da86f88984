"""A plan says the same in all its forms: picture, checklist, table and JSON."""

import json
import re
from itertools import combinations
from xml.etree import ElementTree as ET

import click
import msgspec
import pytest
from click.testing import CliRunner

from spacegray.cli import planning
from spacegray.cli.plan_table import LEAST_COLUMNS, PAGE_COLUMNS, table
from spacegray.errors import UsageError
from spacegray.service.checklist import checklist
from spacegray.service.draw import WIDTH, svg
from spacegray.service.parts import Part, parts
from spacegray.service.plan import Plan, plan

EVERY_PART = pytest.mark.parametrize("name", [part.id for part in parts()])
NAMESPACE = "{http://www.w3.org/2000/svg}"


def words(text: str) -> str:
    """The text with its white space made even, as lines are broken wherever they are."""
    return " ".join(text.split())


def drawn(name: str) -> ET.Element:
    return ET.fromstring(svg(plan(name)))


def number(element: ET.Element, name: str) -> float:
    return float(element.attrib[name])


def boxes(picture: ET.Element) -> list[tuple[float, float, float, float]]:
    """Left, top, right, bottom of each rectangle but the ground."""
    found = list(picture.iter(f"{NAMESPACE}rect"))[1:]
    return [
        (
            number(each, "x"),
            number(each, "y"),
            number(each, "x") + number(each, "width"),
            number(each, "y") + number(each, "height"),
        )
        for each in found
    ]


@EVERY_PART
def test_the_picture_holds_every_step_its_risk_and_how_sure_it_is(name):
    made = plan(name)
    picture = drawn(name)
    said = words(" ".join(text.text or "" for text in picture.iter(f"{NAMESPACE}text")))
    for step in made.steps:
        assert step.name in said
        assert step.action in said
        assert step.risk in said
        assert str(step.number) in said
    chips = [text.text for text in picture.iter(f"{NAMESPACE}text") if text.text in made.marks]
    assert chips == [step.mark for step in made.steps]
    for fact in (*made.before, *made.risks, *made.afterwards, *made.notes):
        assert fact.text in said
    for fact in (fact for step in made.reassembly for fact in step.checks):
        assert f"{fact.text} ({fact.mark})" in said
    assert picture.findtext(f"{NAMESPACE}title") == made.title
    assert made.steps[-1].name in (picture.findtext(f"{NAMESPACE}desc") or "")


@EVERY_PART
def test_nothing_in_the_picture_lies_over_another_or_outside(name):
    picture = drawn(name)
    height = number(picture, "height")
    rectangles = boxes(picture)
    assert len(rectangles) == 2 * len(plan(name).steps)
    for one, other in combinations(rectangles, 2):
        apart = one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]
        assert apart, f"{one} lies over {other}"
    for left, top, right, bottom in rectangles:
        assert 0 < left < right < WIDTH
        assert 0 < top < bottom < height
    for text in picture.iter(f"{NAMESPACE}text"):
        assert 0 < number(text, "x") < WIDTH
        assert 0 < number(text, "y") < height
    for path in picture.iter(f"{NAMESPACE}path"):
        if "fill" in path.attrib and path.attrib["fill"] == "none":
            across = [float(x) for x in re.findall(r"[MH]([\d.]+)", path.attrib["d"])]
            assert min(across) > 0


@EVERY_PART
def test_lines_of_the_picture_stay_apart(name):
    """Two lines that run in the same lane of the margin do not touch."""
    runs = []
    for path in drawn(name).iter(f"{NAMESPACE}path"):
        found = re.fullmatch(
            r"M\d+ [\d.]+H[\d.]+Q([\d.]+) .*? ([\d.]+)V([\d.]+)Q.*", path.attrib["d"]
        )
        if found:
            runs.append(tuple(float(each) for each in found.groups()))
    for one, other in combinations(runs, 2):
        assert one[0] != other[0] or one[2] < other[1] or other[2] < one[1]


def test_the_wanted_part_stands_out():
    for name, at in (("memory", "memory"), ("graphics", "logic-board")):
        made = plan(name)
        rungs = [
            each.attrib["stroke-width"]
            for each in drawn(name).iter(f"{NAMESPACE}rect")
            if "stroke-width" in each.attrib
        ]
        place = [step.part for step in made.steps].index(at)
        assert rungs[place] == "2"
        assert rungs.count("2") == 1


@EVERY_PART
def test_the_checklist_has_a_box_for_every_step_both_ways(name):
    made = plan(name)
    text = checklist(made)
    assert text.startswith(f"# {made.title}\n")
    for step in (*made.steps, *made.reassembly):
        boxes_ = re.findall(
            rf"^- \[ \] {step.number}\. \*\*{re.escape(step.name)}\*\*: "
            rf"{re.escape(step.action)}(.*)$",
            text,
            re.MULTILINE,
        )
        assert len(boxes_) == 1
        assert (f"({step.mark})" in boxes_[0]) == (step.mark != "confirmed")
        for fact in step.checks:
            assert text.index(f"- [ ] **Check**: {fact.text}") < text.rindex(step.action)
    numbers = {int(each) for each in re.findall(r"\[(\d+)\]", text)}
    assert numbers <= set(range(1, len(made.sources) + 1))
    assert all(source.url in text for source in made.sources)


@EVERY_PART
def test_the_table_fits_and_says_all_of_it(name, monkeypatch):
    made = plan(name)
    for columns, wide in ((80, 80), (20, LEAST_COLUMNS), (500, PAGE_COLUMNS)):
        monkeypatch.setenv("COLUMNS", str(columns))
        text = table(made, styled=False)
        body = text.partition("\nSources\n")[0]
        assert max(map(len, body.splitlines())) <= wide
        assert "\x1b" not in text
        assert all(source.url in text for source in made.sources)
        for fact in (*made.before, *made.risks, *made.afterwards, *made.notes):
            assert fact.text.split()[0] in text
        assert body.count("Check: ") == sum(len(step.checks) for step in made.reassembly)
        assert re.findall(r"^ *(\d+)  ", body, re.MULTILINE) == [
            str(step.number) for step in (*made.steps, *made.reassembly)
        ]


def run(*line: str) -> str:
    """What a command prints; raises what it raises."""
    done = CliRunner().invoke(planning.plan, line, standalone_mode=False)
    if done.exception is not None:
        raise done.exception
    return done.stdout


@EVERY_PART
def test_json_is_the_whole_plan(name):
    text = run(name, "--format", "json")
    assert msgspec.json.decode(text.encode(), type=Plan) == plan(name)


def test_every_form_can_be_written_to_a_file(tmp_path):
    for form in ("table", "checklist", "json", "svg"):
        file = tmp_path / form
        said = run("memory", "--format", form, "--output", str(file))
        assert str(file) in said
        assert file.read_text(encoding="utf-8") == run("memory", "--format", form, "--output", "-")


def test_a_file_that_cannot_be_written_is_refused(tmp_path):
    with pytest.raises(UsageError, match="No such file") as caught:
        run("memory", "--output", str(tmp_path / "none" / "plan.txt"))
    assert "\n" not in str(caught.value)


def test_a_part_that_there_is_not_writes_nothing(tmp_path):
    file = tmp_path / "plan.svg"
    with pytest.raises(UsageError, match="did you mean memory"):
        run("memori", "--format", "svg", "--output", str(file))
    assert not file.exists()


def test_a_file_without_a_name_is_refused():
    with pytest.raises(click.UsageError, match="'' names no file"):
        run("memory", "--output", "")


def test_no_other_form_is_taken():
    with pytest.raises(click.UsageError, match="jpeg"):
        run("memory", "--format", "jpeg")


def test_the_list_of_parts_names_every_part():
    done = CliRunner().invoke(planning.parts, [], standalone_mode=False)
    rows = [line.split()[0] for line in done.stdout.splitlines()[1:]]
    assert rows == [part.id for part in parts()]
    done = CliRunner().invoke(planning.parts, ["--format", "json"], standalone_mode=False)
    assert msgspec.convert(json.loads(done.stdout), list[Part]) == parts()
