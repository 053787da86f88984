/** What a page says when the console says no, or says nothing. */
import { Locked, Refused } from "../api.ts";
import { make, rich } from "../dom.ts";
import { sentence } from "../words.ts";

/** Shows why `error` stopped something in the element `where`. Throws what is no such error. */
export function showRefusal(where: HTMLElement, error: unknown): void {
  where.replaceChildren(...told(error));
}

function told(error: unknown): Node[] {
  if (error instanceof Refused) {
    const { stopped_by, next_step } = error.refusal;
    // Options of the command line are no use to who reads a page.
    const next = sentence(next_step.replaceAll(/ \(--[a-z-]+\)/g, ""));
    return [make("strong", {}, sentence(stopped_by)), make("span", {}, ...rich(next, null))];
  }
  if (error instanceof Locked) {
    const how = rich("Open the console with a new one-time address: `spacegray open`", null);
    return [make("strong", {}, "This session is over."), make("span", {}, ...how)];
  }
  // What `fetch` throws where nobody answers.
  if (error instanceof TypeError) {
    const how = rich("Open it again with `spacegray open`", null);
    return [make("strong", {}, "The console does not answer."), make("span", {}, ...how)];
  }
  throw error;
}
