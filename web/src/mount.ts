/** What holds the machine, as its spec says. No DOM in here. */

export type Mount = "stand" | "vesa";

export const MOUNT_WORDS: Readonly<Record<Mount, string>> = {
  stand: "On its stand, as it comes out of the box",
  vesa: "On an arm: the stand is off, the VESA mount is in its place",
};

/** From the result of `show`; a machine that does not say is on its stand. */
export function mount(show: unknown): Mount {
  const ordered = (show as { ordered?: { mount?: unknown } } | null)?.ordered;
  return ordered?.mount === "vesa" ? "vesa" : "stand";
}
