"""How to get at a part: the order of the steps, computed from the graph of the machine.

What has to be freed is the part and all its ancestors in the graph, nothing else; the order is a
depth-first walk from the part, which takes what belongs together one after the other and is the
same each time. Back together is the same way in reverse; a step on it may have something to be
checked first, before its part is in the way. A step is as sure as the least sure statement that it
rests on.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec
import networkx as nx

from spacegray.catalog.data import Source
from spacegray.catalog.figures import MARKS, Claim, Mark, marked
from spacegray.service.parts import Fact, Machine, Order, Part, Who, find, load

_REVERSED: Final = Fact(
    text="put back the way it was freed, in reverse",
    mark="derived",
    source="macitynet-owc",
    note="the accounts take the machine apart and say little of the way back",
)
_GOAL: Final = ""
"""The node that stands for the whole job: behind it is every part that the job has to free."""


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One step. `needs`: the parts freed before it, or on the way back those put back before it.

    `mark` and `source` are those of the least sure statement of `basis`. Tools, consumables and
    risk are ready to be shown, with their marks.
    """

    number: int
    action: str
    part: str
    name: str
    checks: list[Fact] = []
    """What is looked at before `part` is put back; on the way back alone."""
    frees: list[str]
    needs: list[str]
    tools: list[str]
    consumables: list[str]
    risk: str
    mark: Mark
    source: str
    basis: list[Fact]


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """The whole job. `marks`: how many of `steps` carry each mark."""

    part: str
    name: str
    title: str
    who: Who
    who_why: Fact
    exchanged_with: str
    before: list[Fact]
    steps: list[Step]
    reassembly: list[Step]
    tools: list[str]
    consumables: list[str]
    risks: list[Fact]
    afterwards: list[Fact]
    notes: list[Fact]
    marks: dict[Mark, int]
    sources: list[Source]


def graph(machine: Machine) -> "nx.DiGraph[str]":
    """The machine as a graph: an edge leads from what is freed first to what that gives way to.

    Raises ValueError where the parts are in each other's way.
    """
    edges: nx.DiGraph[str] = nx.DiGraph()
    edges.add_nodes_from(machine.parts)
    for part in machine.parts.values():
        edges.add_edges_from((order.part, part.id) for order in part.after)
    if not nx.is_directed_acyclic_graph(edges):
        raise ValueError(f"parts in each other's way: {nx.find_cycle(edges)}")
    return edges


def order_of(goals: Iterable[str], edges: "nx.DiGraph[str]") -> list[str]:
    """Every part that is freed for `goals`, in order: none before all that it needs."""
    job = edges.copy()
    job.add_edges_from((goal, _GOAL) for goal in goals)
    walk = nx.dfs_postorder_nodes(job.reverse(copy=False), _GOAL)
    return [part for part in walk if part != _GOAL]


def plan(name: str) -> Plan:
    """The plan for a part by its id or alias; raises UsageError where there is no such part."""
    machine = load()
    wanted = find(name)
    target = machine.parts[wanted.soldered_to] if wanted.soldered_to else wanted
    edges = graph(machine)
    order = order_of((target.id, *target.carries), edges)
    freed = [machine.parts[each] for each in order]
    job = edges.subgraph(order)
    steps = [_off(number, part, machine) for number, part in enumerate(freed, 1)]
    reassembly = [
        _back(number, part, sorted(job.successors(part.id), key=order.index), machine)
        for number, part in enumerate(reversed(freed), 1)
    ]
    who, why = _who(target, freed)
    afterwards = [*target.afterwards]
    if target.who != "owner" and not target.paired and target.kind == "part":
        afterwards.insert(0, machine.nothing_to_pair)
    facts = _unique(fact for part in freed for fact in part.checks)
    made = Plan(
        part=wanted.id,
        name=wanted.name,
        title=_title(wanted, target),
        who=who,
        who_why=why,
        exchanged_with=wanted.soldered_to,
        before=list(target.before),
        steps=steps,
        reassembly=reassembly,
        tools=_supplies([*_tools(freed), *target.after_tools], machine),
        consumables=_supplies((each for part in freed for each in part.consumables), machine),
        risks=_unique([*target.risks, *(fact for part in freed for fact in part.risk)]),
        afterwards=[*facts, *afterwards],
        notes=[*_soldered(wanted, target), *target.notes],
        marks=_count(steps),
        sources=[],
    )
    return msgspec.structs.replace(made, sources=_sources(made, machine))


def permitted(made: Plan) -> str:
    """Who may do it, and why."""
    return f"By: {made.who}, because {marked(made.who_why.text, made.who_why.mark)}"


def counted(made: Plan) -> str:
    """How many steps, and how sure: never without those that are unconfirmed."""
    marks = ", ".join(f"{number} {mark}" for mark, number in made.marks.items())
    return f"{len(made.steps)} steps: {marks}"


def _off(number: int, part: Part, machine: Machine) -> Step:
    needs = [order.part for order in part.after]
    return _step(number, part, machine, action=part.action, needs=needs)


def _back(number: int, part: Part, needs: list[str], machine: Machine) -> Step:
    return _step(number, part, machine, action=part.back, needs=needs, back=True)


def _step(
    number: int, part: Part, machine: Machine, *, action: str, needs: list[str], back: bool = False
) -> Step:
    basis = [_handling(part), *(_ordering(order, part, machine) for order in part.after)]
    if back:
        basis.append(_REVERSED)
    weakest = max(basis, key=lambda fact: MARKS.index(fact.mark))
    return Step(
        number=number,
        action=action,
        part=part.id,
        name=part.name,
        checks=list(part.back_checks) if back else [],
        frees=[] if back else [part.id],
        needs=needs,
        tools=_supplies(_back_tools(part) if back else part.tools, machine),
        consumables=_supplies(part.consumables, machine) if back else [],
        risk="" if back else "; ".join(marked(fact.text, fact.mark) for fact in part.risk),
        mark=weakest.mark,
        source=weakest.source,
        basis=basis,
    )


def _handling(part: Part) -> Fact:
    return _fact(f"how it is freed: {_lower(part.name)}", part)


def _ordering(order: Order, part: Part, machine: Machine) -> Fact:
    first = _lower(machine.parts[order.part].name)
    return _fact(f"{first} before {_lower(part.name)}", order)


def _fact(text: str, claim: Claim) -> Fact:
    return Fact(text=text, mark=claim.mark, source=claim.source, note=claim.note)


def _who(target: Part, freed: list[Part]) -> tuple[Who, Fact]:
    """Who may do it, and why: for the part's own reason, else for that of the first on the way."""
    reasons = (part.who_why for part in (target, *freed) if part.who == target.who)
    return target.who, next(why for why in reasons if why is not None)


def _title(wanted: Part, target: Part) -> str:
    if wanted is not target:
        return f"Exchange the {_lower(wanted.name)}, with the {_lower(target.name)}"
    verb = "Exchange" if target.kind == "part" else "Free"
    return f"{verb} the {_lower(target.name)}"


def _soldered(wanted: Part, target: Part) -> list[Fact]:
    if wanted is target:
        return []
    text = f"Soldered: it is exchanged with the {_lower(target.name)}, and all that this asks for."
    return [_fact(text, wanted)]


def _tools(freed: list[Part]) -> Iterator[str]:
    for part in freed:
        yield from part.tools
        yield from _back_tools(part)


def _back_tools(part: Part) -> tuple[str, ...]:
    return part.tools if part.back_tools is None else part.back_tools


def _supplies(ids: Iterable[str], machine: Machine) -> list[str]:
    """Their names with their marks, each once."""
    found = (machine.supplies[each] for each in dict.fromkeys(ids))
    return [marked(supply.name, supply.mark) for supply in found]


def _unique(facts: Iterable[Fact]) -> list[Fact]:
    return list({fact.text: fact for fact in facts}.values())


def _count(steps: list[Step]) -> dict[Mark, int]:
    counted = Counter(step.mark for step in steps)
    return {mark: counted[mark] for mark in MARKS if counted[mark]}


def _sources(made: Plan, machine: Machine) -> list[Source]:
    """Who said all this, each once, in the order of the plan."""
    groups = (made.before, made.risks, made.afterwards, made.notes)
    steps = (*made.steps, *made.reassembly)
    said = [made.who_why, *(fact for step in steps for fact in (*step.checks, *step.basis))]
    said += [fact for group in groups for fact in group]
    return [machine.sources[each] for each in dict.fromkeys(f.source for f in said) if each]


def _lower(name: str) -> str:
    """A name inside a sentence; abbreviations stay as they are."""
    return name if name[:2].isupper() else name[:1].lower() + name[1:]
