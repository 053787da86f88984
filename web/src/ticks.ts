/**
 * Which steps of a plan were done, kept in the browser: a bench is left and come back to.
 *
 * Kept under the part and the steps themselves, so that another plan does not inherit ticks.
 */
import type { Plan, Step } from "./product.ts";

/** What of `Storage` is needed. It may throw: browsers can be told to keep nothing. */
export type Shelf = Pick<Storage, "getItem" | "setItem" | "removeItem">;

export type Way = "apart" | "together";

export class Ticks {
  readonly #shelf: Shelf;
  readonly #key: string;
  #done: Set<string>;

  constructor(shelf: Shelf, plan: Plan) {
    this.#shelf = shelf;
    this.#key = `spacegray.ticks.${plan.part}`;
    const known = new Set([...plan.steps.map((step) => mark("apart", step)), ...plan.reassembly.map((step) => mark("together", step))]);
    this.#done = new Set(this.#read().filter((each) => known.has(each)));
  }

  has(way: Way, step: Step): boolean {
    return this.#done.has(mark(way, step));
  }

  get count(): number {
    return this.#done.size;
  }

  set(way: Way, step: Step, done: boolean): void {
    if (done) this.#done.add(mark(way, step));
    else this.#done.delete(mark(way, step));
    this.#write();
  }

  clear(): void {
    this.#done = new Set();
    this.#write();
  }

  #read(): string[] {
    try {
      const kept: unknown = JSON.parse(this.#shelf.getItem(this.#key) ?? "[]");
      return Array.isArray(kept) ? kept.filter((each) => typeof each === "string") : [];
    } catch {
      return [];
    }
  }

  #write(): void {
    try {
      if (this.#done.size === 0) this.#shelf.removeItem(this.#key);
      else this.#shelf.setItem(this.#key, JSON.stringify([...this.#done]));
    } catch {
      // They are on the page then, and gone with it.
    }
  }
}

function mark(way: Way, step: Step): string {
  return `${way} ${step.number} ${step.action}`;
}
