/** An order as it is put together: what was chosen, what that asks of the console. No DOM in here. */
import type { Offer, Period } from "./product.ts";
import { days } from "./marks.ts";

/** The days on which the offer changed; the catalogue has what was sold on each. */
export const KEY_DAYS: readonly (readonly [iso: string, what: string])[] = [
  ["2017-12-14", "on sale"],
  ["2019-03-19", "256 GB, Vega 64X"],
  ["2020-08-04", "10-core base"],
  ["2021-03-05", "while supplies last"],
];

export const OPTION_TITLES: Readonly<Record<string, string>> = {
  cores: "Processor",
  memory_gb: "Memory",
  graphics: "Graphics",
  ssd_tb: "Storage",
  pointing: "Pointing device",
  mount: "Mount",
};

/** What was chosen, by option; what is not in it is the base of the day. */
export type Picks = Readonly<Record<string, string>>;

export interface Wish {
  readonly date: string;
  readonly anyDate: boolean;
  readonly picks: Picks;
}

/** The query about the offers of the day. */
export function dayQuery(wish: Wish): string {
  return new URLSearchParams({ date: wish.date, any_date: wish.anyDate ? "1" : "0" }).toString();
}

/** The query about the whole order. */
export function orderQuery(wish: Wish): string {
  return `${dayQuery(wish)}&${new URLSearchParams(wish.picks)}`.replace(/&$/, "");
}

/** The offers by option, in the order in which they came. */
export function groups(offers: readonly Offer[]): [option: string, offers: Offer[]][] {
  const all = new Map<string, Offer[]>();
  for (const offer of offers) all.set(offer.option, [...(all.get(offer.option) ?? []), offer]);
  return [...all];
}

/** Whether this is what the order has: it was chosen, or it is the base and nothing else was. */
export function chosen(offer: Offer, picks: Picks): boolean {
  const pick = picks[offer.option];
  return pick === undefined ? offer.base : pick === `${offer.value}`;
}

/** The picks without those that are not sold that day. */
export function sellable(offers: readonly Offer[], picks: Picks): Picks {
  const unsold = offers.filter((each) => !each.available).map((each) => `${each.option}=${each.value}`);
  return Object.fromEntries(Object.entries(picks).filter(([option, value]) => !unsold.includes(`${option}=${value}`)));
}

/** When something was sold, in words, with the mark of what is not confirmed. */
export function sold(periods: readonly Period[]): string {
  const told = periods.map(({ since, until, mark }) => {
    const between = until === null ? `from ${days(since, null)}` : days(since, until);
    return mark === "confirmed" ? between : `${between} (${mark})`;
  });
  return told.length > 0 ? `Sold ${told.join(", and ")}` : "Never sold";
}

const NAME = /^[a-z][a-z0-9-]{0,31}$/;

export function isName(name: string): boolean {
  return NAME.test(name);
}

/** The file that the browser saves, and the command that makes a workstation of it. */
export function specFile(name: string): string {
  return `${name}.toml`;
}

export function command(name: string): string {
  return `spacegray up ${name} --spec ${specFile(name)}`;
}
