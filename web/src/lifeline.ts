/** The events of one workstation, over a WebSocket that is made again whenever it drops. */
import { Locked, list, socketUrl } from "./api.ts";
import { GONE_ATTEMPT, wait } from "./backoff.ts";
import type { ConsoleEvent } from "./model.ts";
import { parseEvent } from "./model.ts";

/** `missing`: no such workstation. `gone`: no console. `locked`: the session is over. */
export type Health = "connected" | "retrying" | "missing" | "gone" | "locked";

const NO_SUCH_WORKSTATION = 4404;

export class Lifeline {
  readonly #name: string;
  readonly #onEvent: (event: ConsoleEvent) => void;
  readonly #onHealth: (health: Health) => void;
  #socket: WebSocket | null = null;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #attempt = 0;
  #closed = false;

  constructor(
    name: string,
    onEvent: (event: ConsoleEvent) => void,
    onHealth: (health: Health) => void,
  ) {
    this.#name = name;
    this.#onEvent = onEvent;
    this.#onHealth = onHealth;
    this.#connect();
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#socket?.close();
  }

  #connect(): void {
    const socket = new WebSocket(socketUrl(this.#name, "events"));
    this.#socket = socket;
    socket.onmessage = (message: MessageEvent<unknown>) => {
      this.#attempt = 0;
      if (this.#closed || typeof message.data !== "string") return;
      this.#onHealth("connected");
      const event = parseEvent(message.data);
      if (event) this.#onEvent(event);
    };
    socket.onclose = (event) => {
      if (!this.#closed) void this.#lost(event.code);
    };
  }

  async #lost(code: number): Promise<void> {
    if (code === NO_SUCH_WORKSTATION) {
      this.#onHealth("missing");
    } else {
      const health = await this.#diagnose();
      if (this.#closed) return;
      this.#onHealth(health);
      if (health === "locked") return;
    }
    this.#timer = setTimeout(() => this.#connect(), wait(this.#attempt));
    this.#attempt += 1;
  }

  /** A failed WebSocket does not say why; a plain request does. */
  async #diagnose(): Promise<Health> {
    try {
      await list();
      return "retrying";
    } catch (error) {
      if (error instanceof Locked) return "locked";
      return this.#attempt >= GONE_ATTEMPT ? "gone" : "retrying";
    }
  }
}
