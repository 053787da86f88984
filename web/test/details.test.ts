/** Guards: the panel shows what `show` says, and survives what it does not know. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { chipFacts, details, given } from "../src/details.ts";

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

test("what it stands on and when it was ordered is said where the spec says so", () => {
  assert.equal(row(SHOW, "As ordered", "Mount"), undefined);
  const ordered = { ...SHOW.ordered, mount: "vesa", ordered: "2017-12-14" };
  assert.equal(row({ ...SHOW, ordered }, "As ordered", "Mount"), "VESA mount");
  assert.equal(row({ ...SHOW, ordered }, "As ordered", "Ordered"), "14 Dec 2017");
  assert.equal(row({ ...SHOW, ordered: { ...ordered, ordered: "" } }, "As ordered", "Ordered"), undefined);
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

test("the chip's facts are told, and what is not known of them is said to be so", () => {
  const chip = { seal: "keyfile", root: "software", life: "in use", lives: 1, password: true, recovery_key: false, rollbacks: 0, policy: "full" };
  const of = (facts: object, label: string) => row({ chip: { ...chip, ...facts } }, "Chip", label);
  assert.equal(of({}, "Life"), "In use (life 1)");
  assert.match(of({}, "Seal") ?? "", /^key file/);
  assert.match(of({ seal: "passphrase" }, "Seal") ?? "", /passphrase, asked/);
  assert.match(of({ seal: "tpm2" }, "Seal") ?? "", /TPM/);
  assert.equal(of({}, "Password"), "set");
  assert.match(of({ password: false }, "Password") ?? "", /none/);
  assert.match(of({}, "Recovery key") ?? "", /loses all/);
  assert.equal(of({}, "Rollbacks"), "none");
  assert.match(of({ rollbacks: 2 }, "Rollbacks") ?? "", /2, authorised/);
  for (const label of ["Life", "Password", "Recovery key", "Rollbacks"]) {
    assert.equal(of({ life: null, lives: null, password: null, recovery_key: null, rollbacks: null }, label), "not known yet");
  }
  assert.deepEqual(chipFacts({ chip }), { life: "in use", recovery_key: false });
  for (const odd of [null, {}, { chip: 3 }]) assert.deepEqual(chipFacts(odd), { life: null, recovery_key: null });
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
