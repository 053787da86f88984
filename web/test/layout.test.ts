/** Guards: in the timeline's drawing time runs one way, and no line crosses a label. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Placed } from "../src/layout.ts";
import { layout, stack } from "../src/layout.ts";
import type { Event } from "../src/product.ts";

const LETTER = 7;

function event(day: string, title = "Something is announced", until = ""): Event {
  return { day, until, title, text: "", products: ["imac-pro"], mark: "confirmed", source_title: "", source_url: "", note: "" };
}

const DAYS = ["2013-06-10", "2017-04-03", "2017-04-04", "2017-06-05", "2017-12-12", "2017-12-14", "2019-03-19", "2019-03-19", "2021-03-05", "2022-12-31"];

test("days lie in their order and within their years, from one end to the other", () => {
  const { placed, years, at } = layout(DAYS.map((day) => event(day)), 100, 1100);
  assert.deepEqual(placed.map((each) => each.number), DAYS.map((_, index) => index + 1));
  for (const [index, each] of placed.entries()) {
    assert.ok(index === 0 || each.x >= (placed[index - 1]?.x ?? 0));
    const year = years.findIndex((other) => other.year === Number(each.event.day.slice(0, 4)));
    assert.ok((years[year]?.x ?? 0) <= each.x && each.x <= (years[year + 1]?.x ?? 0), each.event.day);
  }
  assert.deepEqual([years[0]?.x, years.at(-1)?.x].map((x) => Math.round(x ?? 0)), [100, 1100]);
  assert.deepEqual([at("1999-01-01"), at("2030-01-01")], [100, 1100], "what lies outside is at the ends");
});

test("a year in which more happened is wider", () => {
  const { years } = layout(DAYS.map((day) => event(day)), 0, 1000);
  const width = (year: number): number => {
    const index = years.findIndex((each) => each.year === year);
    return (years[index + 1]?.x ?? 0) - (years[index]?.x ?? 0);
  };
  assert.ok(width(2017) > width(2019) && width(2019) > width(2014));
  assert.ok(width(2014) > 0);
});

test("no later line crosses a label, and no two labels lie over each other", () => {
  const { placed } = layout(DAYS.map((day, index) => event(day, "x".repeat(5 + 9 * (index % 4)))), 0, 900);
  const end = (each: Placed): number => each.x + each.label.length * LETTER;
  for (const each of placed) {
    for (const later of placed.filter((other) => other.number > each.number && other.x < end(each))) {
      assert.ok(later.level < each.level, `${each.number} under ${later.number}`);
    }
  }
});

test("what took longer has an end, and numbers that are near each other are stacked", () => {
  const { placed } = layout([event("2018-01-02", "x", "2018-06-30"), event("2018-01-03"), event("2018-12-01")], 0, 900);
  assert.ok((placed[0]?.end ?? 0) > (placed[0]?.x ?? 0));
  assert.equal(placed[1]?.end, placed[1]?.x);
  assert.deepEqual(placed.map((_, index) => stack(placed, index, 20)), [0, 1, 0]);
});
