/** The boot chain: its links, each start's own, that light up one by one. */
import { byId, make, setText } from "../dom.ts";
import { ways } from "../locked.ts";
import type { ChainLink, ChipFacts, LinkName, Model, Status } from "../model.ts";
import { pending, poweredOnAt, target } from "../model.ts";
import { brief, duration, LINK_MEANINGS, LINK_TITLES, TARGET_TITLES } from "../words.ts";

interface Row {
  readonly item: HTMLLIElement;
  readonly detail: HTMLElement;
  readonly seconds: HTMLElement;
}

const PHASE_WORDS = { dark: "not reached", awaited: "awaited", lit: "holds", past: "held", broken: "broken" };

export class ChainView {
  #rows: readonly Row[] = [];
  #drawn = "";
  readonly #clock = byId("clock", "span");
  readonly #now = byId("now", "p");
  readonly #target = byId("target", "span");

  /** `now` in Unix seconds. */
  update(model: Model, links: readonly ChainLink[], now: number): void {
    this.#draw(links);
    setText(this.#target, TARGET_TITLES[target(model.status)]);
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

  /** Another chain, where another start has other links. */
  #draw(links: readonly ChainLink[]): void {
    const drawn = links.map((link) => link.name).join(" ");
    if (drawn === this.#drawn) return;
    this.#drawn = drawn;
    this.#rows = links.map((link) => row(link.name));
    byId("links", "ol").replaceChildren(...this.#rows.map((each) => each.item));
  }
}

function row(name: LinkName): Row {
  const detail = make("span", { class: "detail" });
  const seconds = make("span", { class: "seconds" });
  const title = make("span", { class: "name" }, LINK_TITLES[name]);
  const node = make("i", { "aria-hidden": "true" });
  const item = make("li", { "data-link": name }, node, title, seconds, detail);
  return { item, detail, seconds };
}

function clock(model: Model, links: readonly ChainLink[], now: number): string {
  const status = model.status;
  if (status?.state === "starting") return duration(now - poweredOnAt(status));
  const last = links.at(-1);
  return last?.phase === "lit" && last.seconds !== null ? `in ${duration(last.seconds)}` : "";
}

function waited(status: Status, facts: ChipFacts | null): string {
  const [need] = status.needs;
  if (!need) return "";
  if (ways(need, status.attempts, facts).length > 0) return `Waiting for: the ${need.replace("_", " ")}`;
  return need === "firmware_password" ? "Only its own system starts now." : "Nothing opens this disk any more.";
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
      return model.status.target === "main" ? "Every link holds; you can log in." : "Every link holds; the rest is up to what was started.";
    case "recovery":
      return "Every link holds; recovery is on the screen.";
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
