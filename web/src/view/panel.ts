/** The panel at the side: everything `show` says, the disk's partitions, and the notes. */
import { show } from "../api.ts";
import type { Partition } from "../details.ts";
import { details } from "../details.ts";
import { make } from "../dom.ts";
import type { Note } from "../model.ts";
import { size } from "../words.ts";
import { Side } from "./side.ts";

export class PanelView {
  readonly #side = new Side("panel", "about", "Details", () => this.#load());
  #name: string | null = null;
  #notes: readonly Note[] = [];

  /** Shows this workstation; call again whenever something about it has changed. */
  update(name: string | null, notes: readonly Note[]): void {
    this.#name = name;
    this.#notes = notes;
    this.#side.refresh();
  }

  async #load(): Promise<void> {
    const name = this.#name;
    if (name === null) return;
    let shown: unknown;
    try {
      shown = await show(name);
    } catch {
      // The events of the page notice and tell the same, in a better place.
      return;
    }
    if (name !== this.#name) return;
    const { sections, partitions } = details(shown);
    this.#side.content.replaceChildren(
      ...sections.map((section) => {
        const block = make("section", {}, make("h3", {}, section.title), rows(section.rows));
        if (section.title === "Disk" && partitions.length > 0) block.append(table(partitions));
        return block;
      }),
      ...(this.#notes.length > 0 ? [notes(this.#notes)] : []),
    );
  }
}

function rows(all: readonly (readonly [string, string])[]): HTMLElement {
  const list = make("dl");
  for (const [label, value] of all) list.append(make("dt", {}, label), make("dd", {}, value));
  return list;
}

function table(partitions: readonly Partition[]): HTMLElement {
  const head = make("tr", {}, make("th", { scope: "col" }, "Partition"), make("th", { scope: "col" }, "Size"));
  const body = partitions.map((part) =>
    make("tr", {}, make("td", {}, part.name), make("td", {}, size(part.sizeBytes))),
  );
  return make("table", {}, make("thead", {}, head), make("tbody", {}, ...body));
}

function notes(all: readonly Note[]): HTMLElement {
  const list = make("ul", {}, ...all.slice(-10).map((note) => make("li", {}, note.text)));
  return make("section", {}, make("h3", {}, "Notes"), list);
}
