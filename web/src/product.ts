/** What the console knows of the product: orders, the timeline, plans of repairs, service records. */
import { get, path } from "./api.ts";
import type { Mark } from "./marks.ts";

export interface Figure {
  readonly value: boolean | number | string;
  readonly unit: string;
  readonly mark: Mark;
  readonly source: string;
  readonly note: string;
}

/** Both days are included; without `until` it has not ended. */
export interface Period {
  readonly since: string;
  readonly until: string | null;
  readonly mark: Mark;
}

/** One value of one option, as it was offered on the day that was asked about. */
export interface Offer {
  readonly option: string;
  readonly value: string | number;
  readonly label: string;
  readonly price_usd: Figure | null;
  readonly base: boolean;
  readonly sold: readonly Period[];
  readonly available: boolean;
  readonly why_not: string;
}

export interface Line {
  readonly what: string;
  readonly choice: string;
  readonly price_usd: Figure | null;
}

export interface Quote {
  readonly day: string;
  readonly lines: readonly Line[];
  readonly total_usd: number;
  readonly unconfirmed_usd: number;
  /** Of the total, from 0 to 1. */
  readonly unconfirmed_share: number;
  readonly notes: readonly string[];
}

export interface Source {
  readonly title: string;
  readonly url: string;
  readonly note: string;
}

export interface Event {
  readonly day: string;
  /** Empty where it took no longer than a day. */
  readonly until: string;
  readonly title: string;
  readonly text: string;
  readonly products: readonly string[];
  readonly mark: Mark;
  readonly source_title: string;
  readonly source_url: string;
  readonly note: string;
}

export interface Timeline {
  /** In the order of their days. */
  readonly events: readonly Event[];
  /** When each product was sold; `doubt` says which of its days are not confirmed. */
  readonly lanes: readonly {
    readonly id: string;
    readonly name: string;
    readonly since: string;
    readonly until: string | null;
    readonly doubt: string;
  }[];
}

export type Kind = "part" | "cable" | "fastener" | "adhesive" | "seal";

export interface Part {
  readonly id: string;
  readonly name: string;
  readonly kind: Kind;
  readonly aliases: readonly string[];
}

/** One statement in words; `source` is the id of one of the plan's sources, or empty. */
export interface Fact {
  readonly text: string;
  readonly mark: Mark;
  readonly source: string;
  readonly note: string;
}

/**
 * The mark is that of the least sure of the statements in `basis`, on which the step rests. `checks`
 * are made before it.
 */
export interface Step {
  readonly number: number;
  readonly action: string;
  readonly part: string;
  readonly checks: readonly Fact[];
  readonly tools: readonly string[];
  readonly consumables: readonly string[];
  readonly risk: string;
  readonly mark: Mark;
  readonly basis: readonly Fact[];
}

export interface Plan {
  readonly part: string;
  readonly title: string;
  readonly who: "owner" | "authorised provider";
  readonly who_why: Fact;
  readonly before: readonly Fact[];
  readonly steps: readonly Step[];
  readonly reassembly: readonly Step[];
  readonly tools: readonly string[];
  readonly consumables: readonly string[];
  readonly risks: readonly Fact[];
  readonly afterwards: readonly Fact[];
  readonly notes: readonly Fact[];
  readonly sources: readonly Source[];
}

/** One thing that was done to a workstation, and was signed by its chip. */
export interface Entry {
  readonly number: number;
  readonly ecid: string;
  /** Unix seconds, by the host's clock. */
  readonly time: number;
  readonly job: string;
  /** What was done, as a sentence. */
  readonly said: string;
  readonly by: string;
  readonly provider: string;
  readonly fingerprint: string;
  readonly order: string;
  readonly verified: boolean;
}

export interface History {
  readonly ecid: string;
  readonly verified: boolean;
  /** What is not as the record says, a sentence each. */
  readonly wrong: readonly string[];
  readonly notes: readonly string[];
  readonly entries: readonly Entry[];
  readonly providers: readonly { readonly name: string; readonly fingerprint: string }[];
}

/** Each throws Locked, Refused, TypeError. */
export function offers(query: string): Promise<{ offers: readonly Offer[] }> {
  return get(`/api/catalog/offers?${query}`);
}

export function quote(query: string): Promise<Quote> {
  return get(`/api/catalog/quote?${query}`);
}

/** The address of the order as a spec. */
export function specUrl(query: string): string {
  return `/api/catalog/spec.toml?${query}`;
}

export function timeline(): Promise<Timeline> {
  return get("/api/catalog/timeline");
}

export function parts(): Promise<{ parts: readonly Part[] }> {
  return get("/api/service/parts");
}

export function plan(part: string): Promise<Plan> {
  return get(`/api/service/plans/${encodeURIComponent(part)}`);
}

export function history(name: string): Promise<History> {
  return get(`${path(name)}/service`);
}
