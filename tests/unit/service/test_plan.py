"""Plans: for every part there is one, it is in order, nothing in it is idle, and back is reverse.

What has to come off for what is also written down here by hand, apart from the data.
"""

from pathlib import Path

import networkx as nx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spacegray.catalog.figures import MARKS
from spacegray.errors import UsageError
from spacegray.service.parts import DATA, Fact, parts, read
from spacegray.service.plan import Plan, Step, _tools, counted, graph, order_of, permitted, plan

DOCUMENT = Path(__file__).parents[3] / "docs" / "service.md"
PARTS = parts()
EVERY_PART = pytest.mark.parametrize("part", PARTS, ids=lambda part: part.id)

BEFORE = {
    "memory": ["display", "speakers", "blower", "power-supply", "logic-board"],
    "ssd": [
        "display", "speakers", "blower", "power-supply", "logic-board", "ssd-seals", "ssd-screws"
    ],
    "processor": ["display", "blower", "power-supply", "logic-board", "heatsink"],
    "logic-board": ["display", "speakers", "blower", "power-supply-screws", "power-supply"],
    "graphics": ["display", "speakers", "blower", "power-supply", "logic-board"],
    "power-supply": ["mains-cable", "display", "blower", "power-supply-screws"],
    "blower": ["display", "blower-screws"],
    "speakers": ["display", "speaker-screws"],
    "display": ["mains-cable", "display-tape", "display-cables", "bottom-tape"],
    "stand": ["mains-cable", "stand-screws"],
    "vesa-mount": ["mains-cable", "mount-screws"],
}  # fmt: skip
"""Of what is often repaired: what comes off first, in this order, by the accounts of teardowns."""

NOT_TOUCHED = {
    "display": ["speakers", "blower", "logic-board", "stand"],
    "speakers": ["blower", "power-supply", "logic-board", "stand"],
    "blower": ["power-supply", "logic-board", "memory", "stand"],
    "power-supply": ["logic-board", "memory", "ssd", "stand"],
    "memory": ["ssd", "ssd-seals", "heatsink", "processor", "stand"],
    "ssd": ["memory", "heatsink", "processor", "stand"],
    "processor": ["memory", "ssd", "stand"],
    "stand": ["display-tape", "display", "logic-board", "vesa-mount"],
    "vesa-mount": ["display-tape", "display", "stand"],
}


@EVERY_PART
def test_there_is_a_plan_for_every_part(part):
    made = plan(part.id)
    assert made.part == part.id
    assert part.name[1:] in made.title
    assert made.steps
    wanted = part.soldered_to or part.id
    assert wanted in [step.part for step in made.steps]
    assert all(step.action.endswith(".") for step in (*made.steps, *made.reassembly))


@EVERY_PART
def test_no_step_needs_a_part_that_is_not_freed_yet(part):
    known = {each.id: each for each in PARTS}
    freed: set[str] = set()
    for number, step in enumerate(plan(part.id).steps, 1):
        assert step.number == number
        assert {order.part for order in known[step.part].after} == set(step.needs)
        assert set(step.needs) <= freed, f"{step.part} comes too early"
        freed |= set(step.frees)


@EVERY_PART
def test_nothing_is_put_back_in_the_way_of_what_is_still_out(part):
    made = plan(part.id)
    back: set[str] = set()
    for number, step in enumerate(made.reassembly, 1):
        assert step.number == number
        in_the_way_of = {each.part for each in made.steps if step.part in each.needs}
        assert in_the_way_of == set(step.needs)
        assert in_the_way_of <= back
        back.add(step.part)
    assert back == {step.part for step in made.steps}


@EVERY_PART
def test_putting_together_reverses_taking_apart(part):
    made = plan(part.id)
    apart = [step.part for step in made.steps]
    assert [step.part for step in made.reassembly] == apart[::-1]
    assert len(set(apart)) == len(apart)
    actions = {step.part: step.action for step in made.steps}
    assert all(step.action != actions[step.part] for step in made.reassembly)


@EVERY_PART
def test_a_check_is_made_before_its_part_is_put_back(part):
    made = plan(part.id)
    assert not any(step.checks for step in made.steps)
    known = {each.id: each for each in PARTS}
    for step in made.reassembly:
        assert tuple(step.checks) == known[step.part].back_checks
        assert not {fact.text for fact in step.checks} & set(texts(made.afterwards))


@EVERY_PART
def test_nothing_is_left_for_afterwards_that_comes_before_something(part):
    said = [fact.text for fact in plan(part.id).afterwards]
    assert not [text for text in said if text.startswith("Before ") or " before letting " in text]


def test_who_opened_the_display_looks_at_it_before_the_tape_closes_it():
    for name in ("memory", "ssd", "logic-board", "graphics", "display"):
        ((step, fact),) = [(each, fact) for each in plan(name).reassembly for fact in each.checks]
        assert fact.text.startswith("Before the new tape closes it: ")
        assert (step.part, fact.mark) == ("display-tape", "unconfirmed")
        assert "display-cables" in [each.part for each in plan(name).reassembly[: step.number - 1]]
    for name in ("stand", "vesa-mount", "mains-cable"):
        assert not any(step.checks for step in plan(name).reassembly)
    assert "Run the machine under full load" in texts(plan("processor").afterwards)


@EVERY_PART
def test_nothing_is_put_back_with_a_tool_for_taking_apart(part):
    made = plan(part.id)
    for step in made.reassembly:
        for tool in ("opening wheel", "suction cups", "spudger"):
            assert not any(tool in name for name in step.tools), step.name
    used = {tool for step in (*made.steps, *made.reassembly) for tool in step.tools}
    assert used <= set(made.tools)
    assert ("opening wheel of plastic" in used) == (part.who == "authorised provider")


def test_what_is_driven_in_or_touched_is_so_with_the_same_tools():
    made = plan("memory")
    apart, back = (
        {step.part: step.tools for step in steps} for steps in (made.steps, made.reassembly)
    )
    for name in ("speaker-screws", "power-supply-screws", "board-screws", "memory"):
        assert apart[name] == back[name] != []
    assert back["display-cables"] == ["soft support to lay the machine on"]
    assert back["display-tape"] == []


def test_a_tool_that_only_puts_back_is_in_the_list():
    tools = 'tools = ["spudger", "wrist-strap"]\nback_tools = ["wrist-strap"]'
    text = DATA.read_text(encoding="utf-8")
    assert tools in text
    machine = read(text.replace(tools, 'tools = []\nback_tools = ["kit-key"]').encode())
    freed = [machine.parts["blower"]]
    assert list(_tools(freed)) == ["kit-key"]


@EVERY_PART
def test_no_step_can_be_left_out(part):
    made = plan(part.id)
    target = next(each for each in PARTS if each.id == (part.soldered_to or part.id))
    goals = {target.id, *target.carries}
    for left_out in made.steps:
        rest = [step for step in made.steps if step is not left_out]
        freed = {step.part for step in rest}
        works = goals <= freed and all(set(step.needs) <= freed for step in rest)
        assert not works, f"{left_out.part} is taken off for nothing"


@EVERY_PART
def test_a_plan_is_the_same_each_time(part):
    assert plan(part.id) == plan(part.id)


@EVERY_PART
def test_every_fact_of_a_plan_has_mark_and_source(part):
    made = plan(part.id)
    sources = {source.id for source in made.sources}
    facts = [made.who_why, *made.before, *made.risks, *made.afterwards, *made.notes]
    facts += [fact for step in (*made.steps, *made.reassembly) for fact in step.basis]
    for fact in facts:
        assert fact.mark in MARKS
        assert (fact.source in sources) or (fact.mark == "unconfirmed" and not fact.source)
    for step in (*made.steps, *made.reassembly):
        assert step.mark == max((fact.mark for fact in step.basis), key=MARKS.index)
    assert all(step.mark in ("derived", "unconfirmed") for step in made.reassembly)


@EVERY_PART
def test_how_sure_a_plan_is_counts_every_step(part):
    made = plan(part.id)
    assert sum(made.marks.values()) == len(made.steps)
    said = counted(made)
    assert said.startswith(f"{len(made.steps)} steps: ")
    if any(step.mark == "unconfirmed" for step in made.steps):
        assert f"{made.marks['unconfirmed']} unconfirmed" in said
    else:
        assert "unconfirmed" not in said


@EVERY_PART
def test_a_provider_does_whatever_opens_the_machine(part):
    made = plan(part.id)
    opened = "display-tape" in {step.part for step in made.steps}
    assert made.who == ("authorised provider" if opened else "owner") == part.who
    assert made.who in permitted(made)


@EVERY_PART
def test_who_opens_the_display_needs_new_adhesive(part):
    made = plan(part.id)
    opened = "display-tape" in {step.part for step in made.steps}
    strips = any("adhesive strips" in name for name in made.consumables)
    assert opened == strips
    assert strips == any(
        "adhesive" in name for step in made.reassembly for name in step.consumables
    )
    assert not any(step.consumables for step in made.steps)


@pytest.mark.parametrize("name", BEFORE)
def test_what_comes_off_first_is_what_teardowns_took_off_first(name):
    apart = [step.part for step in plan(name).steps]
    wanted = plan(name).exchanged_with or name
    places = [apart.index(each) for each in BEFORE[name]]
    assert places == sorted(places)
    assert all(place < apart.index(wanted) or BEFORE[name][-1] == wanted for place in places)


@pytest.mark.parametrize("name", NOT_TOUCHED)
def test_what_need_not_come_off_stays(name):
    assert not {step.part for step in plan(name).steps} & set(NOT_TOUCHED[name])


def test_related_work_stays_together():
    for part in PARTS:
        apart = [step.part for step in plan(part.id).steps]
        for screws, held in (
            ("speaker-screws", "speakers"),
            ("blower-screws", "blower"),
            ("power-supply-screws", "power-supply"),
            ("ssd-screws", "ssd"),
            ("stand-screws", "stand"),
        ):
            if held in apart:
                assert apart.index(held) == apart.index(screws) + 1


def test_what_is_soldered_is_exchanged_with_the_logic_board():
    board = plan("logic-board")
    for part in PARTS:
        if part.soldered_to:
            made = plan(part.id)
            assert made.exchanged_with == "logic-board"
            assert made.steps == board.steps
            assert made.reassembly == board.reassembly
            assert made.risks == board.risks
            assert made.title.endswith(", with the logic board")
            assert made.notes[0].text.startswith("Soldered: ")
        else:
            assert plan(part.id).exchanged_with == ""


def texts(facts):
    return " ".join(fact.text for fact in facts)


def test_what_has_to_be_paired_afterwards_is_said():
    for name in ("ssd", "logic-board", "graphics", "security-chip"):
        made = plan(name)
        said = texts(made.afterwards)
        assert "system configuration" in said
        assert "estore the machine from a second Mac" in said
        assert "Nothing to pair" not in said
        assert "all data" in texts(made.risks)
        assert "Make a backup" in texts(made.before)
        assert any("Apple Configurator" in tool for tool in made.tools)
    for name in ("memory", "processor", "power-supply", "display", "blower", "speakers"):
        made = plan(name)
        assert "Nothing to pair" in texts(made.afterwards)
        assert "all data" not in texts(made.risks)
        assert not any("Configurator" in tool for tool in made.tools)
    assert "Test the memory" in texts(plan("memory").afterwards)


def test_the_stand_is_its_owners_with_the_risks_of_the_kit():
    made = plan("stand")
    assert made.who == "owner"
    risks = texts(made.risks)
    assert "zinc" in risks
    assert "shear" in risks
    assert "does not support" in risks
    assert not made.consumables


def test_a_logic_board_takes_memory_ssd_and_processor_over():
    apart = [step.part for step in plan("logic-board").steps]
    board = apart.index("logic-board")
    assert all(apart.index(each) > board for each in ("memory", "ssd", "processor"))


def test_a_part_that_there_is_not_is_refused():
    with pytest.raises(UsageError, match="did you mean memory"):
        plan("memori")


def test_parts_in_each_others_way_are_a_fault():
    text = DATA.read_text(encoding="utf-8")
    tape = '{ part = "mains-cable", mark = "confirmed", source = "macitynet-owc" }'
    assert text.count(tape) == 1
    # The display's tape behind the memory, which lies behind the display.
    looped = text.replace(tape, '{ part = "memory", mark = "unconfirmed" }')
    with pytest.raises(ValueError, match="in each other's way"):
        graph(read(looped.encode()))


def test_the_document_names_every_key_and_counts_the_parts():
    _, _, text = DOCUMENT.read_text(encoding="utf-8").partition("\n## Plans\n")
    text = text.partition("\n## ")[0]
    for struct in (Plan, Step, Fact):
        for key in struct.__struct_fields__:
            assert f"`{key}`" in text, key
    assert f"{len(PARTS)} things in all" in text


@st.composite
def machines(draw):
    """Any graph of parts without a loop: each part is only behind parts that come before it."""
    size = draw(st.integers(1, 12))
    edges: nx.DiGraph[str] = nx.DiGraph()
    edges.add_nodes_from(str(number) for number in range(size))
    for late in range(size):
        for early in draw(st.sets(st.integers(0, late - 1), max_size=4)) if late else ():
            edges.add_edge(str(early), str(late))
    return edges


@given(machines(), st.data())
def test_of_any_machine_exactly_what_is_in_the_way_comes_off_in_order(edges, data):
    goals = data.draw(st.sets(st.sampled_from(sorted(edges)), min_size=1, max_size=3))
    order = order_of(sorted(goals), edges)
    assert set(order) == goals.union(*(nx.ancestors(edges, goal) for goal in goals))
    assert len(order) == len(set(order))
    for place, part in enumerate(order):
        assert set(edges.predecessors(part)) <= set(order[:place])
