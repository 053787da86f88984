/** The drawing of the timeline: the years, when each product was sold, events with their labels. */
import type { Layout, Placed } from "../layout.ts";
import { layout, stack } from "../layout.ts";
import { days } from "../marks.ts";
import type { Timeline } from "../product.ts";
import { draw } from "../svg.ts";

const LANE = 24;
const NARROW_LANE = 30;
const BAR = 8;
const LABEL = 20;
const AXIS = 24;
const MARGIN = 6;
/** Below this width there is no room for labels: numbers stand for the entries of the list. */
const LABELS_FROM = 1000;
/** Room for the names of the products, and for the label of the last event. */
const NAMES = 164;
const LABEL_ROOM = 320;
/** What a letter of a product's name takes at most, in pixels. */
const LETTER = 7;
const NUMBER = 18;

type At = (product: string) => number;

/** The drawing, `width` pixels wide. */
export function timelineView(told: Timeline, width: number): SVGSVGElement {
  const labelled = width >= LABELS_FROM;
  const left = labelled ? NAMES : MARGIN;
  const right = width - (labelled ? LABEL_ROOM : NUMBER);
  const plan = layout(told.events, left, right);
  const step = labelled ? LABEL : NUMBER;
  const level = (index: number): number => (labelled ? plan.placed[index]?.level ?? 0 : stack(plan.placed, index, NUMBER));
  const top = MARGIN + step * (1 + Math.max(...plan.placed.map((_, index) => level(index))));
  const height = labelled ? LANE : NARROW_LANE;
  const bottom = top + told.lanes.length * height;
  const at: At = (product) => top + (told.lanes.findIndex((each) => each.id === product) + (labelled ? 0.5 : 0.7)) * height;
  const svg = draw("svg", { viewBox: `0 0 ${width} ${bottom + AXIS}`, width, height: bottom + AXIS, role: "img" });
  svg.setAttribute("aria-label", `Drawing of ${told.events.length} events; the list below says the same`);
  svg.append(band(plan, top, bottom), ...years(plan, top, bottom));
  svg.append(...told.lanes.map((each) => lane(each, plan, at(each.id), labelled)));
  plan.placed.forEach((each, index) => {
    const y = top - 8 - step * level(index);
    svg.append(labelled ? labelOf(each, y, at) : numberOf(each, y, at));
  });
  return svg;
}

function band(plan: Layout, top: number, bottom: number): SVGElement {
  const [left, right] = [plan.years[0]?.x ?? 0, plan.years.at(-1)?.x ?? 0];
  return draw("rect", { class: "band", x: left, y: top, width: right - left, height: bottom - top });
}

function years(plan: Layout, top: number, bottom: number): SVGElement[] {
  return plan.years.map(({ year, x }, index) => {
    const group = draw("g", { class: "year" }, draw("line", { x1: x, x2: x, y1: top, y2: bottom + 6 }));
    const next = plan.years[index + 1];
    const room = next ? next.x - x : 0;
    // A narrow year has room for its last two digits, a narrower one for none.
    const name = room < 18 ? "" : room < 34 ? `’${`${year}`.slice(2)}` : `${year}`;
    if (next) group.append(draw("text", { x: (x + next.x) / 2, y: bottom + 16 }, name));
    return group;
  });
}

/** Its name, and a bar for when it was sold; the bar of one without an end fades. */
function lane(each: Timeline["lanes"][number], plan: Layout, y: number, labelled: boolean): SVGElement {
  const [begin, end] = [plan.at(each.since), each.until ? plan.at(each.until) : plan.years.at(-1)?.x ?? 0];
  const sold = each.until ? days(each.since, each.until) : `from ${days(each.since, null)}`;
  const title = draw("title", {}, `${each.name}: ${sold}${each.doubt ? ` (${each.doubt})` : ""}`);
  const bar = { class: each.doubt ? "sold doubt" : "sold", x: begin, y: y - BAR / 2, width: Math.max(2, end - begin), height: BAR, rx: BAR / 2 };
  const name = labelled
    ? draw("text", { class: "product", x: NAMES - 10, y: y + 4, "text-anchor": "end" }, each.name)
    : draw("text", { class: "product", x: Math.min(begin, (plan.years.at(-1)?.x ?? 0) - each.name.length * LETTER), y: y - 6 }, each.name);
  return draw("g", { class: "lane", "data-product": each.id }, title, draw("rect", bar), name);
}

function labelOf(each: Placed, y: number, at: At): SVGElement {
  const link = linkTo(each);
  const date = draw("tspan", { class: "date" }, days(each.event.day, each.event.until));
  link.append(
    draw("line", { class: "leader", x1: each.x, x2: each.x, y1: Math.max(...each.event.products.map(at)), y2: y - 10 }),
    ...dots(each, at),
    draw("text", { class: "title", x: each.x + 6, y }, date, ` ${each.event.title}`),
  );
  return link;
}

function numberOf(each: Placed, y: number, at: At): SVGElement {
  const link = linkTo(each);
  link.append(...dots(each, at), draw("text", { class: "number", x: each.x, y }, `${each.number}`));
  return link;
}

function dots(each: Placed, at: At): SVGElement[] {
  return each.event.products.map((product) => {
    const y = at(product);
    if (each.end - each.x < BAR) return draw("circle", { class: "dot", cx: each.x, cy: y, r: 5 });
    return draw("rect", { class: "dot", x: each.x - 5, y: y - 5, width: each.end - each.x + 10, height: 10, rx: 5 });
  });
}

/** It is for the pointer; by keyboard the list is reached, which says the same. */
function linkTo(each: Placed): SVGAElement {
  const link = draw("a", { href: `#event-${each.number}`, class: "event", "data-mark": each.event.mark, tabindex: -1 });
  link.dataset["number"] = `${each.number}`;
  link.append(draw("title", {}, `${each.event.title} (${each.event.mark})`));
  return link;
}
