/** The service record of one workstation: whether it holds, and what was done, newest first. */
import { make, rich } from "../dom.ts";
import { day } from "../marks.ts";
import type { Entry, History } from "../product.ts";
import { brief, counted, sentence } from "../words.ts";

/** `name` is the workstation's. */
export function historyView(told: History, name: string): Node[] {
  const entries = [...told.entries].reverse().map((entry) => item(entry, told.ecid));
  const list = entries.length > 0 ? [make("ol", { class: "entries" }, ...entries)] : [];
  const notes = told.notes.map((note) => make("p", { class: "hint" }, sentence(note)));
  const command = make("p", { class: "hint" }, "The same in a terminal: ", ...rich("`service history`", name));
  return [judged(told, name), ...list, ...notes, ...trusted(told), command];
}

/** Whether it holds, in one line. */
export function verdict(told: History): string {
  if (!told.verified) return "This record does not hold.";
  const count = told.entries.length;
  // A record that none vouches for may tell of more: then this one is no proof that nothing was done.
  if (count === 0 && told.notes.length > 0) return "Verified: no entry of this chip.";
  if (count === 0) return "Verified: no entry, nothing was ever done to it.";
  return `Verified: ${counted(count, "entry", "entries")}, each signed by its chip.`;
}

function judged(told: History, name: string): HTMLElement {
  const words = make("div", {}, make("strong", {}, verdict(told)));
  const wrong = told.wrong.map((each) => make("li", {}, ...rich(sentence(each), name)));
  if (wrong.length > 0) words.append(make("ul", {}, ...wrong));
  return make("div", { class: "verdict", "data-verified": `${told.verified}` }, make("i", { "aria-hidden": "true" }), words);
}

function item(entry: Entry, ecid: string): HTMLElement {
  const date = new Date(entry.time * 1000).toISOString().slice(0, "2017-12-14".length);
  const head = make("p", { class: "job" }, make("strong", {}, sentence(entry.said)), make("time", { datetime: date }, day(date)));
  const by = entry.provider || (entry.by === "provider" ? `the provider ${brief(entry.fingerprint)}` : `its ${entry.by}`);
  const order = entry.order ? `, work order ${brief(entry.order)}` : "";
  const marks = entry.verified ? [] : [make("p", { class: "doubt" }, "Not verified")];
  const chip = entry.ecid === ecid ? [] : [make("p", { class: "by" }, `On the chip before, ${entry.ecid}`)];
  const number = make("span", { class: "number" }, `${entry.number}`);
  return make("li", { "data-verified": `${entry.verified}` }, number, head, make("p", { class: "by" }, `By ${by}${order}`), ...chip, ...marks);
}

function trusted(told: History): HTMLElement[] {
  if (told.providers.length === 0) return [];
  const list = make("ul", { class: "providers" });
  for (const { name, fingerprint } of told.providers) {
    list.append(make("li", {}, name, " ", make("code", { title: fingerprint }, brief(fingerprint))));
  }
  return [make("section", {}, make("h3", {}, "Trusted providers"), list)];
}
