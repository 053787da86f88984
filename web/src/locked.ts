/** What a locked machine asks for, in plain words, and what came of it. No DOM in here. */
import type { Answer, Attempts, Budget, ChipFacts, Need, Refusal, Status } from "./model.ts";
import { counted, sentence, span } from "./words.ts";

/** The ways to unlock: each has a secret of its own, or tries of its own. */
export type Way = "passphrase" | "password" | "recovery" | "recovery_key" | "firmware_password";

/** How a way is named to the chip. */
export interface Asked {
  readonly kind: "passphrase" | "password" | "recovery_key" | "firmware_password";
  readonly mode: "normal" | "recovery";
}

export const SECRET_LIMIT_BYTES = 1024;
export const RECOVERY_KEY_CHARACTERS = 28;
/** The chip's: wrong tries of each budget, and those of them without a wait after. */
const TRIES = 10;
const FREE_TRIES = 3;

const NAMES: Record<Way, string> = {
  passphrase: "passphrase",
  password: "password",
  recovery: "password",
  recovery_key: "recovery key",
  firmware_password: "firmware password",
};

const TITLES: Record<Way, string> = {
  passphrase: "Passphrase",
  password: "Password",
  recovery: "Password, in recovery mode",
  recovery_key: "Recovery key",
  firmware_password: "Firmware password",
};

const WHY: Record<Way, string> = {
  passphrase:
    "The chip’s own keys are sealed with a passphrase: without it the chip knows neither itself nor the disk.",
  password:
    "The disk’s key hangs on the password and on this chip together: neither of them opens the disk alone.",
  recovery:
    "It is the same password, with ten tries of its own for when those at power-on are used up.",
  recovery_key:
    "The 28 characters, in seven groups of four, that were shown when it was made. It opens the disk where the password is forgotten.",
  firmware_password:
    "The chip asks for it before anything but the chosen startup disk starts. It is not the disk’s password.",
};

/** What one way asks for now. */
export interface Prompt {
  readonly way: Way;
  readonly label: string;
  readonly why: string;
  /** How many tries are left; empty while nothing is counted. */
  readonly tries: string;
  readonly after: string;
  /** For how many seconds the chip will not look at another one. */
  readonly waitSeconds: number;
  readonly others: readonly Way[];
}

export function asked(way: Way): Asked {
  if (way === "recovery") return { kind: "password", mode: "recovery" };
  return { kind: way, mode: "normal" };
}

/** The ways that a machine which waits for `need` leaves open, the usual one first. */
export function ways(need: Need, attempts: Attempts, chip: ChipFacts | null): Way[] {
  if (need === "passphrase") return ["passphrase"];
  if (need === "firmware_password") return attempts.firmware_password?.left === 0 ? [] : [need];
  const open: Way[] = [];
  if (attempts.password?.left !== 0) open.push("password");
  else if (attempts.recovery?.left !== 0) open.push("recovery");
  if (attempts.recovery_key?.left !== 0 && chip?.recovery_key !== false) open.push("recovery_key");
  return open;
}

/** What is asked for, by the way that was chosen where it is open; null where no way is. */
export function prompt(
  status: Status,
  chip: ChipFacts | null,
  chosen: Way | null,
  now: number,
): Prompt | null {
  const [need] = status.needs;
  if (need === undefined) return null;
  const open = ways(need, status.attempts, chip);
  const way = chosen !== null && open.includes(chosen) ? chosen : open[0];
  if (way === undefined) return null;
  return {
    way,
    label: TITLES[way],
    why: WHY[way],
    tries: tries(way, status.attempts),
    after: after(way, status.attempts, chip),
    waitSeconds: waitSeconds(way, status, now),
    others: open.filter((each) => each !== way),
  };
}

/** What leads to a way. */
export function leads(way: Way): string {
  if (way === "recovery_key") return "Use the recovery key instead";
  return `Use the ${NAMES[way]} instead`;
}

function budget(way: Way): Budget | null {
  return way === "passphrase" ? null : way;
}

function tries(way: Way, attempts: Attempts): string {
  const name = budget(way);
  if (name === null) return "Wrong tries of it are not counted.";
  const left = attempts[name]?.left;
  if (left === undefined) return "";
  const free = left - (TRIES - FREE_TRIES);
  const more = free === FREE_TRIES ? "" : "more ";
  const from = free > 0 ? `After ${counted(free, `${more}wrong one`)} each next one` : "Each next one";
  return `${left === TRIES ? "" : `${left} of `}${TRIES} tries left. ${from} has to wait.`;
}

/** What is left when this way is spent. */
function after(way: Way, attempts: Attempts, chip: ChipFacts | null): string {
  const name = budget(way);
  if (name === null) return "";
  if (name === "firmware_password") {
    return "After the last wrong one nothing but the chosen startup disk starts any more; the disk and its password are not touched by that.";
  }
  const rest: string[] = [];
  for (const other of ["password", "recovery", "recovery_key"] as const) {
    const left = attempts[other]?.left ?? 0;
    if (other === name || left === 0) continue;
    if (other === "recovery_key" && chip?.recovery_key === false) continue;
    const told = { password: "at power-on", recovery: "in recovery mode", recovery_key: "with the recovery key" }[other];
    rest.push(`${left} ${told}`);
  }
  const last = "After the last wrong one";
  if (rest.length === 0) return `${last} nothing opens this disk any more: it can only be erased.`;
  return `${last} there are still others: ${rest.join(" and ")}.`;
}

function waitSeconds(way: Way, status: Status, now: number): number {
  const name = budget(way);
  const tries = name === null ? undefined : status.attempts[name];
  if (!tries || tries.left === 0 || tries.wait_seconds === 0) return 0;
  return Math.max(0, (status.attempts_at ?? now) + tries.wait_seconds - now);
}

/** What is wrong with a secret before anybody has looked at it; empty where nothing is. */
export function fault(way: Way, text: string): string {
  if (text === "") return `Type the ${NAMES[way]} first.`;
  if (new TextEncoder().encode(text).length > SECRET_LIMIT_BYTES) {
    return `It is longer than the ${SECRET_LIMIT_BYTES} bytes that the chip takes.`;
  }
  if (way !== "recovery_key") return "";
  const count = characters(text);
  if (count === RECOVERY_KEY_CHARACTERS) return "";
  return `A recovery key has ${RECOVERY_KEY_CHARACTERS} characters, and this has ${count}. No try was used.`;
}

/** How many characters of a recovery key were typed; dashes and blanks between them are none. */
export function characters(text: string): number {
  return text.replaceAll(/[\s_\p{Pd}\u2212\u00ad]/gu, "").length;
}

/** What came of a try by this way, in words; may have commands between backticks. */
export function told(way: Way, answer: Answer): string {
  if (answer.right) {
    const [next] = answer.standing.needs;
    return next ? `That is right. Now the ${next}.` : "That is right: the start goes on.";
  }
  const name = budget(way);
  const budgeted = name === null ? undefined : answer.standing.attempts[name];
  const wait = budgeted?.wait_seconds ? ` The next one is looked at in ${span(budgeted.wait_seconds)}.` : "";
  switch (answer.code) {
    case "wrong":
      if (budgeted?.left === 0) return `This is not the ${NAMES[way]}, and it was the last try.`;
      return `This is not the ${NAMES[way]}.${budgeted ? ` ${left(budgeted.left)}` : ""}${wait}`;
    case "passphrase":
      return "This is not the passphrase.";
    case "wait":
      return `The chip did not look at it, and no try was used.${wait}`;
    case "disabled":
      return `All tries are used up; the chip did not look at it.`;
    case "absent":
      return way === "recovery_key" ? "No recovery key was ever made for this chip." : "It has no password.";
    default:
      return [answer.stopped_by, answer.next_step].filter((part) => part).map(sentence).join(" ");
  }
}

function left(count: number): string {
  return count === 1 ? "1 try is left." : `${count} tries are left.`;
}

/** The same where nobody answered, or somebody said no. */
export function refused(refusal: Refusal): string {
  return [refusal.stopped_by, refusal.next_step].filter((part) => part).map(sentence).join(" ");
}

/** When it gives up, and what that means for a wait that is longer; empty where it does not. */
export function untilWhen(status: Status, waitSeconds: number, now: number, clock: (at: number) => string): string {
  const until = status.locked_until;
  if (until === null) return "";
  const off = `It switches itself off at ${clock(until)} if nothing is given`;
  if (now + waitSeconds <= until) return `${off}.`;
  return `${off}; the wait goes on without it.`;
}
