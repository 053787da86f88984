/** Startup security at the side: each setting with all it can be, what holds, and who changes it. */
import { show } from "../api.ts";
import { make, rich } from "../dom.ts";
import type { Status, Verb } from "../model.ts";
import { allowed, pending } from "../model.ts";
import type { Choice, Setting } from "../security.ts";
import { security, settings, summary, UNKNOWN } from "../security.ts";
import { Side } from "./side.ts";

const HOW =
  "None of this can be changed from here, nor by the system that runs: only in recovery, by who gives the password to the chip there.";
const WHEN: Record<"ready" | "there" | "on" | "busy", string> = {
  ready: "Recovery comes onto the screen; its menu has Startup Security.",
  there: "Recovery is on the screen: its menu has Startup Security.",
  on: "Shut the machine down first: recovery starts in its place.",
  busy: "It is on its way.",
};

export class SecurityView {
  readonly #side: Side;
  readonly #act: (verb: Verb) => void;
  readonly #start = make("button", { type: "button", class: "recover" }, "Start recovery");
  readonly #when = make("p", { class: "when", role: "status" });
  readonly #door = make("p");
  readonly #facts = make("div");
  #name: string | null = null;
  #status: Status | null = null;

  constructor(act: (verb: Verb) => void) {
    this.#act = act;
    this.#side = new Side("security-panel", "security", "Startup security", () => this.#load());
    this.#start.addEventListener("click", () => {
      if (allowed(this.#status).recovery) this.#act("recovery");
    });
    // It stays where the rest is drawn anew: whoever has just pressed the button keeps the focus.
    const changing = make("section", { class: "changing" }, make("h3", {}, "To change any of this"));
    changing.append(make("p", {}, HOW), this.#start, this.#when, this.#door);
    this.#side.content.append(this.#facts, changing);
  }

  /** Shows this workstation; call again whenever something about it has changed. */
  update(name: string | null, status: Status | null): void {
    this.#name = name;
    this.#status = status;
    this.#buttons();
    this.#side.refresh();
  }

  /** Looks again: in recovery the settings change without an event that tells. */
  refresh(): void {
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
    const now = security(shown);
    const known = settings(now, name);
    const command = known.find((each) => each.command !== "")?.command;
    const words = command ? `On this host the same door opens with \`${command}\`, which starts recovery unseen.` : "";
    this.#door.replaceChildren(...rich(words, name));
    this.#facts.replaceChildren(
      make("p", { class: "summary", "data-policy": now.policy ?? "unknown" }, make("i", { "aria-hidden": "true" }), summary(now)),
      ...known.map((each) => section(each)),
      ...(now.minimumEpoch ? [oldest(now.minimumEpoch)] : []),
    );
  }

  #buttons(): void {
    const may = allowed(this.#status).recovery;
    const state = this.#status?.state;
    // Not `disabled`, which would take the focus away.
    this.#start.setAttribute("aria-disabled", `${!may}`);
    const when = may ? "ready" : state === "recovery" ? "there" : pending(this.#status) || state === "starting" ? "busy" : "on";
    this.#when.textContent = WHEN[when];
  }
}

function section(setting: Setting): HTMLElement {
  const title = make("h3", {}, setting.title);
  const list = make("ul", { class: "choices" }, ...setting.choices.map(choice));
  const block = make("section", {}, title, list);
  if (!setting.choices.some((each) => each.holds)) block.append(make("p", { class: "remark" }, UNKNOWN));
  if (setting.remark) block.append(make("p", { class: "remark" }, setting.remark));
  return block;
}

/** What holds is told by more than its colour. */
function choice(each: Choice): HTMLElement {
  const item = make("li", { "data-holds": `${each.holds}` }, make("i", { "aria-hidden": "true" }));
  const name = make("strong", {}, each.title);
  if (each.holds) {
    item.setAttribute("aria-current", "true");
    name.append(make("span", { class: "now" }, "now"));
  }
  item.append(name, make("span", { class: "means" }, each.means));
  return item;
}

function oldest(epoch: number): HTMLElement {
  const day = new Date(epoch * 1000).toISOString().slice(0, 10);
  const words = `The chip has seen a system of ${day} come up: it accepts a ticket for no older one.`;
  return make("section", {}, make("h3", {}, "No way back"), make("p", {}, words));
}
