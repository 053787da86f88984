/** Guards: each link shows as what was observed of it, and only in the start it belongs to. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Note, Sighting, State, Status } from "../src/model.ts";
import { allowed, chain, CHAINS, EMPTY, hasScreen, NOTE_LIMIT, parseEvent, poweredOnAt, reduce } from "../src/model.ts";

function seen(link: string, seconds: number, status: "ok" | "failed" = "ok"): Sighting {
  return { link, status, detail: `${link} detail`, at: 1000 + seconds, seconds };
}

function status(state: State, links: Sighting[] = [], more: Partial<Status> = {}): Status {
  return { kind: "status", state, reason: "", link: null, boot: 1, target: "main", since: 1000, links, needs: [], attempts: {}, attempts_at: null, locked_until: null, errand: null, ...more };
}

function phases(of: Status | null): string[] {
  return chain(of).map((link) => link.phase);
}

test("a machine that is off has a dark chain, whatever its last start saw", () => {
  assert.deepEqual(new Set(phases(status("off", [seen("chip", 1)]))), new Set(["dark"]));
  assert.deepEqual(new Set(phases(null)), new Set(["dark"]));
});

test("links light up in order and exactly the next one is awaited", () => {
  assert.deepEqual(phases(status("starting")).slice(0, 2), ["awaited", "dark"]);
  const some = status("starting", [seen("chip", 0.3), seen("firmware", 0.5)]);
  assert.deepEqual(phases(some).slice(0, 4), ["lit", "lit", "awaited", "dark"]);
  assert.equal(phases(some).filter((phase) => phase === "awaited").length, 1);
  assert.equal(chain(some)[1]?.seconds, 0.5);
  assert.equal(chain(some)[1]?.detail, "firmware detail");
});

test("all links are lit in a running machine", () => {
  const all = status("running", CHAINS.main.map((link, index) => seen(link, index)));
  assert.deepEqual(new Set(phases(all)), new Set(["lit"]));
});

test("the link that broke is broken, those before it held, those after it stay dark", () => {
  const sighted = status("failed", [seen("chip", 1), seen("firmware", 2, "failed")], { link: "firmware" });
  assert.deepEqual(phases(sighted).slice(0, 3), ["past", "broken", "dark"]);
  const named = status("failed", [seen("chip", 1)], { link: "disk" });
  assert.deepEqual(phases(named).slice(0, 4), ["past", "dark", "broken", "dark"]);
});

test("a link that held and broke later is broken", () => {
  const links = [seen("system", 9), seen("system", 30, "failed")];
  assert.equal(chain(status("failed", links)).find((link) => link.name === "system")?.phase, "broken");
});

test("a status replaces the last one; progress ends with its step or with the state", () => {
  let model = reduce(EMPTY, status("off"));
  model = reduce(model, { kind: "progress", label: "restoring", done: 1, total: 4 });
  assert.equal(model.progress?.done, 1);
  assert.equal(reduce(model, { kind: "progress", label: "restoring", done: 4, total: 4 }).progress, null);
  assert.equal(reduce(model, status("off", [], { reason: "x" })).progress?.done, 1);
  assert.equal(reduce(model, status("starting")).progress, null);
});

test("notes are bounded, the newest stay", () => {
  let model = EMPTY;
  for (let n = 0; n < NOTE_LIMIT + 5; n++) {
    const note: Note = { kind: "note", at: n, text: `${n}` };
    model = reduce(model, note);
  }
  assert.equal(model.notes.length, NOTE_LIMIT);
  assert.equal(model.notes.at(-1)?.text, `${NOTE_LIMIT + 4}`);
});

test("the screen is looked at once the processor runs, and no longer than that", () => {
  assert.equal(hasScreen(status("starting", [seen("disk", 1)])), false);
  assert.equal(hasScreen(status("starting", [seen("machine", 1)])), true);
  assert.equal(hasScreen(status("running")), true);
  assert.equal(hasScreen(status("failed", [seen("machine", 1)])), false);
  assert.equal(hasScreen(null), false);
});

test("a start may be given up, nothing else may be asked for twice", () => {
  const errand = { verb: "start", done: false, error: null } as const;
  assert.deepEqual(allowed(status("off")), { start: true, stop: false, restart: false, recovery: true });
  assert.deepEqual(allowed(status("off", [], { errand })), { start: false, stop: false, restart: false, recovery: false });
  assert.deepEqual(allowed(status("starting", [], { errand })), { start: false, stop: true, restart: false, recovery: false });
  assert.deepEqual(allowed(status("running")), { start: false, stop: true, restart: true, recovery: false });
  assert.deepEqual(allowed(null), { start: false, stop: false, restart: false, recovery: false });
});

test("power-on is told from the first link, or from the state before there is one", () => {
  assert.equal(poweredOnAt(status("starting", [seen("chip", 0.5)])), 1000);
  assert.equal(poweredOnAt(status("starting", [], { since: 77 })), 77);
});

test("anything that is no event of ours is ignored", () => {
  for (const text of ["", "null", "[]", "{}", '{"kind":"other"}', "{"]) assert.equal(parseEvent(text), null);
  assert.equal(parseEvent(JSON.stringify(status("off")))?.kind, "status");
});

test("each start has the links of what it is for; a machine that is off has those of its own system", () => {
  const recovery = status("starting", [seen("chip", 0.3)], { target: "recovery" });
  assert.deepEqual(chain(recovery).map((link) => link.name), CHAINS.recovery);
  assert.deepEqual(phases(recovery).slice(0, 2), ["lit", "awaited"]);
  assert.equal(chain(status("running", [], { target: "external" })).at(-1)?.name, "kernel");
  assert.equal(chain(status("off", [], { target: "recovery" })).at(-1)?.name, "login");
  assert.equal(chain(status("failed", [], { target: "recovery", link: "recovery" })).at(-1)?.phase, "broken");
});

test("recovery has a screen, can be left and ended, and starts only where nothing runs", () => {
  const there = status("recovery", [], { target: "recovery" });
  assert.equal(hasScreen(there), true);
  assert.deepEqual(allowed(there), { start: false, stop: true, restart: true, recovery: false });
  assert.equal(allowed(status("off")).recovery, true);
  assert.equal(allowed(status("failed")).recovery, true);
  assert.equal(allowed(status("running")).recovery, false);
  const asked = { verb: "recovery", done: false, error: null } as const;
  assert.equal(allowed(status("off", [], { errand: asked })).recovery, false);
});
