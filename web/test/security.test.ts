/** Guards: each setting shows all it can be, exactly one that holds, and how to make it another. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Security } from "../src/security.ts";
import { security, settings, summary, UNKNOWN } from "../src/security.ts";

const CHIP = { policy: "full", external_boot: "deny", other_systems: "deny", firmware_password: false, minimum_epoch: 1764547200 };
const NOW: Security = security({ chip: CHIP });

function holding(now: Security): string[] {
  return settings(now, "lab").map((each) => each.choices.filter((choice) => choice.holds).map((choice) => choice.title).join());
}

test("what holds is shown, one of each", () => {
  assert.deepEqual(holding(NOW), ["Full Security", "Not allowed", "Not allowed", "None"]);
  const other = security({ chip: { ...CHIP, policy: "none", external_boot: "allow", firmware_password: true } });
  assert.deepEqual(holding(other), ["No Security", "Allowed", "Not allowed", "Set"]);
});

test("the commands make each another, for this workstation", () => {
  assert.deepEqual(settings(NOW, "lab").map((each) => each.command), [
    "security set lab --policy medium",
    "security set lab --external-boot allow",
    "security set lab --other-systems allow",
    "security set lab --new-firmware-password-file FILE",
  ]);
  const other = security({ chip: { ...CHIP, policy: "medium", firmware_password: true } });
  assert.equal(settings(other, "lab")[0]?.command, "security set lab --policy full");
  assert.equal(settings(other, "lab")[3]?.command, "security set lab --no-firmware-password");
});

test("where a setting has no effect, that is said", () => {
  const remark = (policy: string) => settings(security({ chip: { ...CHIP, policy } }), "lab")[2]?.remark;
  assert.match(remark("full") ?? "", /no effect/);
  assert.equal(remark("medium"), "");
  assert.match(remark("none") ?? "", /everything starts/);
});

test("what is not known is not guessed", () => {
  for (const shown of [null, {}, { chip: null }, { chip: { policy: "lax", external_boot: true } }]) {
    const now = security(shown);
    assert.deepEqual(holding(now), ["", "", "", ""]);
    assert.deepEqual(settings(now, "lab").map((each) => each.command), ["", "", "", ""]);
    assert.equal(summary(now), UNKNOWN);
  }
});

test("the first line says it all", () => {
  assert.equal(summary(NOW), "Full Security, no external boot, no firmware password.");
});
