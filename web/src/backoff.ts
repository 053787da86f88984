/** How long to wait before trying again, and when to say that it does not look good. */

const FIRST_MS = 250;
const LONGEST_MS = 8000;

/** The wait in milliseconds before try number `attempt` (from 0): doubling, bounded. */
export function wait(attempt: number): number {
  return Math.min(LONGEST_MS, FIRST_MS * 2 ** Math.min(attempt, 30));
}

/** From this failed try on, the page says that the console is gone. */
export const GONE_ATTEMPT = 3;
