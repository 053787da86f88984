/**
 * Where things stand in the drawing of the timeline. No DOM in here.
 *
 * Time runs to the right. A year is as wide as what happened in it asks for; within it time is
 * linear, and each year's beginning is drawn. Below the labels lies a band with a lane for each
 * product. A label begins at its event's line and lies higher than the labels of the later events
 * that it reaches over, so that no line crosses a label.
 */
import { days } from "./marks.ts";
import type { Event } from "./product.ts";

const DAY_MS = 86_400_000;
/** What a letter takes on average, in pixels; texts are not measured. */
const LETTER = 7;
const GAP = 16;
/** How much wider a year is for each event in it, beside the width of a year with none. */
const EVENT_WEIGHT = 1;

export interface Placed {
  readonly event: Event;
  /** From 1, as in the list below the drawing. */
  readonly number: number;
  readonly x: number;
  /** Where it ends, for what took more than a day; else `x`. */
  readonly end: number;
  /** What is written beside its line. */
  readonly label: string;
  /** How high its label is, from 0. */
  readonly level: number;
}

export interface Layout {
  readonly placed: readonly Placed[];
  /** Where each year begins, and last where the last one ends. */
  readonly years: readonly { readonly year: number; readonly x: number }[];
  /** Where a day is, in pixels; one before or after all years is at that end. */
  readonly at: (iso: string) => number;
}

/** Days since 1970. */
function dayNumber(iso: string): number {
  return Date.parse(`${iso}T00:00:00Z`) / DAY_MS;
}

/** The events as they are given, in the order of their days; years lie from `left` to `right`. */
export function layout(events: readonly Event[], left: number, right: number): Layout {
  const years = axis(events, left, right);
  const at = (iso: string): number => position(iso, years);
  const placed = events.map((event, index): Placed => {
    const [x, end] = [at(event.day), at(event.until || event.day)];
    const label = `${days(event.day, event.until)} ${event.title}`;
    return { event, number: index + 1, x, end, label, level: 0 };
  });
  return { placed: levels(placed), years, at };
}

function axis(events: readonly Event[], left: number, right: number): Layout["years"] {
  const known = events.map((each) => year(each.day));
  const [first, last] = [Math.min(...known), Math.max(...events.map((each) => year(each.until || each.day)))];
  const all = Array.from({ length: last - first + 1 }, (_, index) => first + index);
  const weights = all.map((each) => 1 + EVENT_WEIGHT * known.filter((other) => other === each).length);
  const unit = (right - left) / weights.reduce((sum, weight) => sum + weight, 0);
  let x = left;
  const begins = all.map((each, index) => {
    const begin = { year: each, x };
    x += (weights[index] ?? 1) * unit;
    return begin;
  });
  return [...begins, { year: last + 1, x: right }];
}

function position(iso: string, years: Layout["years"]): number {
  const index = years.findIndex((each) => each.year === year(iso));
  const [begin, end] = [years[index], years[index + 1]];
  if (!begin) return (year(iso) < (years[0]?.year ?? 0) ? years[0] : years.at(-1))?.x ?? 0;
  if (!end) return begin.x;
  const [first, next] = [dayNumber(`${begin.year}-01-01`), dayNumber(`${end.year}-01-01`)];
  return begin.x + ((dayNumber(iso) - first) / (next - first)) * (end.x - begin.x);
}

/** From the last to the first. */
function levels(placed: readonly Placed[]): Placed[] {
  const done: Placed[] = [];
  for (const each of [...placed].reverse()) {
    const reach = each.x + each.label.length * LETTER + GAP;
    const under = done.filter((other) => other.x < reach).map((other) => other.level + 1);
    done.unshift({ ...each, level: Math.max(0, ...under) });
  }
  return done;
}

/** How many numbers before this one stand so near that it goes above them, all of one width. */
export function stack(placed: readonly Placed[], index: number, width: number): number {
  let level = 0;
  while (level < index && (placed[index]?.x ?? 0) - (placed[index - level - 1]?.x ?? 0) < width) level += 1;
  return level;
}

function year(iso: string): number {
  return Number(iso.slice(0, 4));
}
