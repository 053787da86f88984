/** The words and figures of the page. No DOM in here. */
import type { ChainLink, LinkName, State, Status, Target } from "./model.ts";

export const LINK_TITLES: Record<LinkName, string> = {
  chip: "Chip",
  firmware: "Firmware",
  disk: "Disk",
  machine: "Machine",
  kernel: "Kernel",
  system: "System",
  data: "Data",
  login: "Login",
  recovery: "Recovery",
};

/** What the chain is drawn for, where it is not the machine's own system. */
export const TARGET_TITLES: Record<Target, string> = {
  main: "",
  other: "another system",
  external: "external disk",
  recovery: "recovery",
};

/** What it means that a link holds. */
export const LINK_MEANINGS: Record<LinkName, string> = {
  chip: "The vault is open and the chip answers.",
  firmware: "The firmware is the one that this chip’s ticket names.",
  disk: "The encrypted disk is served to the machine.",
  machine: "The processor runs.",
  kernel: "Secure Boot accepted the kernel or its loader.",
  system: "The sealed system volume is open.",
  data: "The writable data volume is mounted.",
  login: "The guest of this start answered.",
  recovery: "The recovery system of this start answered.",
};

/** What it means that a link broke, and what to do about it. */
const BROKEN: Record<LinkName, { readonly means: string; readonly next: string }> = {
  chip: {
    means: "The chip did not answer, or could not open its vault.",
    next: "See that its state folder is complete and was not changed, then power on again.",
  },
  firmware: {
    means: "The firmware is not the one that this chip’s ticket names, so the chip did not let it run.",
    next: "Put the original file back into the workstation’s folder; `reinstall` puts a whole system there, and keeps the data.",
  },
  disk: {
    means: "The encrypted disk could not be opened for this machine.",
    next: "See that the disk’s file is complete and that no other program has it open.",
  },
  machine: {
    means: "The processor did not start, or stopped by itself.",
    next: "Look into its log; `doctor` says what this host lacks.",
  },
  kernel: {
    means: "The policy does not let what was to start do so: it is unsigned, was changed, or is not what this chip’s ticket names.",
    next: "Nothing of it was run. `recovery` can reinstall the system and keeps the data; `restore` begins anew.",
  },
  system: {
    means: "The sealed system volume does not match its seal.",
    next: "Some of it was changed or damaged. `recovery` can reinstall the system; the data volume is apart from it.",
  },
  data: {
    means: "The data volume could not be mounted.",
    next: "Look into the log for what the file system check said.",
  },
  login: {
    means: "The guest did not answer, so nobody can log in.",
    next: "Look at its screen and its log, then power on again; `recovery` can check the disk.",
  },
  recovery: {
    means: "The recovery system started, but did not answer.",
    next: "Look into its log, then start recovery again.",
  },
};

const STATES: Record<State, string> = {
  off: "Off",
  starting: "Starting",
  locked: "Locked",
  running: "Running",
  recovery: "Recovery",
  stopping: "Shutting down",
  failed: "Failed",
};

export function stateTitle(state: State | undefined): string {
  return state ? STATES[state] : "Connecting";
}

/** Seconds with as many digits as matter: 0.42 s, 7.3 s, 48 s, 3 min 5 s. */
export function duration(seconds: number): string {
  const value = Math.max(0, seconds);
  if (value < 1) return `${value.toFixed(2)} s`;
  if (value < 20) return `${value.toFixed(1)} s`;
  if (value < 60) return `${Math.floor(value)} s`;
  if (value < 3600) return `${Math.floor(value / 60)} min ${Math.floor(value % 60)} s`;
  return `${Math.floor(value / 3600)} h ${Math.floor((value % 3600) / 60)} min`;
}

/** A size; disks are sold in powers of ten, memory and partitions are made in powers of two. */
export function size(bytes: number, base: 1000 | 1024 = 1024): string {
  const units = base === 1000 ? ["B", "kB", "MB", "GB", "TB"] : ["B", "KiB", "MiB", "GiB", "TiB"];
  let value = bytes;
  let unit = 0;
  while (value >= base && unit < units.length - 1) {
    value /= base;
    unit += 1;
  }
  const digits = value >= 100 || Number.isInteger(value) ? 0 : 1;
  return `${value.toFixed(digits)} ${units[unit] ?? ""}`;
}

/** The text with long hashes cut to what a person compares. */
export function brief(text: string): string {
  return text.replaceAll(/\b[0-9a-f]{24,}\b/g, (hash) => `${hash.slice(0, 16)}…`);
}

/** A time to wait, to the second: 0:42, 4:59, 7:59:12. */
export function countdown(seconds: number): string {
  const whole = Math.max(0, Math.ceil(seconds));
  const two = (value: number): string => `${value}`.padStart(2, "0");
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor((whole % 3600) / 60)];
  return hours > 0 ? `${hours}:${two(minutes)}:${two(whole % 60)}` : `${minutes}:${two(whole % 60)}`;
}

/** The same in words: 1 minute, 8 hours, 59 minutes 30 seconds. */
export function span(seconds: number): string {
  const whole = Math.max(0, Math.ceil(seconds));
  const parts: [number, string][] = [
    [Math.floor(whole / 3600), "hour"],
    [Math.floor((whole % 3600) / 60), "minute"],
    [whole % 60, "second"],
  ];
  const told = parts.filter(([count]) => count > 0).slice(0, 2);
  return told.map(([count, unit]) => counted(count, unit)).join(" ") || "a moment";
}

/** One try, 2 tries. */
export function counted(count: number, one: string, several = `${one}s`): string {
  return `${count} ${count === 1 ? one : several}`;
}

/** The commands of `spacegray` that are for one workstation, and those that are not. */
export const COMMANDS: readonly string[] = [
  "chip attest", "chip show", "create", "delete", "erase", "export", "import", "logs", "open",
  "password change", "password remove", "password set", "password verify", "recovery",
  "recovery-key", "reinstall", "restart", "restore", "security set", "security show",
  "service distrust", "service do logic-board", "service do memory", "service do processor",
  "service do ssd", "service do stand", "service do vesa-mount", "service history",
  "service providers", "service trust", "shell", "show", "ssd accept", "ssd show", "ssd verify",
  "start", "stop", "target-disk", "up", "update",
];
export const GENERAL_COMMANDS: readonly string[] = ["doctor", "list", "order", "service parts", "service plan"];

/** A piece of text; a `command` is there to be typed. */
export interface Piece {
  readonly text: string;
  readonly command: boolean;
}

/**
 * The text in pieces, commands in it (between backticks) as they are to be typed for the
 * workstation `name`: where none is named, the command would be about another one.
 */
export function pieces(text: string, name: string | null): Piece[] {
  return text
    .split("`")
    .map((piece, index) => ({ text: index % 2 === 1 ? typed(piece, name) : piece, command: index % 2 === 1 }))
    .filter((piece) => piece.text !== "");
}

function typed(text: string, name: string | null): string {
  const bare = text.replace(/^spacegray /, "");
  if (name !== null && COMMANDS.includes(bare)) return `spacegray ${bare} ${name}`;
  const known = [...COMMANDS, ...GENERAL_COMMANDS].some(
    (command) => bare === command || bare.startsWith(`${command} `),
  );
  return known ? `spacegray ${bare}` : text;
}

/** What is left where the life of the chip of `name` is over; null where it is not. */
export function ended(status: Status | null, life: string | null, name: string): Failure | null {
  const over = status?.state === "off" || status?.state === "failed";
  if (!over || (life !== "erased" && life !== "locked out")) return null;
  if (life === "erased") {
    return {
      title: "Erased",
      means: "Every key to its disk was destroyed: what was on it can no longer be read by anyone.",
      found: [],
      next: `\`restore ${name}\` makes a new system; \`import ${name} FILE\` brings a copy back.`,
    };
  }
  return lockedOut(name);
}

/** Every try of everything is used up. */
export function lockedOut(name: string): Failure {
  return {
    title: "Locked out",
    means: "Every try is used up. Nothing opens this disk any more; all that is left is to begin anew.",
    found: [],
    next: `\`restore ${name}\` makes a new system on an empty disk; \`erase ${name}\` only destroys what there is.`,
  };
}

/** Every try of the firmware password is used up: the way to all but the system itself is shut. */
export function shutOut(name: string): Failure {
  return {
    title: "Only its own system starts now",
    means: "Every try of the firmware password is used up: neither recovery nor anything else but the chosen startup disk starts.",
    found: [],
    next: `\`stop ${name}\`, then \`start ${name}\`: its system and its data are as they were. Only \`restore ${name}\`, which erases all data, ends the firmware password.`,
  };
}

/** The links at which recovery is what helps, since the chip and the machine are in order. */
const HELPED: readonly LinkName[] = ["kernel", "system", "data", "login"];

/** Whether recovery is to be offered for what broke. */
export function recoverable(status: Status | null, links: readonly ChainLink[]): boolean {
  const broken = links.find((link) => link.phase === "broken");
  return status?.state === "failed" && status.target !== "recovery" && !!broken && HELPED.includes(broken.name);
}

/** A failure in plain words. */
export interface Failure {
  readonly title: string;
  readonly means: string;
  readonly found: readonly (readonly [label: string, text: string])[];
  readonly next: string;
}

/** What went wrong, where something did: a start that failed, or one that never began. */
export function failure(status: Status | null, links: readonly ChainLink[]): Failure | null {
  if (!status) return null;
  const refusal = status.errand?.error ?? null;
  if (status.state !== "failed") {
    if (!refusal || status.state !== "off") return null;
    const title = `Stopped while ${refusal.doing}`;
    return { title, means: sentence(refusal.stopped_by), found: [], next: sentence(refusal.next_step) };
  }
  const broken = links.find((link) => link.phase === "broken");
  const said = broken?.detail || status.reason;
  if (!broken) {
    const next = refusal?.next_step ?? "Power on again; the log says more.";
    return { title: "The machine stopped", means: sentence(said), found: [], next: sentence(next) };
  }
  const words = BROKEN[broken.name];
  const title = `The ${LINK_TITLES[broken.name].toLowerCase()} link broke`;
  // What broke it may have said what to do: it knows better than a word for all cases.
  const own = status.reason.startsWith(`${said}; `) ? status.reason.slice(said.length + 2) : "";
  return { title, means: words.means, found: findings(said), next: own ? sentence(own) : words.next };
}

const EXPECTED_FOUND = /expected:? (?<expected>.+?)[,;]? (?:but )?(?:found|got):? (?<found>.+)$/i;

/** What was expected and what was found, where a text says both; else the text itself. */
export function findings(text: string): [string, string][] {
  const groups = EXPECTED_FOUND.exec(text)?.groups;
  if (groups?.["expected"] && groups["found"]) {
    return [
      ["Expected", groups["expected"]],
      ["Found", groups["found"]],
    ];
  }
  return text ? [["Seen", text]] : [];
}

export function capitalised(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

export function sentence(text: string): string {
  const trimmed = text.trim();
  const start = capitalised(trimmed);
  return /[.!?]$/.test(start) || start === "" ? start : `${start}.`;
}
