/** The result of `show`, arranged for reading. Fields that are missing are left out. */
import { day } from "./marks.ts";
import type { ChipFacts } from "./model.ts";
import { brief, capitalised, size } from "./words.ts";

export interface Section {
  readonly title: string;
  readonly rows: readonly (readonly [label: string, value: string])[];
}

export interface Partition {
  readonly name: string;
  readonly sizeBytes: number;
}

export interface Details {
  readonly sections: readonly Section[];
  readonly partitions: readonly Partition[];
  readonly diskBytes: number;
}

type Fields = Record<string, unknown>;

const GRAPHICS: Record<string, string> = {
  "vega-56": "Vega 56",
  "vega-64": "Vega 64",
  "vega-64x": "Vega 64X",
};

const MOUNTS: Record<string, string> = { stand: "Stand", vesa: "VESA mount" };

const SEALS: Record<string, string> = {
  keyfile: "key file, apart from the workstation’s folder",
  passphrase: "passphrase, asked at power-on",
  tpm2: "this host’s TPM",
};

const ROOTS: Record<string, string> = {
  software: "software, in the chip’s own files",
  tpm: "this host’s TPM",
};

const UNKNOWN = "not known yet";

export function details(show: unknown): Details {
  const all = fields(show);
  const ordered = fields(all["ordered"]);
  const disk = fields(all["disk"]);
  const diskBytes = number(disk["size_bytes"]) ?? 0;
  const sections: Section[] = [
    section("As ordered", [
      ["Processor", counted(ordered["cores"], "cores")],
      ["Memory", counted(ordered["memory_gb"], "GB")],
      ["Graphics", GRAPHICS[text(ordered["graphics"])] ?? text(ordered["graphics"])],
      ["SSD", counted(ordered["ssd_tb"], "TB")],
      ["Mount", MOUNTS[text(ordered["mount"])] ?? text(ordered["mount"])],
      ["Ordered", day(text(ordered["ordered"]))],
      ["Edition", text(ordered["edition"])],
      ["User", text(ordered["user"])],
    ]),
    section("As this host gives it", Object.entries(fields(all["given"])).map(given)),
    section("Accelerator", [
      ["Taken", text(all["accelerator"]).toUpperCase()],
      ["Because", text(all["accelerator_reason"])],
    ]),
    section("Security", [
      ["Secure Boot", flag(all["secure_boot"], "on, says the guest’s firmware", "off")],
      ["ECID", text(all["ecid"])],
      ["System seal", brief(text(all["root_hash"]))],
      ["Kernel", text(all["kernel"])],
    ]),
    section("Chip", chip(all["chip"])),
    section("Disk", [
      ["Size", diskBytes ? size(diskBytes, 1000) : ""],
      ["Used on this host", number(disk["used_bytes"]) ? size(number(disk["used_bytes"]) ?? 0) : ""],
    ]),
    section("Folders", [
      ["Workstation", text(all["folder"])],
      ["Chip’s state", text(all["state_folder"])],
    ]),
  ];
  return {
    sections: sections.filter((each) => each.rows.length > 0),
    partitions: list(disk["partitions"]).map(partition).filter((each) => each.sizeBytes > 0),
    diskBytes,
  };
}

/** What the page itself has to know of the chip. */
export function chipFacts(show: unknown): ChipFacts {
  const facts = fields(fields(show)["chip"]);
  const made = facts["recovery_key"];
  return { life: text(facts["life"]) || null, recovery_key: typeof made === "boolean" ? made : null };
}

/** How the chip is, as far as that is known without asking it. */
function chip(value: unknown): [string, string][] {
  const facts = fields(value);
  if (Object.keys(facts).length === 0) return [];
  const lives = number(facts["lives"]);
  const life = text(facts["life"]);
  const rollbacks = number(facts["rollbacks"]);
  return [
    ["Life", life ? capitalised(life) + (lives === null ? "" : ` (life ${lives})`) : UNKNOWN],
    ["Seal", SEALS[text(facts["seal"])] ?? text(facts["seal"])],
    ["Root", ROOTS[text(facts["root"])] ?? text(facts["root"])],
    ["Password", known(facts["password"], "set", "none: it opens for whoever can power it on")],
    ["Recovery key", known(facts["recovery_key"], "made", "none: a forgotten password loses all")],
    ["Rollbacks", rollbacks === null ? UNKNOWN : rollbacks === 0 ? "none" : `${rollbacks}, authorised by the owner`],
    ["Policy", text(facts["policy"])],
  ];
}

function known(value: unknown, yes: string, no: string): string {
  return typeof value === "boolean" ? (value ? yes : no) : UNKNOWN;
}

/** A row for one field of what the host gives; its unit stands at the end of its name. */
export function given([name, value]: [string, unknown]): [string, string] {
  if (name === "cores") return ["Processor", value === 1 ? "1 core" : counted(value, "cores")];
  const [stem, unit] = /^(.*)_(bytes|mb|gb|tb|mib|gib)$/.exec(name)?.slice(1) ?? [name, ""];
  const figure = number(value);
  return [spaced(stem ?? name), figure === null ? text(value) : measured(figure, unit ?? "")];
}

function measured(figure: number, unit: string): string {
  const bytes = { bytes: 1, mb: 2 ** 20, mib: 2 ** 20, gib: 2 ** 30 }[unit];
  if (bytes) return size(figure * bytes);
  return unit ? `${figure} ${unit.toUpperCase()}` : `${figure}`;
}

function partition(value: unknown): Partition {
  const part = fields(value);
  const bytes = number(part["size_bytes"]) ?? number(part["length"]) ?? number(part["size"]) ?? 0;
  return { name: text(part["name"]) || text(part["label"]), sizeBytes: bytes };
}

function section(title: string, rows: [string, string][]): Section {
  return { title, rows: rows.filter(([, value]) => value !== "") };
}

function fields(value: unknown): Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value)
    ? (value as Fields)
    : {};
}

function list(value: unknown): unknown[] {
  return Array.isArray(value) ? value : [];
}

function number(value: unknown): number | null {
  return typeof value === "number" && Number.isFinite(value) ? value : null;
}

function text(value: unknown): string {
  if (typeof value === "string") return value;
  if (typeof value === "number") return `${value}`;
  if (typeof value === "boolean") return value ? "yes" : "no";
  return "";
}

function flag(value: unknown, yes: string, no: string): string {
  if (typeof value !== "boolean") return "not known while it is off";
  return value ? yes : no;
}

function counted(value: unknown, unit: string): string {
  const figure = number(value);
  return figure === null ? "" : `${figure} ${unit}`;
}

function spaced(name: string): string {
  return capitalised(name.replaceAll("_", " "));
}
