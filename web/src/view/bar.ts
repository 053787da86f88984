/** The bar above: which workstations there are, how this one stands, and its power. */
import type { Listed } from "../api.ts";
import { byId, make, setText } from "../dom.ts";
import type { Status, Verb } from "../model.ts";
import { allowed, pending, VERBS } from "../model.ts";
import { stateTitle } from "../words.ts";

const PENDING_TITLES: Record<Verb, string> = {
  start: "Powering on",
  stop: "Shutting down",
  restart: "Restarting",
  recovery: "Starting recovery",
};

export class BarView {
  readonly #list = byId("list", "nav");
  readonly #pill = byId("pill", "p");
  readonly #state = byId("state", "span");
  readonly #buttons: Partial<Record<Verb, HTMLButtonElement>>;
  #drawn = "";

  constructor(act: (verb: Verb) => void) {
    this.#buttons = {
      start: byId("start", "button"),
      stop: byId("stop", "button"),
      restart: byId("restart", "button"),
    };
    for (const verb of VERBS) this.#buttons[verb]?.addEventListener("click", () => act(verb));
  }

  /** Without a console nothing is known of the state, and nothing can be asked for. */
  updateGone(): void {
    setText(this.#state, "Not connected");
    this.#pill.dataset["state"] = "unknown";
    for (const button of Object.values(this.#buttons)) button.hidden = true;
  }

  update(status: Status | null): void {
    const asked = pending(status);
    const state = status?.state;
    const settled = asked === null || state === "starting" || state === "locked" || state === "stopping";
    setText(this.#state, settled ? stateTitle(state) : PENDING_TITLES[asked]);
    this.#pill.dataset["state"] = settled ? (state ?? "unknown") : "starting";
    const may = allowed(status);
    for (const verb of VERBS) {
      const button = this.#buttons[verb];
      if (button) button.hidden = !may[verb];
    }
  }

  /** Redraws the names; with a single one there is nothing to choose. */
  updateList(all: readonly Listed[], current: string | null): void {
    const key = JSON.stringify([all.map((each) => [each.name, each.state]), current]);
    if (key === this.#drawn) return;
    this.#drawn = key;
    const focused = this.#list.contains(document.activeElement);
    this.#list.replaceChildren(
      ...all.map((each) => {
        const light = make("i", { "data-state": each.state, "aria-hidden": "true" });
        const label = `${each.name}, ${stateTitle(each.state).toLowerCase()}`;
        const link = make("a", { href: `#/${each.name}`, "aria-label": label }, light, each.name);
        if (each.name === current) link.setAttribute("aria-current", "page");
        return link;
      }),
    );
    if (focused) this.#list.querySelector<HTMLElement>("[aria-current]")?.focus();
  }
}
