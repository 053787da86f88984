/** Guards: a locked machine says what it asks for, why, how often still, when, and what then. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Way } from "../src/locked.ts";
import { asked, characters, fault, prompt, refused, told, untilWhen, ways } from "../src/locked.ts";
import type { Answer, Attempts, ChipFacts, Need, Status } from "../src/model.ts";
import { allowed, answered, chain, hasScreen } from "../src/model.ts";

const NOW = 5000;
const KEY = "0123-4567-89AB-CDEF-GHJK-MNPQ-RSTV";
const MADE: ChipFacts = { life: "in use", recovery_key: true };
const NEVER_MADE: ChipFacts = { life: "in use", recovery_key: false };

function attempts(password = 0, recovery = 0, recoveryKey = 0, waitSeconds = 0): Attempts {
  const of = (failures: number) => ({ failures, left: 10 - failures, wait_seconds: waitSeconds });
  return { password: of(password), recovery: of(recovery), recovery_key: of(recoveryKey) };
}

function locked(needs: readonly Need[], tries: Attempts, more: Partial<Status> = {}): Status {
  return {
    kind: "status", state: "locked", reason: "", link: null, boot: 1, target: "main", since: NOW, links: [],
    needs, attempts: tries, attempts_at: NOW, locked_until: NOW + 600, errand: null, ...more,
  };
}

function answer(code: string | null, tries: Attempts, needs: readonly Need[] = ["password"]): Answer {
  const said = code === null ? ["", ""] : ["it waits", "see `logs`"];
  return {
    right: code === null, code, stopped_by: said[0] ?? "", next_step: said[1] ?? "",
    standing: { needs, attempts: tries },
  };
}

test("a password is asked for with its reason, its tries, and what comes after the last", () => {
  const now = prompt(locked(["password"], attempts()), MADE, null, NOW);
  assert.equal(now?.label, "Password");
  assert.match(now?.why ?? "", /on this chip together/);
  assert.equal(now?.tries, "10 tries left. After 3 wrong ones each next one has to wait.");
  assert.match(now?.after ?? "", /10 in recovery mode and 10 with the recovery key/);
  assert.deepEqual(now?.others, ["recovery_key"]);
});

test("tries are counted down, and the waits announced", () => {
  const of = (failures: number) => prompt(locked(["password"], attempts(failures)), MADE, null, NOW)?.tries;
  assert.equal(of(1), "9 of 10 tries left. After 2 more wrong ones each next one has to wait.");
  assert.equal(of(2), "8 of 10 tries left. After 1 more wrong one each next one has to wait.");
  assert.equal(of(3), "7 of 10 tries left. Each next one has to wait.");
});

test("a passphrase comes first, alone, and is not counted", () => {
  const now = prompt(locked(["passphrase", "password"], {}), MADE, "recovery_key", NOW);
  assert.equal(now?.way, "passphrase");
  assert.deepEqual(now?.others, []);
  assert.match(now?.tries ?? "", /not counted/);
  assert.equal(now?.after, "");
  assert.equal(now?.waitSeconds, 0);
});

test("a wait counts down from when the chip said it, and each way waits by itself", () => {
  const tries = { ...attempts(4, 0, 0), password: { failures: 4, left: 6, wait_seconds: 300 } };
  const status = locked(["password"], tries);
  assert.equal(prompt(status, MADE, null, NOW)?.waitSeconds, 300);
  assert.equal(prompt(status, MADE, null, NOW + 120)?.waitSeconds, 180);
  assert.equal(prompt(status, MADE, null, NOW + 301)?.waitSeconds, 0);
  assert.equal(prompt(status, MADE, "recovery_key", NOW)?.waitSeconds, 0);
  assert.equal(prompt({ ...status, attempts_at: null }, MADE, null, NOW)?.waitSeconds, 300);
});

test("the recovery key is offered unless it is known that there is none", () => {
  const open = (chip: ChipFacts | null) => ways("password", attempts(), chip);
  assert.deepEqual(open(MADE), ["password", "recovery_key"]);
  assert.deepEqual(open(null), ["password", "recovery_key"]);
  assert.deepEqual(open({ life: null, recovery_key: null }), ["password", "recovery_key"]);
  assert.deepEqual(open(NEVER_MADE), ["password"]);
  const without = prompt(locked(["password"], attempts(0, 10)), NEVER_MADE, null, NOW);
  assert.match(without?.after ?? "", /nothing opens this disk any more/);
});

test("a way that is spent gives way to the next, and after the last there is none", () => {
  assert.deepEqual(ways("password", attempts(10), MADE), ["recovery", "recovery_key"]);
  assert.deepEqual(ways("password", attempts(10, 10), MADE), ["recovery_key"]);
  assert.equal(prompt(locked(["password"], attempts(10)), MADE, "password", NOW)?.way, "recovery");
  assert.equal(prompt(locked(["password"], attempts(10, 10, 10)), MADE, null, NOW), null);
  assert.equal(prompt(locked(["password"], attempts(10, 10)), NEVER_MADE, null, NOW), null);
});

test("each way is named to the chip as the chip names it", () => {
  const named = (["passphrase", "password", "recovery", "recovery_key"] as Way[]).map(asked);
  assert.deepEqual(named.map(({ kind, mode }) => `${kind} ${mode}`), [
    "passphrase normal", "password normal", "password recovery", "recovery_key normal",
  ]);
});

test("what cannot be right is not sent, so that it costs no try", () => {
  assert.match(fault("password", ""), /Type the password/);
  assert.equal(fault("password", " "), "");
  assert.equal(fault("password", "é".repeat(512)), "");
  assert.match(fault("password", "é".repeat(513)), /1024 bytes/);
  assert.equal(fault("recovery_key", KEY), "");
  assert.match(fault("recovery_key", KEY.slice(0, -1)), /28 characters, and this has 27/);
});

test("a recovery key may be typed with any dashes and blanks, or with none", () => {
  for (const typed of [KEY, KEY.replaceAll("-", ""), KEY.replaceAll("-", " – ").toLowerCase(), `  ${KEY.replaceAll("-", "_")}\t`]) {
    assert.equal(characters(typed), 28, typed);
  }
});

test("a wrong one is told with what is left and how long to wait", () => {
  assert.equal(told("password", answer("wrong", attempts(1))), "This is not the password. 9 tries are left.");
  assert.equal(
    told("password", answer("wrong", attempts(9, 0, 0, 28800))),
    "This is not the password. 1 try is left. The next one is looked at in 8 hours.",
  );
  assert.match(told("recovery", answer("wrong", attempts(10, 10))), /it was the last try/);
  assert.equal(told("passphrase", answer("passphrase", {}, ["passphrase"])), "This is not the passphrase.");
});

test("what the chip did not look at is told as that", () => {
  const waits = told("recovery_key", answer("wait", attempts(0, 0, 4, 61)));
  assert.equal(waits, "The chip did not look at it, and no try was used. The next one is looked at in 1 minute 1 second.");
  assert.match(told("password", answer("disabled", attempts(10))), /used up/);
  assert.match(told("recovery_key", answer("absent", attempts())), /No recovery key was ever made/);
  assert.equal(told("password", answer("put_back", attempts())), "It waits. See `logs`.");
  assert.equal(refused({ doing: "", stopped_by: "it ended", next_step: "" }), "It ended.");
});

test("a right one leads on: to the next secret, or to the start", () => {
  const status = locked(["passphrase", "password"], {});
  const next = answered(status, answer(null, attempts(2)), NOW + 9);
  assert.deepEqual([next.state, next.needs, next.attempts_at], ["locked", ["password"], NOW + 9]);
  assert.match(told("passphrase", answer(null, attempts(2))), /Now the password/);
  const last = answered(next, answer(null, attempts(), []), NOW + 10);
  assert.equal(last.state, "starting");
  const off = { ...status, state: "off" } as const;
  assert.equal(answered(off, answer(null, attempts(), []), NOW), off, "it ended meanwhile");
});

test("it says when it gives up, also where the wait is longer", () => {
  const clock = (at: number) => `<${at}>`;
  const status = locked(["password"], attempts());
  assert.equal(untilWhen(status, 0, NOW, clock), `It switches itself off at <${NOW + 600}> if nothing is given.`);
  assert.match(untilWhen(status, 3600, NOW, clock), /the wait goes on without it/);
  assert.equal(untilWhen({ ...status, locked_until: null }, 0, NOW, clock), "");
});

test("a locked machine waits at its chip, has no screen, and can be switched off", () => {
  const status = locked(["password"], attempts());
  assert.deepEqual(chain(status).map((link) => link.phase).slice(0, 2), ["awaited", "dark"]);
  assert.equal(hasScreen(status), false);
  const errand = { verb: "start", done: false, error: null } as const;
  assert.deepEqual(allowed({ ...status, errand }), { start: false, stop: true, restart: false, recovery: false });
});

test("a firmware password is asked for alone, with tries of its own, and its end is another one", () => {
  const of = (failures: number): Attempts => ({
    ...attempts(), firmware_password: { failures, left: 10 - failures, wait_seconds: 0 },
  });
  const now = prompt(locked(["firmware_password"], of(1)), MADE, null, NOW);
  assert.equal(now?.label, "Firmware password");
  assert.deepEqual(now?.others, []);
  assert.match(now?.tries ?? "", /^9 of 10/);
  assert.match(now?.after ?? "", /nothing but the chosen startup disk/);
  assert.deepEqual(asked("firmware_password"), { kind: "firmware_password", mode: "normal" });
  assert.equal(prompt(locked(["firmware_password"], of(10)), MADE, null, NOW), null);
});
