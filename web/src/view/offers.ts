/** The options as groups of radio buttons. They are made once, so that the focus stays where it is. */
import { make, setText } from "../dom.ts";
import { surcharge } from "../marks.ts";
import type { Picks } from "../ordering.ts";
import { chosen, groups, OPTION_TITLES, sold } from "../ordering.ts";
import type { Offer } from "../product.ts";
import { badge } from "./mark.ts";

interface Row {
  readonly label: HTMLLabelElement;
  readonly input: HTMLInputElement;
  readonly price: HTMLElement;
  readonly when: HTMLElement;
}

export class OffersView {
  readonly #form: HTMLElement;
  readonly #pick: (option: string, value: string) => void;
  readonly #rows = new Map<string, Row>();

  constructor(form: HTMLElement, pick: (option: string, value: string) => void) {
    this.#form = form;
    this.#pick = pick;
    form.addEventListener("submit", (event) => event.preventDefault());
  }

  update(offers: readonly Offer[], picks: Picks): void {
    if (offers.some((offer) => !this.#rows.has(key(offer)))) this.#make(offers);
    for (const offer of offers) {
      const row = this.#rows.get(key(offer));
      if (!row) continue;
      row.input.disabled = !offer.available;
      row.input.checked = chosen(offer, picks);
      row.label.dataset["sold"] = `${offer.why_not === ""}`;
      setText(row.when, offer.why_not === "" ? "" : sold(offer.sold));
      row.price.replaceChildren(...price(offer));
    }
  }

  #make(offers: readonly Offer[]): void {
    this.#rows.clear();
    this.#form.replaceChildren(
      ...groups(offers).map(([option, all]) => {
        const legend = make("legend", {}, OPTION_TITLES[option] ?? option);
        return make("fieldset", {}, legend, make("div", { class: "cards" }, ...all.map((offer) => this.#row(offer))));
      }),
    );
  }

  #row(offer: Offer): HTMLElement {
    const value = `${offer.value}`;
    const input = make("input", { type: "radio", name: offer.option, value });
    const [pricing, when] = [make("span", { class: "price" }), make("span", { class: "when" })];
    const label = make("label", {}, input, make("span", { class: "what" }, offer.label), pricing, when);
    input.addEventListener("change", () => this.#pick(offer.option, value));
    this.#rows.set(key(offer), { label, input, price: pricing, when });
    return label;
  }
}

function price(offer: Offer): (Node | string)[] {
  if (offer.price_usd === null) return [offer.base ? "Included" : ""];
  const { value, mark } = offer.price_usd;
  return [value === 0 ? "Included" : surcharge(Number(value)), ...badge(mark)];
}

function key(offer: Offer): string {
  return `${offer.option}=${offer.value}`;
}
