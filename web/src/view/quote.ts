/** What the order costs, line by line, and how much of that is not confirmed. */
import { make } from "../dom.ts";
import { day, dollars, percent } from "../marks.ts";
import type { Line, Quote } from "../product.ts";
import { draw } from "../svg.ts";
import { capitalised } from "../words.ts";
import { badge } from "./mark.ts";

export function quoteView(quote: Quote): Node[] {
  const rows = quote.lines.map(row);
  const total = make("tr", { class: "total" }, make("th", { scope: "row", colspan: "2" }, "Total"));
  total.append(make("td", {}, dollars(quote.total_usd)));
  const caption = make("caption", {}, `Prices of ${day(quote.day)}, before tax`);
  const table = make("table", {}, caption, make("tbody", {}, ...rows), make("tfoot", {}, total));
  const notes = quote.notes.map((note) => make("li", {}, note));
  return [table, share(quote), ...(notes.length > 0 ? [make("ul", { class: "notes" }, ...notes)] : [])];
}

/** What a screen reader hears of a new quote: all of the table would be too much each time. */
export function summary(quote: Quote): string {
  return `Total ${dollars(quote.total_usd)}. ${sureness(quote)}`;
}

function sureness(quote: Quote): string {
  if (quote.unconfirmed_usd === 0) return "Every price in it is sourced.";
  return `${dollars(quote.unconfirmed_usd)} of it, ${percent(quote.unconfirmed_share)}, rests on unconfirmed prices.`;
}

function row(line: Line): HTMLElement {
  const price = line.price_usd;
  const told = price === null ? ["included"] : [dollars(Number(price.value)), ...badge(price.mark)];
  const cell = make("td", { class: price === null ? "included" : "" }, ...told);
  return make("tr", {}, make("th", { scope: "row" }, capitalised(line.what)), make("td", {}, line.choice), cell);
}

/** A bar with the unconfirmed part hatched, and the same in words. */
function share(quote: Quote): HTMLElement {
  const part = Math.min(1, Math.max(0, quote.unconfirmed_share));
  const pattern = draw("pattern", { id: "hatch", width: 6, height: 6, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" });
  pattern.append(draw("line", { x1: 0, y1: 0, x2: 0, y2: 6, class: "hatch" }));
  const bar = draw("svg", { class: "share", "aria-hidden": "true", width: "100%", height: 8 }, draw("defs", {}, pattern));
  bar.append(draw("rect", { class: "whole", width: "100%", height: 8, rx: 4 }));
  bar.append(draw("rect", { class: "part", x: `${(1 - part) * 100}%`, width: `${part * 100}%`, height: 8, fill: "url(#hatch)" }));
  return make("div", { class: part === 0 ? "sure" : "unsure" }, bar, make("p", {}, sureness(quote)));
}
