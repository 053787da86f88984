/** What the pages ask of the console over HTTP. */
import type { Asked } from "./locked.ts";
import type { Answer, Refusal, Status, Verb } from "./model.ts";

export type Listed = Omit<Status, "kind" | "errand"> & { readonly name: string };

/** The console does not know this session (any more). */
export class Locked extends Error {}

/** The console said no, in the three parts of all errors. */
export class Refused extends Error {
  readonly refusal: Refusal;

  constructor(refusal: Refusal) {
    super(refusal.stopped_by);
    this.refusal = refusal;
  }
}

/** All workstations. Throws Locked; TypeError when the console cannot be reached. */
export async function list(): Promise<Listed[]> {
  const answer = await get<{ workstations: Listed[] }>("/api/workstations");
  return answer.workstations;
}

/** All there is to know of one. Throws Locked, Refused, TypeError. */
export function show(name: string): Promise<unknown> {
  return ask(path(name));
}

/** Sets off `verb`; what becomes of it shows in the status. Throws Locked, Refused, TypeError. */
export async function act(name: string, verb: Verb): Promise<void> {
  await ask(`${path(name)}/${verb}`, "POST");
}

/** Gives the chip a secret, which is wiped here. Throws Locked, Refused, TypeError. */
export async function unlock(name: string, asked: Asked, secret: Uint8Array<ArrayBuffer>): Promise<Answer> {
  const query = new URLSearchParams({ kind: asked.kind, mode: asked.mode });
  try {
    return (await ask(`${path(name)}/unlock?${query}`, "POST", secret)) as Answer;
  } finally {
    secret.fill(0);
  }
}

/** What the console answers at `url`, one of its own. Throws Locked, Refused, TypeError. */
export async function get<T>(url: string): Promise<T> {
  return (await ask(url)) as T;
}

export function socketUrl(name: string, what: "events" | "screen"): string {
  return `ws://${location.host}${path(name)}/${what}`;
}

/** Where the console has the workstation `name`. */
export function path(name: string): string {
  return `/api/workstations/${encodeURIComponent(name)}`;
}

async function ask(
  url: string,
  method: "GET" | "POST" = "GET",
  body: Uint8Array<ArrayBuffer> | null = null,
): Promise<unknown> {
  const answer = await fetch(url, { method, body, credentials: "same-origin", redirect: "error" });
  if (answer.status === 401) throw new Locked();
  if (answer.ok) return answer.json();
  const text = await answer.text();
  try {
    throw new Refused(JSON.parse(text) as Refusal);
  } catch (error) {
    if (error instanceof Refused) throw error;
    throw new Refused({ doing: "asking the console", stopped_by: text.trim(), next_step: "try again" });
  }
}
