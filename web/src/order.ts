/** The order page: a day, the options of that day with their prices, and a spec to take away. */
import "./style/order.css";
import { Refused } from "./api.ts";
import { byId, make, setText } from "./dom.ts";
import { day } from "./marks.ts";
import type { Wish } from "./ordering.ts";
import { command, dayQuery, isName, KEY_DAYS, orderQuery, sellable, specFile } from "./ordering.ts";
import type { Offer } from "./product.ts";
import { offers, quote, specUrl } from "./product.ts";
import { legend } from "./view/mark.ts";
import { OffersView } from "./view/offers.ts";
import { quoteView, summary } from "./view/quote.ts";
import { showRefusal } from "./view/refused.ts";

const COPIED_MS = 4000;

const date = byId("date", "input");
const anyDate = byId("any-date", "input");
const refused = byId("refused", "div");
const told = byId("quote", "div");
const name = byId("name", "input");
const download = byId("download", "a");
const copied = byId("copied", "p");
const view = new OffersView(byId("options", "form"), (option, value) => {
  wish = { ...wish, picks: { ...wish.picks, [option]: value } };
  void update();
});

let wish: Wish = { date: KEY_DAYS[0]?.[0] ?? "", anyDate: false, picks: {} };
let offered: readonly Offer[] = [];
/** Whether the order as it stands can be had. */
let valid = false;
let asked = 0;

const buttons = KEY_DAYS.map(([iso, what]) => {
  const button = make("button", { type: "button", "data-day": iso }, make("strong", {}, day(iso)), make("span", {}, what));
  button.addEventListener("click", () => {
    date.value = iso;
    change({ date: iso });
  });
  return button;
});

function change(part: Partial<Wish>): void {
  wish = { ...wish, ...part };
  void update();
}

/** Asks anew for all there is to show. An answer to an older question is dropped. */
async function update(): Promise<void> {
  asked += 1;
  const mine = asked;
  const now = wish;
  for (const button of buttons) button.setAttribute("aria-pressed", `${button.dataset["day"] === now.date}`);
  told.setAttribute("aria-busy", "true");
  try {
    const answer = await offers(dayQuery(now));
    if (mine !== asked) return;
    offered = answer.offers;
    view.update(offered, now.picks);
    const priced = await quote(orderQuery(now));
    if (mine !== asked) return;
    refused.replaceChildren();
    told.replaceChildren(...quoteView(priced));
    setText(byId("said", "p"), summary(priced));
    valid = true;
  } catch (error) {
    if (mine !== asked) return;
    valid = false;
    told.replaceChildren();
    showRefusal(refused, error);
    if (error instanceof Refused) refused.append(waysOut());
  }
  told.setAttribute("aria-busy", "false");
  take();
}

/** What can be done about an order that was refused, on this page. */
function waysOut(): HTMLElement {
  const row = make("p", { class: "row" });
  const possible = sellable(offered, wish.picks);
  if (Object.keys(possible).length < Object.keys(wish.picks).length) {
    row.append(way("Take the base of that day instead", () => change({ picks: possible })));
  }
  if (!wish.anyDate) {
    const turn = (): void => {
      anyDate.checked = true;
      change({ anyDate: true });
    };
    row.append(way("Order it for any date", turn));
  }
  return row;
}

function way(title: string, act: () => void): HTMLElement {
  const button = make("button", { type: "button" }, title);
  button.addEventListener("click", () => {
    act();
    byId("quote-title", "h2").focus();
  });
  return button;
}

/** What is to be taken away: the spec, and the command that makes the machine of it. */
function take(): void {
  const named = isName(name.value);
  const ready = valid && named;
  name.setAttribute("aria-invalid", `${!named}`);
  download.classList.toggle("off", !ready);
  download.setAttribute("aria-disabled", `${!ready}`);
  if (ready) {
    download.href = specUrl(orderQuery(wish));
    download.download = specFile(name.value);
  } else {
    download.removeAttribute("href");
  }
  setText(byId("command", "code"), command(named ? name.value : "NAME"));
  byId("copy", "button").disabled = !named;
}

async function copy(): Promise<void> {
  try {
    await navigator.clipboard.writeText(command(name.value));
    setText(copied, "Copied.");
  } catch {
    // The browser or its user forbids it: the text is there to be marked.
    setText(copied, "The browser does not let this page copy; mark the text instead.");
  }
  setTimeout(() => setText(copied, ""), COPIED_MS);
}

byId("days", "div").append(...buttons);
byId("legend", "p").append(...legend());
date.value = wish.date;
date.addEventListener("change", () => change({ date: date.value }));
anyDate.addEventListener("change", () => change({ anyDate: anyDate.checked }));
name.addEventListener("input", take);
byId("copy", "button").addEventListener("click", () => void copy());
byId("take", "form").addEventListener("submit", (event) => event.preventDefault());
void update();
