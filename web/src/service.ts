/**
 * The service page: the plan of a repair, and the service record of a workstation.
 *
 * The part is named by the address's query (?part=ID), the workstation by its fragment (#/NAME).
 */
import "./style/service.css";
import { list, show } from "./api.ts";
import { byId, make, setText } from "./dom.ts";
import { mount, MOUNT_WORDS } from "./mount.ts";
import type { Kind, Part } from "./product.ts";
import { history, parts, plan } from "./product.ts";
import { historyView, verdict } from "./view/history.ts";
import { machineView } from "./view/machine.ts";
import { planView } from "./view/plan.ts";
import { showRefusal } from "./view/refused.ts";

const part = byId("part", "select");
const workstation = byId("workstation", "select");
const refused = byId("refused", "div");
const planned = byId("plan", "article");
const record = byId("history", "div");
const drawing = byId("drawing", "figure");
const FIRST_PART = "memory";

let asked = 0;
let looked = 0;

const KINDS: readonly (readonly [kind: Kind, title: string])[] = [
  ["part", "Parts"], ["cable", "Cables"], ["fastener", "Fasteners"], ["adhesive", "Adhesives"], ["seal", "Seals"],
];

/** The part in the address, by any of its names, then the one most ask for. */
function wantedPart(known: readonly Part[]): string {
  const wanted = new URLSearchParams(location.search).get("part") ?? "";
  return known.find((each) => each.id === wanted || each.aliases.includes(wanted))?.id ?? FIRST_PART;
}

function options(known: readonly Part[]): HTMLElement[] {
  return KINDS.map(([kind, label]) => {
    const all = known.filter((each) => each.kind === kind);
    return make("optgroup", { label }, ...all.map((each) => make("option", { value: each.id }, each.name)));
  }).filter((group) => group.childElementCount > 0);
}

function wantedName(known: readonly string[]): string {
  const wanted = /^#\/(.*)$/.exec(location.hash)?.[1] ?? "";
  return known.includes(wanted) ? wanted : known[0] ?? "";
}

/** The address names what is looked at, so that it can be kept and come back to. */
function remember(): void {
  const name = workstation.value ? `#/${workstation.value}` : "";
  window.history.replaceState(null, "", `/service?${new URLSearchParams({ part: part.value })}${name}`);
}

async function showPlan(): Promise<void> {
  asked += 1;
  const mine = asked;
  planned.setAttribute("aria-busy", "true");
  try {
    const found = await plan(part.value);
    if (mine !== asked) return;
    refused.replaceChildren();
    planned.replaceChildren(...planView(found, localStorage));
  } catch (error) {
    if (mine !== asked) return;
    planned.replaceChildren();
    showRefusal(refused, error);
  }
  planned.setAttribute("aria-busy", "false");
}

async function showRecord(): Promise<void> {
  looked += 1;
  const mine = looked;
  const name = workstation.value;
  record.setAttribute("aria-busy", "true");
  record.replaceChildren(make("p", { class: "hint" }, name ? "Asking the chip …" : "There is no workstation yet."));
  if (name) {
    const [shown, told] = await Promise.allSettled([show(name), history(name)]);
    if (mine !== looked) return;
    picture(shown.status === "fulfilled" ? shown.value : null);
    if (told.status === "fulfilled") {
      record.replaceChildren(...historyView(told.value, name));
      setText(byId("said", "p"), `${name}: ${verdict(told.value)}`);
    } else {
      const alert = make("div", { role: "alert" });
      record.replaceChildren(alert);
      showRefusal(alert, told.reason);
    }
  }
  record.setAttribute("aria-busy", "false");
}

function picture(shown: unknown): void {
  const held = mount(shown);
  drawing.replaceChildren(machineView(held), make("figcaption", {}, MOUNT_WORDS[held]));
}

async function begin(): Promise<void> {
  picture(null);
  try {
    const [known, machines] = [await parts(), await list()];
    part.replaceChildren(...options(known.parts));
    part.value = wantedPart(known.parts);
    workstation.replaceChildren(...machines.map((each) => make("option", { value: each.name }, each.name)));
    workstation.value = wantedName(machines.map((each) => each.name));
    workstation.disabled = machines.length === 0;
  } catch (error) {
    showRefusal(refused, error);
    return;
  }
  remember();
  await Promise.all([showPlan(), showRecord()]);
}

part.addEventListener("change", () => {
  remember();
  void showPlan();
});
workstation.addEventListener("change", () => {
  remember();
  void showRecord();
});
void begin();
