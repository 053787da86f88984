/**
 * The machine's screen, keyboard and pointer: noVNC, connected for as long as the machine has a
 * screen, and connected again when it drops.
 */
import RFB from "@novnc/novnc";
import { socketUrl } from "./api.ts";
import { wait } from "./backoff.ts";
import { rendering } from "./scaling.ts";

/** Modifiers that may still be down, to the machine, when the keyboard leaves the screen. */
const MODIFIERS: readonly (readonly [keysym: number, code: string])[] = [
  [0xffe1, "ShiftLeft"],
  [0xffe2, "ShiftRight"],
  [0xffe3, "ControlLeft"],
  [0xffe4, "ControlRight"],
  [0xffe9, "AltLeft"],
  [0xffea, "AltRight"],
];

export interface ScreenListener {
  connected(yes: boolean): void;
  focused(yes: boolean): void;
  resized(width: number, height: number): void;
}

export class Screen {
  readonly #host: HTMLElement;
  readonly #listener: ScreenListener;
  #rfb: RFB | null = null;
  #canvas: HTMLCanvasElement | null = null;
  #watch: MutationObserver | null = null;
  #name: string | null = null;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #attempt = 0;

  constructor(host: HTMLElement, listener: ScreenListener) {
    this.#host = host;
    this.#listener = listener;
    // Before noVNC sees it: the way out of the screen for those who use no pointer.
    host.addEventListener("keydown", (event) => this.#leaveOnChord(event), true);
    new ResizeObserver(() => this.#render()).observe(host);
  }

  /** Look at the screen of the workstation `name`, or at none. */
  show(name: string | null): void {
    if (name === this.#name) return;
    this.#name = name;
    this.#attempt = 0;
    clearTimeout(this.#timer);
    this.#drop();
    if (name !== null) this.#connect(name);
  }

  focus(): void {
    this.#rfb?.focus({ preventScroll: true });
  }

  ctrlAltDel(): void {
    this.#rfb?.sendCtrlAltDel();
    this.focus();
  }

  #connect(name: string): void {
    const rfb = new RFB(this.#host, socketUrl(name, "screen"), { shared: true });
    rfb.scaleViewport = true;
    rfb.showDotCursor = true;
    rfb.background = "transparent";
    this.#rfb = rfb;
    this.#adopt(this.#host.querySelector("canvas"));
    rfb.addEventListener("connect", () => {
      if (rfb !== this.#rfb) return;
      this.#attempt = 0;
      this.#listener.connected(true);
      this.#resized();
    });
    rfb.addEventListener("disconnect", () => {
      if (rfb !== this.#rfb) return;
      this.#forget();
      this.#timer = setTimeout(() => {
        if (this.#name !== null) this.#connect(this.#name);
      }, wait(this.#attempt));
      this.#attempt += 1;
    });
  }

  #adopt(canvas: HTMLCanvasElement | null): void {
    if (!canvas) return;
    this.#canvas = canvas;
    canvas.tabIndex = 0;
    canvas.setAttribute("role", "application");
    canvas.setAttribute("aria-label", "Screen of the workstation");
    canvas.setAttribute("aria-describedby", "hint");
    canvas.addEventListener("focus", () => this.#listener.focused(true));
    canvas.addEventListener("blur", () => this.#listener.focused(false));
    this.#watch = new MutationObserver(() => this.#resized());
    this.#watch.observe(canvas, { attributes: true, attributeFilter: ["width", "height", "style"] });
  }

  #drop(): void {
    const rfb = this.#rfb;
    this.#forget();
    rfb?.disconnect();
  }

  #forget(): void {
    this.#watch?.disconnect();
    this.#rfb = this.#canvas = this.#watch = null;
    this.#listener.focused(false);
    this.#listener.connected(false);
  }

  #resized(): void {
    const canvas = this.#canvas;
    if (!canvas) return;
    this.#listener.resized(canvas.width, canvas.height);
    this.#render();
  }

  #render(): void {
    const canvas = this.#canvas;
    if (!canvas || canvas.width === 0) return;
    const value = rendering(canvas.width, canvas.getBoundingClientRect().width, devicePixelRatio);
    if (canvas.style.imageRendering !== value) canvas.style.imageRendering = value;
  }

  #leaveOnChord(event: KeyboardEvent): void {
    if (!(event.ctrlKey && event.altKey && event.shiftKey)) return;
    if (!["Control", "Alt", "Shift", "Meta"].includes(event.key)) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    for (const [keysym, code] of MODIFIERS) this.#rfb?.sendKey(keysym, code, false);
    this.#canvas?.blur();
    document.getElementById("fullscreen")?.focus();
  }
}
