/** Guards: an empty record says that nothing was done only where there is no other that may know. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Entry, History } from "../src/product.ts";
import { verdict } from "../src/view/history.ts";

const ECID = "0x8d1f5a0b77c3e241";
const ENTRY: Entry = {
  number: 0, ecid: ECID, time: 1_600_000_000, job: "memory 64", said: "the memory was exchanged", by: "owner",
  provider: "", fingerprint: "", order: "", verified: true,
};
const LOST = "record-0x0000000000000001: the record of a chip that was lost; none vouches for it";

function told(more: Partial<History> = {}): History {
  return { ecid: ECID, verified: true, wrong: [], notes: [], entries: [], providers: [], ...more };
}

test("without an entry nothing was done, unless the record of a lost chip is there", () => {
  assert.equal(verdict(told()), "Verified: no entry, nothing was ever done to it.");
  assert.equal(verdict(told({ notes: [LOST] })), "Verified: no entry of this chip.");
});

test("entries are counted, with a lost chip's record beside them or not", () => {
  for (const notes of [[], [LOST]]) {
    assert.equal(verdict(told({ entries: [ENTRY], notes })), "Verified: 1 entry, each signed by its chip.");
  }
  assert.equal(verdict(told({ verified: false, wrong: ["it was cut off"], notes: [LOST] })), "This record does not hold.");
});
