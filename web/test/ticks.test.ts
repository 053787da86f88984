/** Guards: ticks last, belong to one plan, and a browser that keeps nothing does no harm. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Plan, Step } from "../src/product.ts";
import type { Shelf } from "../src/ticks.ts";
import { Ticks } from "../src/ticks.ts";

function step(number: number, action: string): Step {
  return { number, action, part: "x", checks: [], tools: [], consumables: [], risk: "", mark: "confirmed", basis: [] };
}

function plan(part: string, ...actions: string[]): Plan {
  const why = { text: "", mark: "confirmed", source: "", note: "" } as const;
  const steps = actions.map((action, index) => step(index + 1, action));
  return {
    part, title: part, who: "owner", who_why: why, before: [], steps, reassembly: steps,
    tools: [], consumables: [], risks: [], afterwards: [], notes: [], sources: [],
  };
}

function shelf(): Shelf {
  const kept = new Map<string, string>();
  return {
    getItem: (key) => kept.get(key) ?? null,
    setItem: (key, value) => void kept.set(key, value),
    removeItem: (key) => void kept.delete(key),
  };
}

test("ticks last, apart and together each for itself", () => {
  const [where, memory] = [shelf(), plan("memory", "unplug", "open")];
  new Ticks(where, memory).set("apart", step(1, "unplug"), true);
  const again = new Ticks(where, memory);
  assert.equal(again.has("apart", step(1, "unplug")), true);
  assert.equal(again.has("together", step(1, "unplug")), false);
  assert.equal(again.count, 1);
  again.clear();
  assert.equal(new Ticks(where, memory).count, 0);
});

test("neither another part nor another plan for it inherits them", () => {
  const where = shelf();
  new Ticks(where, plan("memory", "unplug")).set("apart", step(1, "unplug"), true);
  assert.equal(new Ticks(where, plan("ssd", "unplug")).count, 0);
  assert.equal(new Ticks(where, plan("memory", "wait, then unplug")).count, 0);
});

test("what is no list of ticks is none, and where nothing can be kept they still work", () => {
  for (const content of ["", "{}", "null", "[1]", "no JSON"]) {
    assert.equal(new Ticks({ ...shelf(), getItem: () => content }, plan("memory", "unplug")).count, 0);
  }
  const broken = (): never => {
    throw new Error("storage is off");
  };
  const ticks = new Ticks({ getItem: broken, setItem: broken, removeItem: broken }, plan("memory", "unplug"));
  ticks.set("apart", step(1, "unplug"), true);
  assert.equal(ticks.has("apart", step(1, "unplug")), true);
});
