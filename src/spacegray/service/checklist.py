"""A plan as a checklist in Markdown: what to have ready, and each step, with a box to tick.

Numbers in brackets lead to the list of sources at the end.
"""

from collections.abc import Iterable

from spacegray.catalog.figures import marked
from spacegray.service.parts import Fact
from spacegray.service.plan import Plan, Step, counted, permitted


def checklist(plan: Plan) -> str:
    """The whole plan as Markdown, ending in a newline."""
    numbers = {source.id: number for number, source in enumerate(plan.sources, 1)}
    sections = [
        ("Before", [_box(_said(fact, numbers)) for fact in plan.before]),
        ("Tools", [_box(tool) for tool in plan.tools]),
        ("Consumables", [_box(consumable) for consumable in plan.consumables]),
        ("Risks", [f"- {_said(fact, numbers)}" for fact in plan.risks]),
        ("Take apart", [*_steps(plan.steps, numbers)]),
        ("Put together", [*_steps(plan.reassembly, numbers)]),
        ("Afterwards", [_box(_said(fact, numbers)) for fact in plan.afterwards]),
        ("Notes", [f"- {_said(fact, numbers)}" for fact in plan.notes]),
        ("Sources", [f"{numbers[each.id]}. {each.title}: <{each.url}>" for each in plan.sources]),
    ]
    head = f"# {plan.title}\n\n{permitted(plan)}.\n\n{counted(plan)}.\n"
    return "\n".join(
        [head, *(f"## {title}\n\n" + "\n".join(lines) + "\n" for title, lines in sections if lines)]
    )


def _steps(steps: list[Step], numbers: dict[str, int]) -> Iterable[str]:
    for step in steps:
        for fact in step.checks:
            yield _box(f"**Check**: {_said(fact, numbers)}")
        source = f" [{numbers[step.source]}]" if step.source else ""
        yield _box(f"{step.number}. **{step.name}**: {marked(step.action, step.mark)}{source}")
        for title, text in (
            ("Tools", ", ".join(step.tools)),
            ("Consumables", ", ".join(step.consumables)),
            ("Risk", step.risk),
        ):
            if text:
                yield f"      - {title}: {text}"


def _said(fact: Fact, numbers: dict[str, int]) -> str:
    text = marked(fact.text, fact.mark)
    return f"{text} [{numbers[fact.source]}]" if fact.source else text


def _box(text: str) -> str:
    return f"- [ ] {text}"
