/** Guards: the panel shows what `show` says, and survives what it does not know. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { details, given } from "../src/details.ts";

const SHOW = {
  accelerator: "tcg",
  accelerator_reason: "no /dev/kvm",
  secure_boot: true,
  ecid: "0x8d1f5a0b77c3e241",
  ordered: { cores: 8, memory_gb: 32, graphics: "vega-56", ssd_tb: 1, edition: "tiny", user: "owner" },
  given: { cores: 1, memory_gb: 3.52, graphics: "virtio-gpu, 2D" },
  disk: { size_bytes: 1e12, used_bytes: 2 ** 30, partitions: [{ name: "esp", size_bytes: 2 ** 29 }] },
  folder: "/f",
  state_folder: "/s",
};

function row(show: unknown, title: string, label: string): string | undefined {
  const section = details(show).sections.find((each) => each.title === title);
  return section?.rows.find(([name]) => name === label)?.[1];
}

test("ordered and given stand apart", () => {
  assert.equal(row(SHOW, "As ordered", "Memory"), "32 GB");
  assert.equal(row(SHOW, "As this host gives it", "Memory"), "3.52 GB");
  assert.equal(row(SHOW, "As ordered", "Graphics"), "Vega 56");
  assert.equal(row(SHOW, "As this host gives it", "Processor"), "1 core");
});

test("the accelerator comes with its reason", () => {
  assert.equal(row(SHOW, "Accelerator", "Taken"), "TCG");
  assert.equal(row(SHOW, "Accelerator", "Because"), "no /dev/kvm");
});

test("Secure Boot is said to be on only where the guest said so", () => {
  assert.match(row(SHOW, "Security", "Secure Boot") ?? "", /^on/);
  assert.equal(row({ ...SHOW, secure_boot: false }, "Security", "Secure Boot"), "off");
  assert.match(row({ ...SHOW, secure_boot: null }, "Security", "Secure Boot") ?? "", /not known/);
});

test("partitions are listed", () => {
  assert.deepEqual(details(SHOW).partitions, [{ name: "esp", sizeBytes: 2 ** 29 }]);
});

test("missing and foreign fields do no harm", () => {
  for (const odd of [null, 3, "x", [], { disk: [], ordered: "x", given: { a: {} } }]) details(odd);
  assert.equal(row({ ecid: "0x1" }, "Accelerator", "Taken"), undefined);
  assert.deepEqual(given(["cpu_model", "Xeon W"]), ["Cpu model", "Xeon W"]);
  assert.deepEqual(given(["memory_mb", 2048]), ["Memory", "2 GiB"]);
});
