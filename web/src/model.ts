/** What the console tells about one workstation, and what follows from it. No DOM in here. */

export type LinkName =
  | "chip" | "firmware" | "disk" | "machine" | "kernel" | "system" | "data" | "login" | "recovery";

/** What a start is for: our system, another one on the disk, an external disk, recovery. */
export type Target = "main" | "other" | "external" | "recovery";

/** The links of each, in the order in which power-on passes them. */
export const CHAINS: Readonly<Record<Target, readonly LinkName[]>> = {
  main: ["chip", "firmware", "disk", "machine", "kernel", "system", "data", "login"],
  other: ["chip", "firmware", "disk", "machine", "kernel"],
  external: ["chip", "firmware", "disk", "machine", "kernel"],
  recovery: ["chip", "firmware", "machine", "kernel", "recovery"],
};

export type State = "off" | "starting" | "locked" | "running" | "recovery" | "stopping" | "failed";
export type Verb = "start" | "stop" | "restart" | "recovery";
export const VERBS: readonly Verb[] = ["start", "stop", "restart", "recovery"];

/** One observation about a link: `at` in Unix seconds, `seconds` since power-on. */
export interface Sighting {
  readonly link: string;
  readonly status: "ok" | "failed";
  readonly detail: string;
  readonly at: number;
  readonly seconds: number;
}

/** An error in the three parts in which all of Spacegray reports them. */
export interface Refusal {
  readonly doing: string;
  readonly stopped_by: string;
  readonly next_step: string;
}

/** What was asked for from a page last, and how it went. */
export interface Errand {
  readonly verb: Verb;
  readonly done: boolean;
  readonly error: Refusal | null;
}

/** What the chip may wait for, in the state `locked`. */
export type Need = "passphrase" | "password" | "firmware_password";
/** What wrong tries are counted for, each by itself. */
export type Budget = "password" | "recovery" | "recovery_key" | "firmware_password";

export interface Tries {
  readonly failures: number;
  readonly left: number;
  /** How long the chip looks at none, from `attempts_at` on. */
  readonly wait_seconds: number;
}

export type Attempts = Readonly<Partial<Record<Budget, Tries>>>;

/** What the chip said to a secret; `code` is its word for why not. */
export interface Answer {
  readonly right: boolean;
  readonly code: string | null;
  readonly stopped_by: string;
  readonly next_step: string;
  readonly standing: { readonly needs: readonly Need[]; readonly attempts: Attempts };
}

/** What is known of the chip without asking it; null where it is not. */
export interface ChipFacts {
  readonly life: string | null;
  readonly recovery_key: boolean | null;
}

export interface Status {
  readonly kind: "status";
  readonly state: State;
  readonly reason: string;
  readonly link: string | null;
  readonly boot: number;
  /** What the present or last start is for. */
  readonly target: Target;
  readonly since: number;
  readonly links: readonly Sighting[];
  readonly needs: readonly Need[];
  readonly attempts: Attempts;
  /** When `attempts` were as they are said to be, and when a locked machine gives up (Unix s). */
  readonly attempts_at: number | null;
  readonly locked_until: number | null;
  readonly errand: Errand | null;
}

export interface Note {
  readonly kind: "note";
  readonly at: number;
  readonly text: string;
}

export interface Progress {
  readonly kind: "progress";
  readonly label: string;
  readonly done: number;
  readonly total: number;
}

export type ConsoleEvent = Status | Note | Progress;

export interface Model {
  readonly status: Status | null;
  readonly notes: readonly Note[];
  readonly progress: Progress | null;
  readonly chip: ChipFacts | null;
}

export const EMPTY: Model = { status: null, notes: [], progress: null, chip: null };

/** How many notes are kept; older ones are in the workstation's log. */
export const NOTE_LIMIT = 50;

/** The model after one more event. A status says everything anew, so it replaces the last. */
export function reduce(model: Model, event: ConsoleEvent): Model {
  switch (event.kind) {
    case "status": {
      const changed = model.status?.state !== event.state;
      return { ...model, status: event, progress: changed ? null : model.progress };
    }
    case "note":
      return { ...model, notes: [...model.notes, event].slice(-NOTE_LIMIT) };
    case "progress":
      return { ...model, progress: event.total > 0 && event.done >= event.total ? null : event };
  }
}

/** The status as the chip's answer (at `now`, Unix seconds) makes it, before the next one says so. */
export function answered(status: Status, answer: Answer, now: number): Status {
  const { needs, attempts } = answer.standing;
  if (status.state !== "locked") return status;
  if (needs.length === 0) return { ...status, state: "starting", needs, attempts, locked_until: null };
  return { ...status, needs, attempts, attempts_at: now };
}

/** Reads what came over the wire; null for anything that is not an event of ours. */
export function parseEvent(text: string): ConsoleEvent | null {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value !== "object" || value === null || !("kind" in value)) return null;
    const known = value.kind === "status" || value.kind === "note" || value.kind === "progress";
    return known ? (value as ConsoleEvent) : null;
  } catch {
    return null;
  }
}

/**
 * How a link of the chain stands: `dark` not reached, `awaited` the one that is due, `lit` seen
 * to hold, `past` held in a start that has failed since, `broken` seen to break.
 */
export type Phase = "dark" | "awaited" | "lit" | "past" | "broken";

export interface ChainLink {
  readonly name: LinkName;
  readonly phase: Phase;
  readonly detail: string;
  readonly seconds: number | null;
}

/** The chain as it stands now, in the order in which power-on passes it. */
export function chain(status: Status | null): ChainLink[] {
  const state = status?.state ?? "off";
  let due = state === "starting" || state === "locked";
  return CHAINS[target(status)].map((name) => {
    const seen = state === "off" ? undefined : status?.links.findLast((each) => each.link === name);
    const detail = seen?.detail ?? "";
    const seconds = seen?.seconds ?? null;
    if (seen?.status === "failed" || (state === "failed" && status?.link === name)) {
      due = false;
      return { name, phase: "broken", detail, seconds };
    }
    if (seen) return { name, phase: state === "failed" ? "past" : "lit", detail, seconds };
    const phase = due ? "awaited" : "dark";
    due = false;
    return { name, phase, detail, seconds };
  });
}

/** What the chain that is to be seen is for: that of a machine that is off, its own system. */
export function target(status: Status | null): Target {
  return status === null || status.state === "off" ? "main" : status.target;
}

/** Whether a machine is there whose screen can be looked at. */
export function hasScreen(status: Status | null): boolean {
  switch (status?.state) {
    case "running":
    case "recovery":
    case "stopping":
      return true;
    case "starting":
      return chain(status).some((link) => link.name === "machine" && link.phase === "lit");
    default:
      return false;
  }
}

/** Unix seconds at which the present start began. */
export function poweredOnAt(status: Status): number {
  const first = status.links[0];
  return first ? first.at - first.seconds : status.since;
}

/** Whether something was asked for that has not shown in the state yet. */
export function pending(status: Status | null): Verb | null {
  const errand = status?.errand;
  return errand && !errand.done ? errand.verb : null;
}

/** Which of the buttons make sense now. */
export function allowed(status: Status | null): Record<Verb, boolean> {
  const idle = pending(status) === null;
  const state = status?.state;
  return {
    start: idle && (state === "off" || state === "failed"),
    stop: state === "running" || state === "recovery" || state === "starting" || state === "locked",
    restart: idle && (state === "running" || state === "recovery"),
    recovery: idle && (state === "off" || state === "failed"),
  };
}
