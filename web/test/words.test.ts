/** Guards: a failure is told in plain words, with what was expected, found, and what to do. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { wait } from "../src/backoff.ts";
import type { Status } from "../src/model.ts";
import { chain } from "../src/model.ts";
import { rendering } from "../src/scaling.ts";
import { brief, countdown, duration, ended, failure, findings, pieces, recoverable, shutOut, size, span } from "../src/words.ts";

const OFF: Status = {
  kind: "status", state: "off", reason: "", link: null, boot: 1, target: "main", since: 0, links: [], errand: null,
  needs: [], attempts: {}, attempts_at: null, locked_until: null,
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

test("what broke a link may say itself what to do about it", () => {
  const links = [{ link: "disk", status: "failed", detail: "older than remembered", at: 1, seconds: 1 }] as const;
  const reason = "older than remembered; put the newest back, or `ssd accept pro` takes it";
  const status: Status = { ...OFF, state: "failed", link: "disk", links, reason };
  const told = failure(status, chain(status));
  assert.deepEqual(told?.found, [["Seen", "older than remembered"]]);
  assert.equal(told?.next, "Put the newest back, or `ssd accept pro` takes it.");
});

test("commands are to be typed as they stand, for the workstation that is looked at", () => {
  const shown = (text: string) => pieces(text, "lab").filter((piece) => piece.command).map((piece) => piece.text);
  assert.deepEqual(shown("see `logs`, or `erase`"), ["spacegray logs lab", "spacegray erase lab"]);
  assert.deepEqual(shown("`ssd accept lab` takes it"), ["spacegray ssd accept lab"]);
  assert.deepEqual(shown("`import --recovery lab FILE`"), ["spacegray import --recovery lab FILE"]);
  assert.deepEqual(shown("`doctor`, `spacegray doctor`"), ["spacegray doctor", "spacegray doctor"]);
  assert.deepEqual(shown("`qemu-img convert`, `--recovery-mode`, `shown`"), ["qemu-img convert", "--recovery-mode", "shown"]);
  assert.deepEqual(pieces("a `logs` b", "lab").map((piece) => piece.text), ["a ", "spacegray logs lab", " b"]);
  assert.deepEqual(pieces("plain", null), [{ text: "plain", command: false }]);
});

test("the end of a chip's life is told with the ways on, and only where the machine rests", () => {
  assert.match(ended(OFF, "erased", "lab")?.next ?? "", /`restore lab`/);
  assert.match(ended({ ...OFF, state: "failed" }, "locked out", "lab")?.next ?? "", /`erase lab`/);
  for (const life of ["in use", null]) assert.equal(ended(OFF, life, "lab"), null);
  assert.equal(ended({ ...OFF, state: "starting" }, "erased", "lab"), null);
});

test("waits are counted to the second and told in two units", () => {
  assert.deepEqual([0, 0.2, 59.5, 300, 28799].map(countdown), ["0:00", "0:01", "1:00", "5:00", "7:59:59"]);
  assert.deepEqual([60, 61, 3600, 28800, 29461, 0].map(span), ["1 minute", "1 minute 1 second", "1 hour", "8 hours", "8 hours 11 minutes", "a moment"]);
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

test("recovery is offered where it helps, and not for what is wrong with itself or the chip", () => {
  const failed = (link: string, target: Status["target"] = "main"): Status => ({ ...OFF, state: "failed", link, target });
  const offered = (status: Status) => recoverable(status, chain(status));
  for (const link of ["kernel", "system", "data", "login"]) assert.equal(offered(failed(link)), true, link);
  for (const link of ["chip", "firmware", "disk", "machine"]) assert.equal(offered(failed(link)), false, link);
  assert.equal(offered(failed("kernel", "recovery")), false);
  assert.equal(offered({ ...failed("kernel"), state: "running", link: null }), false);
  assert.match(failure(failed("kernel"), chain(failed("kernel")))?.next ?? "", /`recovery`.*`restore`/);
});

test("without tries for the firmware password its own system still starts", () => {
  assert.match(shutOut("lab").next, /`start lab`.*`restore lab`/);
});
