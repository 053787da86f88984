/** The boot chain: eight links that light up one by one. */
import { byId, make, setText } from "../dom.ts";
import { ways } from "../locked.ts";
import type { ChainLink, ChipFacts, Model, Status } from "../model.ts";
import { LINKS, pending, poweredOnAt } from "../model.ts";
import { brief, duration, LINK_MEANINGS, LINK_TITLES } from "../words.ts";

interface Row {
  readonly item: HTMLLIElement;
  readonly detail: HTMLElement;
  readonly seconds: HTMLElement;
}

const PHASE_WORDS = { dark: "not reached", awaited: "awaited", lit: "holds", past: "held", broken: "broken" };

export class ChainView {
  readonly #rows: readonly Row[];
  readonly #clock = byId("clock", "span");
  readonly #now = byId("now", "p");

  constructor() {
    this.#rows = LINKS.map((name) => {
      const detail = make("span", { class: "detail" });
      const seconds = make("span", { class: "seconds" });
      const title = make("span", { class: "name" }, LINK_TITLES[name]);
      const node = make("i", { "aria-hidden": "true" });
      const item = make("li", { "data-link": name }, node, title, seconds, detail);
      return { item, detail, seconds };
    });
    byId("links", "ol").append(...this.#rows.map((row) => row.item));
  }

  /** `now` in Unix seconds. */
  update(model: Model, links: readonly ChainLink[], now: number): void {
    links.forEach((link, index) => {
      const row = this.#rows[index];
      if (!row) return;
      row.item.dataset["phase"] = link.phase;
      row.item.title = link.detail || LINK_MEANINGS[link.name];
      row.item.setAttribute("aria-label", `${LINK_TITLES[link.name]}: ${PHASE_WORDS[link.phase]}`);
      const told = link.phase === "dark" || link.phase === "awaited";
      setText(row.detail, told ? LINK_MEANINGS[link.name] : brief(link.detail) || LINK_MEANINGS[link.name]);
      setText(row.seconds, link.seconds === null ? "" : duration(link.seconds));
    });
    setText(this.#clock, clock(model, links, now));
    setText(this.#now, summary(model, links));
  }
}

function clock(model: Model, links: readonly ChainLink[], now: number): string {
  const status = model.status;
  if (status?.state === "starting") return duration(now - poweredOnAt(status));
  const login = links.find((link) => link.name === "login");
  return login?.phase === "lit" && login.seconds !== null ? `in ${duration(login.seconds)}` : "";
}

function waited(status: Status, facts: ChipFacts | null): string {
  const [need] = status.needs;
  if (!need) return "";
  const open = ways(need, status.attempts, facts).length > 0;
  return open ? `Waiting for: the ${need}` : "Nothing opens this disk any more.";
}

/** One line that says where the chain stands; also what a screen reader hears. */
function summary(model: Model, links: readonly ChainLink[]): string {
  const awaited = links.find((link) => link.phase === "awaited");
  const broken = links.find((link) => link.phase === "broken");
  if (model.progress) return model.progress.label;
  switch (model.status?.state) {
    case "starting":
      return awaited ? `Waiting for: ${LINK_TITLES[awaited.name]}` : "Nearly there";
    case "locked":
      return waited(model.status, model.chip);
    case "running":
      return "Every link holds; you can log in.";
    case "stopping":
      return "The guest is shutting down.";
    case "failed":
      return broken ? `Broken at: ${LINK_TITLES[broken.name]}` : "The machine stopped.";
    case "off":
      return pending(model.status) ? "Powering on" : "Each link is checked anew at power-on.";
    default:
      return "";
  }
}
