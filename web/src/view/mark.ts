/** The mark beside a figure, and what all marks mean. */
import { make } from "../dom.ts";
import type { Mark } from "../marks.ts";
import { MARK_MEANINGS, MARKS } from "../marks.ts";
import type { Source } from "../product.ts";

/** What is confirmed needs no mark: nothing is returned for it. */
export function badge(mark: Mark): HTMLElement[] {
  if (mark === "confirmed") return [];
  return [make("span", { class: "mark", "data-mark": mark, title: MARK_MEANINGS[mark] }, mark)];
}

/** Marks with their meanings, as a legend. */
export function legend(marks: readonly Mark[] = MARKS): Node[] {
  return marks.map((mark) => {
    const [shown] = badge(mark);
    return make("span", {}, shown ?? "Without a mark: confirmed,", ` ${MARK_MEANINGS[mark]}`);
  });
}

/** A source as a link; following it is up to the reader, nothing is loaded from there. */
export function sourceLink(source: Source): HTMLElement {
  if (!/^https?:\/\//.test(source.url)) return make("span", { title: source.note }, source.title);
  return make("a", { href: source.url, target: "_blank", rel: "noopener noreferrer" }, source.title);
}
