/** One banner for what concerns the whole page: no console, no session, no workstation. */
import { byId, make } from "../dom.ts";
import type { Health } from "../lifeline.ts";

const WORDS: Partial<Record<Health | "none", readonly [title: string, text: string, command: string]>> = {
  retrying: ["Connection lost", "Trying again.", ""],
  gone: [
    "The console is gone",
    "The workstations go on without it. Open it again with",
    "spacegray open",
  ],
  locked: ["This session is over", "Open the console with a new one-time address:", "spacegray open"],
  missing: ["There is no such workstation (any more)", "List those that exist with", "spacegray list"],
  none: ["There is no workstation yet", "Make one and power it on with", "spacegray up"],
};

export class BannerView {
  readonly #banner = byId("banner", "div");
  #drawn: string | null = null;

  update(health: Health | "none"): void {
    if (health === this.#drawn) return;
    this.#drawn = health;
    const words = WORDS[health];
    this.#banner.hidden = words === undefined;
    this.#banner.dataset["health"] = health;
    if (!words) return;
    const [title, text, command] = words;
    this.#banner.replaceChildren(make("strong", {}, title), make("span", {}, text));
    if (command) this.#banner.append(make("code", {}, command));
  }
}
