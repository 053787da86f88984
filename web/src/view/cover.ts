/** What is on the glass while there is no picture: off, starting, locked, failed. */
import { byId, make, rich } from "../dom.ts";
import type { ChainLink, Model, Status } from "../model.ts";
import { pending } from "../model.ts";
import type { Verb } from "../model.ts";
import type { Failure } from "../words.ts";
import { ended, failure, LINK_TITLES, lockedOut, recoverable, shutOut } from "../words.ts";
import type { UnlockView } from "./unlock.ts";

const SVG = "http://www.w3.org/2000/svg";

export class CoverView {
  readonly #cover = byId("cover", "div");
  readonly #unlock: UnlockView;
  readonly #act: (verb: Verb) => void;
  #drawn = "";

  constructor(unlock: UnlockView, act: (verb: Verb) => void) {
    this.#unlock = unlock;
    this.#act = act;
  }

  /** `now` in Unix seconds. */
  update(
    name: string | null,
    model: Model,
    links: readonly ChainLink[],
    picture: boolean,
    now: number,
  ): void {
    const waits = this.#unlock.update(name, model, now);
    const over = name === null ? null : ended(model.status, model.chip?.life ?? null, name);
    const failed = over ?? failure(model.status, links);
    const helps = over === null && recoverable(model.status, links);
    const key = JSON.stringify([
      name, model.status?.state, pending(model.status), failed, over !== null, helps, picture, waits,
      model.status?.needs[0],
    ]);
    if (key !== this.#drawn) {
      this.#drawn = key;
      const again = [...(over ? [] : ["start"] as const), ...(helps ? ["recovery"] as const : [])];
      this.#cover.replaceChildren(...this.#draw(name, model, failed, again, picture, waits));
      this.#cover.hidden = this.#cover.childElementCount === 0;
      if (waits) this.#unlock.shown();
    }
    this.#advance(model, links);
  }

  #draw(
    name: string | null,
    model: Model,
    failed: Failure | null,
    again: readonly Verb[],
    picture: boolean,
    waits: boolean,
  ): Node[] {
    const state = model.status?.state;
    const asked = pending(model.status);
    if (state === undefined || name === null) return [];
    if (state === "off" || state === "failed") {
      if (asked === "start" || asked === "restart") return [booting("Powering on")];
      if (asked === "recovery") return [booting("Starting recovery")];
      return failed ? [this.#failed(failed, name, again)] : [this.#off()];
    }
    if (state === "locked") {
      if (waits) return [this.#unlock.form];
      const none = model.status?.needs[0] === "firmware_password" ? shutOut(name) : lockedOut(name);
      return [this.#failed(none, name, [])];
    }
    if (picture) return [];
    return [booting(state === "stopping" ? "Shutting down" : "")];
  }

  #off(): Node {
    return make("div", { class: "off" }, this.#powerButton(), make("p", {}, "Off"));
  }

  #failed(failed: Failure, name: string, again: readonly Verb[]): Node {
    const list = make("dl");
    for (const [label, text] of failed.found) {
      list.append(make("dt", {}, label), make("dd", {}, ...rich(text, name)));
    }
    list.append(make("dt", {}, "Next"), make("dd", { class: "next" }, ...rich(failed.next, name)));
    const words = make("div", { class: "words" }, make("h2", {}, failed.title));
    words.append(make("p", {}, ...rich(failed.means, name)), list);
    if (again.includes("recovery")) {
      const button = make("button", { type: "button", class: "recover" }, "Start recovery");
      button.addEventListener("click", () => this.#act("recovery"));
      words.append(button);
    }
    const all = make("div", { class: "failed", role: "alert" }, words);
    if (again.includes("start")) all.append(this.#powerButton());
    return all;
  }

  #powerButton(): HTMLButtonElement {
    const button = make("button", { type: "button", class: "power-on", "aria-label": "Power on" });
    const icon = document.createElementNS(SVG, "svg");
    icon.setAttribute("viewBox", "0 0 24 24");
    icon.setAttribute("aria-hidden", "true");
    const line = document.createElementNS(SVG, "path");
    line.setAttribute("d", "M12 3v9M6.3 7a8 8 0 1 0 11.4 0");
    icon.append(line);
    button.append(icon);
    button.title = "Power on";
    button.addEventListener("click", () => this.#act("start"));
    return button;
  }

  /** The progress below the mark, where that is what is drawn. */
  #advance(model: Model, links: readonly ChainLink[]): void {
    const bar = this.#cover.querySelector("progress");
    const label = this.#cover.querySelector<HTMLElement>(".booting p");
    if (!bar || !label) return;
    const { progress } = model;
    if (progress && progress.total > 0) {
      bar.max = progress.total;
      bar.value = progress.done;
      label.textContent = progress.label;
      return;
    }
    const lit = links.filter((link) => link.phase === "lit").length;
    bar.max = links.length;
    bar.value = lit;
    bar.hidden = model.status?.state === "stopping";
    label.textContent = label.dataset["fixed"] || awaited(links, model.status);
  }
}

function awaited(links: readonly ChainLink[], status: Status | null): string {
  const link = links.find((each) => each.phase === "awaited");
  if (link) return LINK_TITLES[link.name];
  return status?.state === "running" || status?.state === "recovery" ? "Connecting to the screen" : "";
}

function booting(text: string): Node {
  const mark = document.createElementNS(SVG, "svg");
  mark.setAttribute("viewBox", "0 0 24 24");
  mark.setAttribute("aria-hidden", "true");
  const shape = document.createElementNS(SVG, "path");
  shape.setAttribute("d", "M4 3h16a2 2 0 0 1 2 2v10a2 2 0 0 1-2 2H4a2 2 0 0 1-2-2V5a2 2 0 0 1 2-2zM2 13.5h20M9.5 21h5M12 17v4");
  mark.append(shape);
  const bar = make("progress", { "aria-label": "Boot chain", max: "8", value: "0" });
  return make("div", { class: "booting" }, mark, bar, make("p", { "data-fixed": text }, text));
}
