/** Guards: an order asks for what was chosen and no more, and what is not sold is let go of. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { day, days, dollars, percent, surcharge } from "../src/marks.ts";
import { mount } from "../src/mount.ts";
import { chosen, command, dayQuery, groups, isName, orderQuery, sellable, sold } from "../src/ordering.ts";
import type { Offer } from "../src/product.ts";

const WISH = { date: "2017-12-14", anyDate: false, picks: {} };

function offer(option: string, value: string | number, more: Partial<Offer> = {}): Offer {
  return { option, value, label: `${value}`, price_usd: null, base: false, sold: [], available: true, why_not: "", ...more };
}

test("the query names the day, and of the options only what was chosen", () => {
  assert.equal(dayQuery({ ...WISH, anyDate: true }), "date=2017-12-14&any_date=1");
  assert.equal(orderQuery(WISH), "date=2017-12-14&any_date=0");
  assert.equal(orderQuery({ ...WISH, picks: { cores: "18", mount: "vesa" } }), "date=2017-12-14&any_date=0&cores=18&mount=vesa");
  assert.equal(orderQuery({ ...WISH, date: "a&b" }), "date=a%26b&any_date=0", "what is typed stays one value");
});

test("options stand together in the order in which they came", () => {
  const all = [offer("cores", 8), offer("mount", "stand"), offer("cores", 10)];
  assert.deepEqual(groups(all).map(([option, each]) => [option, each.length]), [["cores", 2], ["mount", 1]]);
});

test("without a choice it is the base of the day, with one the base is left", () => {
  const [base, other] = [offer("cores", 8, { base: true }), offer("cores", 10)];
  assert.deepEqual([base, other].map((each) => chosen(each, {})), [true, false]);
  assert.deepEqual([base, other].map((each) => chosen(each, { cores: "10" })), [false, true]);
});

test("only what is not sold that day is let go of", () => {
  const all = [offer("cores", 8, { available: false }), offer("memory_gb", 64)];
  assert.deepEqual(sellable(all, { cores: "8", memory_gb: "64" }), { memory_gb: "64" });
  assert.deepEqual(sellable(all, { memory_gb: "64" }), { memory_gb: "64" });
});

test("when it was sold is said with both days", () => {
  assert.equal(sold([{ since: "2019-03-19", until: "2021-03-04", mark: "confirmed" }]), "Sold 19 Mar 2019 to 4 Mar 2021");
  assert.equal(sold([{ since: "2017-12-14", until: null, mark: "derived" }]), "Sold from 14 Dec 2017 (derived)");
  assert.equal(sold([]), "Never sold");
});

test("names are those that a workstation may have", () => {
  for (const name of ["pro", "a", "lab-2", "order", `a${"b".repeat(31)}`]) assert.equal(isName(name), true, name);
  for (const name of ["", "Pro", "2lab", "a b", "a;b", "-a", `a${"b".repeat(32)}`]) assert.equal(isName(name), false, name);
  assert.equal(command("lab"), "spacegray up lab --spec lab.toml");
});

test("amounts, shares and days are told as people read them", () => {
  assert.deepEqual([4999, 0, 13199].map(dollars), ["$4,999", "$0", "$13,199"]);
  assert.deepEqual([800, -400].map(surcharge), ["+$800", "−$400"]);
  assert.deepEqual([0, 0.001, 0.4, 0.999, 1].map(percent), ["0 %", "under 1 %", "40 %", "over 99 %", "100 %"]);
  assert.deepEqual(["2017-12-14", "2021-03-05", "", "soon"].map(day), ["14 Dec 2017", "5 Mar 2021", "", "soon"]);
  assert.equal(days("2018-10-01", "2018-10-31"), "Oct 2018");
  assert.equal(days("2018-10-01", "2018-10-30"), "1 Oct 2018 to 30 Oct 2018");
  assert.equal(days("2018-01-02", ""), "2 Jan 2018");
});

test("a machine is on its stand unless its spec says otherwise", () => {
  assert.equal(mount({ ordered: { mount: "vesa" } }), "vesa");
  for (const show of [null, {}, { ordered: { mount: "stand" } }, { ordered: { mount: "wall" } }]) assert.equal(mount(show), "stand");
});
