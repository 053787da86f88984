/** How sure a figure is, and how that is said. No DOM in here. */

export type Mark = "confirmed" | "secondary" | "derived" | "unconfirmed";
export const MARKS: readonly Mark[] = ["confirmed", "secondary", "derived", "unconfirmed"];

export const MARK_MEANINGS: Readonly<Record<Mark, string>> = {
  confirmed: "read in the source named",
  secondary: "read only in a derived, mirrored or retold source",
  derived: "follows from figures of the source named",
  unconfirmed: "general knowledge, not confirmed",
};

/** Whole US dollars: $4,999. */
export function dollars(amount: number): string {
  return `$${Math.round(amount).toLocaleString("en-US")}`;
}

/** What an option adds: +$800; nothing where it is included. */
export function surcharge(amount: number): string {
  return amount < 0 ? `−${dollars(-amount)}` : `+${dollars(amount)}`;
}

/** A share from 0 to 1 in whole per cent; what is more than nothing is never said to be none. */
export function percent(share: number): string {
  const whole = Math.round(share * 100);
  if (share > 0 && whole === 0) return "under 1 %";
  return share < 1 && whole === 100 ? "over 99 %" : `${whole} %`;
}

const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/** An ISO date as it is read: 14 Dec 2017. What is none stays as it is. */
export function day(iso: string): string {
  const [year, month, date] = /^(\d{4})-(\d\d)-(\d\d)$/.exec(iso)?.slice(1) ?? [];
  const name = MONTHS[Number(month) - 1];
  return year && date && name ? `${Number(date)} ${name} ${year}` : iso;
}

/** A day, or from one day to another; a whole month by its name alone. */
export function days(since: string, until: string | null): string {
  if (!until || until === since) return day(since);
  const [month, last] = [since.slice(0, 7), new Date(`${until}T00:00:00Z`)];
  const next = new Date(last.getTime() + 86_400_000);
  if (since.endsWith("-01") && until.startsWith(month) && next.getUTCDate() === 1) {
    return day(since).replace(/^1 /, "");
  }
  return `${day(since)} to ${day(until)}`;
}
