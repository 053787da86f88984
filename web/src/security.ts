/** Startup security: what each setting is, what that means, how it is changed. No DOM in here. */

export type Policy = "full" | "medium" | "none";
export type Switch = "deny" | "allow";

/** The settings; null where the chip was never asked, or is sealed. */
export interface Security {
  readonly policy: Policy | null;
  readonly externalBoot: Switch | null;
  readonly otherSystems: Switch | null;
  readonly firmwarePassword: boolean | null;
  /** No system older than this epoch (Unix seconds) gets in; 0 while none has come up. */
  readonly minimumEpoch: number | null;
}

/** One thing that a setting can be; `holds` where it is that. */
export interface Choice {
  readonly title: string;
  readonly means: string;
  readonly holds: boolean;
}

export interface Setting {
  readonly title: string;
  readonly choices: readonly Choice[];
  /** Under this one, whatever the setting is has no effect; empty where it has. */
  readonly remark: string;
  /** What to type to make it another; empty where it is not known. */
  readonly command: string;
}

export const POLICY_TITLES: Record<Policy, string> = {
  full: "Full Security",
  medium: "Medium Security",
  none: "No Security",
};

/** As `spacegray security show` says it: a test compares the two. */
export const POLICY_WORDS: Record<Policy, string> = {
  full: "Only the system that a ticket of this chip names starts, and no older or other one.",
  medium: "Any system that a trusted signer ever signed starts: ours, in any version, and others once other systems are allowed.",
  none: "Any system starts, signed or not; the machine's firmware is verified all the same, and so is recovery.",
};
export const EXTERNAL_BOOT_WORDS: Record<Switch, string> = {
  deny: "An external disk is not there until the operating system runs, so nothing starts from it.",
  allow: "The machine may be started from an external disk, with a system that the policy lets start.",
};
export const OTHER_SYSTEMS_WORDS: Record<Switch, string> = {
  deny: "Under Medium Security only systems with our own vendor's signature start.",
  allow: "Under Medium Security systems that Microsoft's UEFI authority signed start too, such as those of the distributions.",
};
export const FIRMWARE_PASSWORD_WORDS: Record<"set" | "none", string> = {
  none: "Whoever is at the machine may start recovery, an external disk or target disk mode.",
  set: "The chip asks for the firmware password before anything but the chosen startup disk: recovery, an external disk, target disk mode.",
};

export const UNKNOWN = "Its chip was not asked yet, or is sealed: the next start tells.";

/** From the result of `show`. */
export function security(show: unknown): Security {
  const facts = fields(fields(show)["chip"]);
  return {
    policy: one(facts["policy"], ["full", "medium", "none"]),
    externalBoot: one(facts["external_boot"], ["deny", "allow"]),
    otherSystems: one(facts["other_systems"], ["deny", "allow"]),
    firmwarePassword: typeof facts["firmware_password"] === "boolean" ? facts["firmware_password"] : null,
    minimumEpoch: typeof facts["minimum_epoch"] === "number" ? facts["minimum_epoch"] : null,
  };
}

/** The settings of the workstation `name`, in the order in which they are explained. */
export function settings(now: Security, name: string): Setting[] {
  const set = `security set ${name}`;
  const other = (value: Switch | null): Switch => (value === "allow" ? "deny" : "allow");
  const password = now.firmwarePassword;
  return [
    {
      title: "Security policy",
      choices: (["full", "medium", "none"] as const).map((each) => ({
        title: POLICY_TITLES[each], means: POLICY_WORDS[each], holds: now.policy === each,
      })),
      remark: "",
      command: `${set} --policy ${now.policy === "full" ? "medium" : "full"}`,
    },
    {
      title: "External boot",
      choices: switched(now.externalBoot, ["Not allowed", "Allowed"], EXTERNAL_BOOT_WORDS),
      remark: "",
      command: `${set} --external-boot ${other(now.externalBoot)}`,
    },
    {
      title: "Other systems",
      choices: switched(now.otherSystems, ["Not allowed", "Allowed"], OTHER_SYSTEMS_WORDS),
      remark: otherSystemsRemark(now),
      command: `${set} --other-systems ${other(now.otherSystems)}`,
    },
    {
      title: "Firmware password",
      choices: [
        { title: "Set", means: FIRMWARE_PASSWORD_WORDS.set, holds: password === true },
        { title: "None", means: FIRMWARE_PASSWORD_WORDS.none, holds: password === false },
      ],
      remark: "",
      command: password === true ? `${set} --no-firmware-password` : `${set} --new-firmware-password-file FILE`,
    },
  ].map((each) => (each.choices.some((choice) => choice.holds) ? each : { ...each, command: "" }));
}

/** The whole in one line: what a person wants to see first. */
export function summary(now: Security): string {
  if (now.policy === null) return UNKNOWN;
  const rest = [
    now.externalBoot === "allow" ? "external boot allowed" : "no external boot",
    now.firmwarePassword ? "firmware password set" : "no firmware password",
  ];
  return `${POLICY_TITLES[now.policy]}, ${rest.join(", ")}.`;
}

function otherSystemsRemark(now: Security): string {
  if (now.policy === "full") return "Under Full Security this has no effect.";
  if (now.policy === "none") return "Under No Security everything starts, whatever this says.";
  return "";
}

function switched(now: Switch | null, titles: readonly [string, string], means: Record<Switch, string>): Choice[] {
  return (["deny", "allow"] as const).map((each, index) => ({
    title: titles[index] ?? "", means: means[each], holds: now === each,
  }));
}

function one<T extends string>(value: unknown, known: readonly T[]): T | null {
  return known.find((each) => each === value) ?? null;
}

function fields(value: unknown): Record<string, unknown> {
  return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {};
}
