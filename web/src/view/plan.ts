/** A plan of a repair: who may do it, with what, step by step with ticks, and what comes after. */
import { make, setText } from "../dom.ts";
import type { Fact, Plan, Step } from "../product.ts";
import type { Shelf, Way } from "../ticks.ts";
import { Ticks } from "../ticks.ts";
import { capitalised, counted, sentence } from "../words.ts";
import { badge, sourceLink } from "./mark.ts";

/** The plan as elements; the ticks are kept on the `shelf`. */
export function planView(plan: Plan, shelf: Shelf): Node[] {
  const ticks = new Ticks(shelf, plan);
  const total = plan.steps.length + plan.reassembly.length;
  const boxes: HTMLInputElement[] = [];
  const said = make("span", { role: "status" });
  const bar = make("progress", { max: `${Math.max(1, total)}`, value: "0", "aria-label": "Steps done" });
  const again = make("button", { type: "button" }, "Clear ticks");
  const count = (): void => {
    bar.value = ticks.count;
    setText(said, `${ticks.count} of ${counted(total, "step")} done`);
    again.disabled = ticks.count === 0;
  };
  const list = (way: Way, steps: readonly Step[]): HTMLElement =>
    make("ol", {}, ...steps.map((step) => item(step, ticks, way, boxes, count)));
  again.addEventListener("click", () => {
    ticks.clear();
    for (const box of boxes) box.checked = false;
    count();
    boxes[0]?.focus();
  });
  const head = make("header", {}, make("h2", {}, plan.title), who(plan));
  const progress = make("div", { class: "progress" }, bar, said, again);
  const all: Node[] = [head, needed(plan), ...told("Before", plan.before), ...told("Risks", plan.risks), progress];
  all.push(chapter("Disassembly", list("apart", plan.steps)), chapter("Reassembly", list("together", plan.reassembly)));
  all.push(...told("Afterwards", plan.afterwards), ...told("Good to know", plan.notes), sources(plan));
  count();
  return all;
}

function who(plan: Plan): HTMLElement {
  const by = make("strong", { "data-who": plan.who.split(" ").at(-1) ?? "" }, capitalised(plan.who));
  return make("p", { class: "who" }, by, make("span", {}, ...fact(plan.who_why)));
}

function needed(plan: Plan): HTMLElement {
  const list = make("dl", { class: "needed" });
  const row = (title: string, all: readonly string[]): void => {
    if (all.length > 0) list.append(make("dt", {}, title), make("dd", {}, all.join(", ")));
  };
  row("Tools", plan.tools);
  row("Consumables", plan.consumables);
  return list;
}

function told(title: string, all: readonly Fact[]): HTMLElement[] {
  if (all.length === 0) return [];
  const list = make("ul", {}, ...all.map((each) => make("li", {}, ...fact(each))));
  return [make("section", { class: title.toLowerCase().replaceAll(" ", "-") }, make("h3", {}, title), list)];
}

function fact(each: Fact): (Node | string)[] {
  return [sentence(each.text), ...badge(each.mark)];
}

function sources(plan: Plan): HTMLElement {
  const list = make("ul", {}, ...plan.sources.map((each) => make("li", {}, sourceLink(each))));
  return make("details", {}, make("summary", {}, counted(plan.sources.length, "source")), list);
}

function chapter(title: string, list: HTMLElement): HTMLElement {
  return make("section", { class: "steps" }, make("h3", {}, title), list);
}

function item(step: Step, ticks: Ticks, way: Way, boxes: HTMLInputElement[], changed: () => void): HTMLElement {
  const box = make("input", { type: "checkbox" });
  box.checked = ticks.has(way, step);
  box.addEventListener("change", () => {
    ticks.set(way, step, box.checked);
    changed();
  });
  boxes.push(box);
  const number = make("span", { class: "number" }, `${step.number}`);
  const label = make("label", {}, box, number, make("span", {}, sentence(step.action), ...badge(step.mark)));
  const more = [...step.tools, ...step.consumables];
  const checks = step.checks.map((fact) => make("p", { class: "check" }, `First: ${fact.text}`, ...badge(fact.mark)));
  const entry = make("li", {}, ...checks, label);
  if (more.length > 0) entry.append(make("p", { class: "with" }, `With: ${more.join(", ")}`));
  if (step.risk) entry.append(make("p", { class: "risk" }, sentence(step.risk)));
  return entry;
}
