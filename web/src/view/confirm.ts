/** Asking before a running machine is taken away from under somebody. */
import { byId } from "../dom.ts";

export function confirm(title: string, text: string, yes: string): Promise<boolean> {
  const dialog = byId("confirm", "dialog");
  byId("confirm-title", "h2").textContent = title;
  byId("confirm-text", "p").textContent = text;
  byId("confirm-yes", "button").textContent = yes;
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}
