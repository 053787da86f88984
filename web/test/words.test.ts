/** Guards: a failure is told in plain words, with what was expected, found, and what to do. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { wait } from "../src/backoff.ts";
import type { Status } from "../src/model.ts";
import { chain } from "../src/model.ts";
import { rendering } from "../src/scaling.ts";
import { brief, duration, failure, findings, size } from "../src/words.ts";

const OFF: Status = {
  kind: "status", state: "off", reason: "", link: null, boot: 1, since: 0, links: [], errand: null,
};

test("figures carry the digits that matter", () => {
  assert.deepEqual([0.314, 7.94, 48.9, 185, 7260, -1].map(duration), ["0.31 s", "7.9 s", "48 s", "3 min 5 s", "2 h 1 min", "0.00 s"]);
  assert.deepEqual([512, 2 ** 29, 8 * 2 ** 30, 1.5 * 2 ** 30].map((bytes) => size(bytes)), ["512 B", "512 MiB", "8 GiB", "1.5 GiB"]);
  assert.equal(size(4e12, 1000), "4 TB");
});

test("long hashes are cut, names and short ones are not", () => {
  assert.equal(brief(`root ${"ab".repeat(32)} open`), "root abababababababab… open");
  for (const text of ["0x3ff7d2ab044d0061", "6.12.117+deb13-amd64", "086ec1c9-2475-41ee-a31f-86ec1c924754"]) {
    assert.equal(brief(text), text);
  }
});

test("nothing is said to have failed where nothing has", () => {
  assert.equal(failure(null, []), null);
  assert.equal(failure(OFF, chain(OFF)), null);
});

test("a broken link is named, with what was expected and found", () => {
  const status: Status = { ...OFF, state: "failed", link: "firmware", reason: "expected SHA-256 aa, found bb" };
  const told = failure(status, chain(status));
  assert.match(told?.title ?? "", /firmware/);
  assert.deepEqual(told?.found, [["Expected", "SHA-256 aa"], ["Found", "bb"]]);
  assert.ok(told?.next);
});

test("a machine that stopped with no link to blame tells the reason itself", () => {
  const status: Status = { ...OFF, state: "failed", reason: "its supervisor was killed" };
  assert.equal(failure(status, chain(status))?.means, "Its supervisor was killed.");
});

test("a start that never began tells what stopped it and what to do", () => {
  const error = { doing: "starting pro", stopped_by: "the disk is in use", next_step: "end that program" };
  const status: Status = { ...OFF, errand: { verb: "start", done: true, error } };
  const told = failure(status, chain(status));
  assert.equal(told?.means, "The disk is in use.");
  assert.equal(told?.next, "End that program.");
});

test("a text without the two halves stays whole", () => {
  assert.deepEqual(findings("Access Denied"), [["Seen", "Access Denied"]]);
  assert.deepEqual(findings(""), []);
});

test("waits double and are bounded", () => {
  assert.deepEqual([0, 1, 2, 3].map(wait), [250, 500, 1000, 2000]);
  assert.equal(wait(50), 8000);
});

test("whole multiples of device pixels stay sharp, all else is smoothed", () => {
  assert.equal(rendering(1280, 640, 2), "pixelated");
  assert.equal(rendering(1280, 1280, 1), "pixelated");
  assert.equal(rendering(1280, 1280, 1.5), "auto");
  assert.equal(rendering(1280, 900, 1), "auto");
});
