/**
 * The form on the glass of a locked machine: what its chip waits for, how many tries are left, how
 * long to wait, and what came of the last one. What is typed leaves the field when it is sent.
 */
import { Locked, Refused, unlock } from "../api.ts";
import { make, rich, setText } from "../dom.ts";
import type { Prompt, Way } from "../locked.ts";
import { asked, characters, fault, leads, prompt, RECOVERY_KEY_CHARACTERS, refused, told, untilWhen } from "../locked.ts";
import type { Answer, ChipFacts, Model } from "../model.ts";
import { countdown } from "../words.ts";

const SVG = "http://www.w3.org/2000/svg";
const NOBODY_ANSWERED = "The console did not answer; whether the chip looked at it is not known.";

export interface UnlockListener {
  /** What the chip said to what was typed. */
  answered(name: string, answer: Answer): void;
  /** Something about the form is to be drawn anew. */
  changed(): void;
}

export class UnlockView {
  readonly form: HTMLFormElement;
  readonly #listener: UnlockListener;
  readonly #title = make("h2", { id: "unlock-title" });
  readonly #why = make("p", { class: "why", id: "unlock-why" });
  readonly #label = make("label", { for: "secret" });
  readonly #count = make("span", { class: "count", id: "unlock-count" });
  readonly #owner = make("input", { type: "text", autocomplete: "username", readonly: true, hidden: true });
  readonly #field = make("input", {
    id: "secret", type: "password", spellcheck: "false", autocapitalize: "off",
    "aria-describedby": "unlock-why unlock-tries unlock-count",
  });
  readonly #reveal = make("button", { type: "button", "aria-pressed": "false", "aria-controls": "secret" }, "Show");
  readonly #submit = make("button", { type: "submit", class: "primary" }, "Unlock");
  readonly #entry = make("fieldset");
  readonly #result = make("p", { class: "result", role: "alert" });
  readonly #wait = make("p", { class: "wait", role: "timer" });
  readonly #tries = make("p", { class: "tries", id: "unlock-tries" });
  readonly #others = make("p", { class: "others" });
  readonly #until = make("p", { class: "until" });

  #name = "";
  /** What the form was drawn for: another start, or another thing that is needed, begins anew. */
  #drawn = "";
  #chosen: Way | null = null;
  #prompt: Prompt | null = null;
  #noRecoveryKey = false;
  #trying = false;
  #waited = false;

  constructor(listener: UnlockListener) {
    this.#listener = listener;
    this.#entry.append(
      make("div", { class: "label" }, this.#label, this.#count),
      make("div", { class: "entry" }, this.#field, this.#reveal, this.#submit),
    );
    // The method only matters if the page's code is not there to catch it: never an address.
    this.form = make(
      "form", { class: "unlock", method: "post", "aria-labelledby": "unlock-title", novalidate: true },
      padlock(), this.#title, this.#why, this.#owner, this.#entry, this.#result, this.#wait,
      make("div", { class: "small" }, this.#tries, this.#until), this.#others,
    );
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      void this.#try();
    });
    this.#field.addEventListener("input", () => this.#counted());
    this.#reveal.addEventListener("click", () => {
      this.#show(this.#field.type === "password");
      this.#field.focus();
    });
  }

  /** Says whether the form is what is to be seen: something is asked for, and a way is open. */
  update(name: string | null, model: Model, now: number): boolean {
    const { status } = model;
    if (name === null || status?.state !== "locked") {
      this.#forget("");
      return false;
    }
    const drawn = `${name} ${status.boot} ${status.needs[0] ?? ""}`;
    if (drawn !== this.#drawn) {
      this.#forget(drawn);
    }
    this.#name = name;
    const before = this.#prompt?.way;
    this.#prompt = prompt(status, this.#facts(model.chip), this.#chosen, now);
    if (!this.#prompt) return false;
    if (this.#prompt.way !== before) this.#turn(this.#prompt);
    this.#fill(this.#prompt);
    const { waitSeconds } = this.#prompt;
    const clock = (at: number): string =>
      new Date(at * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
    setText(this.#until, untilWhen(status, waitSeconds, now, clock));
    return true;
  }

  /** It has come onto the glass: whoever sits there most likely wants to type. */
  shown(): void {
    if (document.activeElement === document.body) this.#field.focus();
  }

  #facts(chip: ChipFacts | null): ChipFacts | null {
    return this.#noRecoveryKey ? { life: chip?.life ?? null, recovery_key: false } : chip;
  }

  #forget(drawn: string): void {
    if (this.#drawn === drawn) return;
    this.#drawn = drawn;
    this.#chosen = this.#prompt = null;
    this.#noRecoveryKey = this.#waited = false;
    this.#clear();
    this.#say("");
  }

  /** Another way: another field, to the eye and to whoever keeps passwords for the owner. */
  #turn(now: Prompt): void {
    const key = now.way === "recovery_key";
    this.#field.autocomplete = key ? "off" : "current-password";
    this.#field.classList.toggle("key", key);
    this.#owner.value = this.#name;
    this.#waited = false;
    this.#clear();
    this.#others.replaceChildren();
  }

  #fill(now: Prompt): void {
    setText(this.#title, `${this.#name} is locked`);
    setText(this.#label, now.label);
    setText(this.#why, now.why);
    setText(this.#tries, [now.tries, now.after].filter((part) => part).join(" "));
    const waits = now.waitSeconds > 0;
    if (this.#waited && !waits && !this.#trying) this.#say("The next one is looked at now.", true);
    this.#waited = waits;
    // Not disabled, which would take the focus away from where it is wanted again in a moment.
    this.#field.readOnly = waits;
    this.#submit.disabled = waits;
    this.#entry.disabled = this.#trying;
    setText(this.#submit, this.#trying ? "Checking" : "Unlock");
    setText(this.#wait, waits ? `Next try in ${countdown(now.waitSeconds)}` : "");
    if (this.#others.childElementCount !== now.others.length) {
      this.#others.replaceChildren(...now.others.map((way) => this.#lead(way)));
    }
  }

  #lead(way: Way): HTMLButtonElement {
    const button = make("button", { type: "button", class: "link" }, leads(way));
    button.addEventListener("click", () => {
      this.#chosen = way;
      this.#say("");
      this.#listener.changed();
      this.#field.focus();
    });
    return button;
  }

  async #try(): Promise<void> {
    const now = this.#prompt;
    if (!now || this.#trying || now.waitSeconds > 0) return;
    const [name, way] = [this.#name, now.way];
    const wrong = fault(way, this.#field.value);
    if (wrong) {
      this.#say(wrong);
      this.#field.focus();
      return;
    }
    const secret = new TextEncoder().encode(this.#field.value);
    this.#clear();
    this.#trying = true;
    this.#say("");
    this.#fill(now);
    const [words, answer] = await this.#ask(name, way, secret);
    this.#trying = false;
    if (name !== this.#name) return;
    if (answer?.code === "absent") this.#noRecoveryKey = true;
    if (answer) this.#listener.answered(name, answer);
    this.#listener.changed();
    // After that, which wipes away what was said of what is needed no more.
    if (this.#prompt) this.#say(words, answer?.right);
    const at = document.activeElement;
    if (at === document.body || this.form.contains(at)) this.#field.focus();
  }

  async #ask(name: string, way: Way, secret: Uint8Array<ArrayBuffer>): Promise<[string, Answer | null]> {
    try {
      const answer = await unlock(name, asked(way), secret);
      return [told(way, answer), answer];
    } catch (error) {
      if (error instanceof Refused) return [refused(error.refusal), null];
      // That the session is over is told for the whole page.
      return [error instanceof Locked ? "" : NOBODY_ANSWERED, null];
    }
  }

  #say(text: string, good = false): void {
    this.#result.classList.toggle("good", good);
    this.#result.replaceChildren(...rich(text, this.#name));
  }

  #clear(): void {
    this.#field.value = "";
    this.#show(false);
    this.#counted();
  }

  #show(yes: boolean): void {
    this.#field.type = yes ? "text" : "password";
    this.#reveal.setAttribute("aria-pressed", `${yes}`);
  }

  #counted(): void {
    const key = this.#prompt?.way === "recovery_key";
    setText(this.#count, key ? `${characters(this.#field.value)} of ${RECOVERY_KEY_CHARACTERS}` : "");
  }
}

function padlock(): SVGElement {
  const icon = document.createElementNS(SVG, "svg");
  icon.setAttribute("viewBox", "0 0 24 24");
  icon.setAttribute("aria-hidden", "true");
  const shape = document.createElementNS(SVG, "path");
  shape.setAttribute("d", "M6 11h12a1.5 1.5 0 0 1 1.5 1.5v6A1.5 1.5 0 0 1 18 20H6a1.5 1.5 0 0 1-1.5-1.5v-6A1.5 1.5 0 0 1 6 11zM8 11V7.5a4 4 0 0 1 8 0V11");
  icon.append(shape);
  return icon;
}
