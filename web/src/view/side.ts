/** A panel over the right edge and the button that opens it. At most one of them is open. */
import { byId, make } from "../dom.ts";

const all: Side[] = [];

export class Side {
  readonly content = make("div", { class: "content" });
  readonly #panel: HTMLElement;
  readonly #button: HTMLButtonElement;
  readonly #load: () => Promise<void>;

  /** `load` fills the content whenever it is to be seen, or has become old. */
  constructor(panel: string, button: string, title: string, load: () => Promise<void>) {
    this.#panel = byId(panel, "aside");
    this.#button = byId(button, "button");
    this.#load = load;
    const close = make("button", { type: "button", class: "close", "aria-label": "Close" }, "×");
    this.#panel.append(make("header", {}, make("h2", {}, title), close), this.content);
    close.addEventListener("click", () => this.#close());
    this.#button.addEventListener("click", () => (this.open ? this.#close() : this.#show()));
    this.#panel.addEventListener("keydown", (event) => {
      if (event.key === "Escape") this.#close();
    });
    all.push(this);
  }

  get open(): boolean {
    return !this.#panel.hidden;
  }

  refresh(): void {
    if (this.open) void this.#load();
  }

  #show(): void {
    for (const other of all) if (other !== this) other.#turn(false);
    this.#turn(true);
    void this.#load();
    this.#panel.querySelector("button")?.focus();
  }

  #close(): void {
    this.#turn(false);
    this.#button.focus();
  }

  #turn(yes: boolean): void {
    this.#panel.hidden = !yes;
    this.#button.setAttribute("aria-expanded", `${yes}`);
  }
}
