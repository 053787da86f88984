/** The page: one workstation at a time, named by the address's fragment (#/NAME). */
import "./style/page.css";
import type { Listed } from "./api.ts";
import { act, list, Locked, Refused, show } from "./api.ts";
import { chipFacts } from "./details.ts";
import { byId } from "./dom.ts";
import type { Health } from "./lifeline.ts";
import { Lifeline } from "./lifeline.ts";
import type { ConsoleEvent, Model, Verb } from "./model.ts";
import { answered, chain, EMPTY, hasScreen, reduce } from "./model.ts";
import { mount } from "./mount.ts";
import { BannerView } from "./view/banner.ts";
import { BarView } from "./view/bar.ts";
import { ChainView } from "./view/chain.ts";
import { confirm } from "./view/confirm.ts";
import { CoverView } from "./view/cover.ts";
import { DisplayView } from "./view/display.ts";
import { PanelView } from "./view/panel.ts";
import { SecurityView } from "./view/security.ts";
import { UnlockView } from "./view/unlock.ts";

const LIST_MS = 3000;
const CLOCK_MS = 100;

const bar = new BarView((verb) => void ask(verb));
const links = new ChainView();
const unlock = new UnlockView({
  answered: (name, answer) => {
    if (name !== current || !model.status) return;
    model = { ...model, status: answered(model.status, answer, seconds()) };
  },
  changed: () => draw(),
});
const cover = new CoverView(unlock, (verb) => void ask(verb));
const panel = new PanelView();
const security = new SecurityView((verb) => void ask(verb));
const banner = new BannerView();
const display = new DisplayView(() => draw());
const stage = byId("stage", "main");

let all: readonly Listed[] = [];
let current: string | null = null;
let model: Model = EMPTY;
let lifeline: Lifeline | null = null;
let told = "";
let heeded = "";
let health: Health = "connected";

function seconds(): number {
  return Date.now() / 1000;
}

function draw(): void {
  const status = model.status;
  const state = chain(status);
  const lost = health === "gone" || health === "locked" || health === "missing";
  stage.inert = lost;
  if (lost) bar.updateGone();
  else bar.update(status);
  links.update(model, state, seconds());
  cover.update(current, model, state, display.picture, seconds());
  document.title = current ? `${current} · Spacegray` : "Spacegray";
}

function receive(event: ConsoleEvent): void {
  const before = model.status;
  model = reduce(model, event);
  if (model.status?.state !== before?.state) void learn();
  display.show(hasScreen(model.status) ? current : null);
  if (event.kind === "status") {
    all = all.map((each) => (each.name === current ? { ...each, state: event.state } : each));
    bar.updateList(all, current);
  }
  draw();
  const facts = JSON.stringify([current, model.status?.state, model.status?.boot, model.notes.length]);
  if (facts !== told) panel.update(current, model.notes);
  told = facts;
  const safety = JSON.stringify([current, model.status?.state, model.status?.boot, model.status?.errand]);
  if (safety !== heeded) security.update(current, model.status);
  heeded = safety;
}

/**
 * What is known of the chip decides what is said of a machine that does not run; what holds the
 * machine decides how it is drawn.
 */
async function learn(): Promise<void> {
  const name = current;
  if (name === null) return;
  try {
    const shown = await show(name);
    if (name !== current) return;
    byId("mac", "div").dataset["mount"] = mount(shown);
    model = { ...model, chip: chipFacts(shown) };
    draw();
  } catch {
    // The lifeline notices and tells; without these facts less is said.
  }
}

/** Look at the workstation `name` instead. */
function select(name: string | null): void {
  if (name === current) return;
  lifeline?.close();
  current = name;
  model = EMPTY;
  health = "connected";
  banner.update(health);
  display.show(null);
  lifeline = name === null ? null : new Lifeline(name, receive, heard);
  bar.updateList(all, current);
  byId("to-service", "a").href = name === null ? "/service" : `/service#/${name}`;
  draw();
}

function heard(now: Health): void {
  if (now === health) return;
  // The notes come again with the new connection.
  if (now === "connected") model = { ...EMPTY, status: model.status, chip: model.chip };
  health = now;
  banner.update(now);
  if (now === "locked" || now === "missing") display.show(null);
  draw();
}

async function refresh(): Promise<void> {
  try {
    all = await list();
  } catch (error) {
    if (error instanceof Locked) heard("locked");
    // Anything else: the lifeline tells, and tries again.
    return;
  }
  if (all.length === 0) banner.update("none");
  else if (health === "connected") banner.update("connected");
  // An erased chip may begin a new life, of which no event tells.
  if (model.chip?.life && model.chip.life !== "in use") void learn();
  if (model.status?.state === "recovery") security.refresh();
  if (current === null) select(wanted() ?? all[0]?.name ?? null);
  bar.updateList(all, current);
}

function wanted(): string | null {
  return /^#\/([a-z][a-z0-9-]{0,31})$/.exec(location.hash)?.[1] ?? null;
}

async function ask(verb: Verb): Promise<void> {
  const name = current;
  if (name === null) return;
  // Nothing runs yet in one that is locked.
  const idle = model.status?.state === "locked";
  const inRecovery = model.status?.state === "recovery";
  const harm = inRecovery ? "Recovery ends; what it is doing just now is not finished." : "Programs that run in it are closed.";
  if (verb === "stop" && !idle && !(await confirm(`Shut down ${name}?`, harm, "Shut down"))) return;
  if (verb === "restart" && !(await confirm(`Restart ${name}?`, harm, "Restart"))) return;
  try {
    await act(name, verb);
  } catch (error) {
    if (error instanceof Refused && model.status && name === current) {
      const errand = { verb, done: true, error: error.refusal };
      model = { ...model, status: { ...model.status, errand } };
      draw();
    }
  }
}

// The mount may have been changed meanwhile, of which no event tells.
addEventListener("focus", () => void learn());
addEventListener("hashchange", () => {
  const name = wanted();
  if (name !== null) select(name);
});
setInterval(() => {
  if (model.status?.state === "starting" || model.status?.state === "locked") draw();
}, CLOCK_MS);
setInterval(() => {
  if (!document.hidden) void refresh();
}, LIST_MS);
draw();
void refresh();
