/** The timeline page: a drawing, and the same as a list with texts, marks and sources. */
import "./style/timeline.css";
import { byId, make } from "./dom.ts";
import { days, MARKS } from "./marks.ts";
import type { Event, Timeline } from "./product.ts";
import { timeline } from "./product.ts";
import { badge, legend, sourceLink } from "./view/mark.ts";
import { showRefusal } from "./view/refused.ts";
import { timelineView } from "./view/timeline.ts";

const drawing = byId("drawing", "figure");
const list = byId("events", "ol");
let told: Timeline | null = null;
let drawn = 0;

function redraw(): void {
  const width = Math.floor(drawing.clientWidth);
  if (told === null || width === drawn || width === 0) return;
  drawn = width;
  drawing.replaceChildren(timelineView(told, width));
}

function entry(event: Event, number: number, known: Timeline): HTMLElement {
  const names = event.products.map((id) => known.lanes.find((each) => each.id === id)?.name ?? id);
  const when = make("p", { class: "when" }, make("time", { datetime: event.day }, days(event.day, event.until)));
  const title = make("h3", {}, event.title, ...badge(event.mark));
  const source = { title: event.source_title, url: event.source_url, note: event.note };
  const about = make("p", { class: "about" }, make("span", {}, names.join(", ")));
  if (source.title) about.append(sourceLink(source));
  return make("li", { id: `event-${number}`, "data-mark": event.mark }, when, title, make("p", {}, event.text), about);
}

/** What is pointed at in the drawing is shown in the list too. */
function follow(pointed: globalThis.Event, yes: boolean): void {
  const link = (pointed.target as Element | null)?.closest<SVGAElement>("a.event");
  const number = link?.dataset["number"];
  if (number) byId(`event-${number}`, "li").classList.toggle("pointed", yes);
}

async function load(): Promise<void> {
  try {
    const known = await timeline();
    told = known;
    list.replaceChildren(...known.events.map((event, index) => entry(event, index + 1, known)));
    byId("legend", "p").append(...legend(MARKS.filter((mark) => known.events.some((each) => each.mark === mark))));
    if (known.lanes.some((each) => each.doubt)) {
      byId("legend", "p").append(make("span", {}, "Dashed: sold between days of which not all are confirmed"));
    }
    redraw();
  } catch (error) {
    showRefusal(byId("refused", "div"), error);
  }
  list.setAttribute("aria-busy", "false");
}

drawing.addEventListener("pointerover", (event) => follow(event, true));
drawing.addEventListener("pointerout", (event) => follow(event, false));
new ResizeObserver(redraw).observe(drawing);
void load();
