/** What is on the glass while there is no picture: off, starting, failed. */
import { byId, make } from "../dom.ts";
import type { ChainLink, Model, Status } from "../model.ts";
import { pending } from "../model.ts";
import type { Failure } from "../words.ts";
import { failure, LINK_TITLES } from "../words.ts";

const SVG = "http://www.w3.org/2000/svg";

export class CoverView {
  readonly #cover = byId("cover", "div");
  readonly #powerOn: () => void;
  #drawn = "";

  constructor(powerOn: () => void) {
    this.#powerOn = powerOn;
  }

  update(model: Model, links: readonly ChainLink[], picture: boolean): void {
    const failed = failure(model.status, links);
    const key = JSON.stringify([model.status?.state, pending(model.status), failed, picture]);
    if (key !== this.#drawn) {
      this.#drawn = key;
      this.#cover.replaceChildren(...this.#draw(model, failed, picture));
      this.#cover.hidden = this.#cover.childElementCount === 0;
    }
    this.#advance(model, links);
  }

  #draw(model: Model, failed: Failure | null, picture: boolean): Node[] {
    const state = model.status?.state;
    const asked = pending(model.status);
    if (state === undefined) return [];
    if (state === "off" || state === "failed") {
      if (asked === "start" || asked === "restart") return [booting("Powering on")];
      return failed ? [this.#failed(failed)] : [this.#off()];
    }
    if (picture) return [];
    return [booting(state === "stopping" ? "Shutting down" : "")];
  }

  #off(): Node {
    return make("div", { class: "off" }, this.#powerButton(), make("p", {}, "Off"));
  }

  #failed(failed: Failure): Node {
    const list = make("dl");
    for (const [label, text] of failed.found) {
      list.append(make("dt", {}, label), make("dd", {}, text));
    }
    list.append(make("dt", {}, "Next"), make("dd", { class: "next" }, failed.next));
    const words = make("div", { class: "words" }, make("h2", {}, failed.title));
    words.append(make("p", {}, failed.means), list);
    return make("div", { class: "failed", role: "alert" }, words, this.#powerButton());
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
    button.addEventListener("click", this.#powerOn);
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
  return status?.state === "running" ? "Connecting to the screen" : "";
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
