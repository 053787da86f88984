/** The display around the screen: its hint, its size, and its two small controls. */
import { byId, setText } from "../dom.ts";
import { Screen } from "../screen.ts";

export class DisplayView {
  /** Whether the machine's picture is on the glass. */
  picture = false;
  readonly #screen: Screen;
  readonly #changed: () => void;
  readonly #glass = byId("glass", "div");
  readonly #hint = byId("hint", "span");
  readonly #size = byId("size", "span");
  readonly #tools = byId("tools", "span");
  #focused = false;

  constructor(changed: () => void) {
    this.#changed = changed;
    this.#screen = new Screen(byId("screen", "div"), {
      connected: (yes) => this.#set(yes, this.#focused),
      focused: (yes) => this.#set(this.picture, yes),
      resized: (width, height) => setText(this.#size, width > 0 ? `${width} × ${height}` : ""),
    });
    byId("ctrlaltdel", "button").addEventListener("click", () => this.#screen.ctrlAltDel());
    byId("fullscreen", "button").addEventListener("click", () => void this.#fullscreen());
  }

  /** Look at this workstation's screen, or at none. */
  show(name: string | null): void {
    this.#screen.show(name);
  }

  #set(picture: boolean, focused: boolean): void {
    this.picture = picture;
    this.#focused = focused && picture;
    this.#glass.classList.toggle("focused", this.#focused);
    this.#tools.hidden = !picture;
    this.#size.hidden = !picture;
    const how = this.#focused
      ? "Keyboard goes to the machine; Ctrl + Alt + Shift brings it back"
      : "Click the screen to type";
    setText(this.#hint, picture ? how : "");
    this.#changed();
  }

  async #fullscreen(): Promise<void> {
    try {
      await this.#glass.requestFullscreen({ navigationUI: "hide" });
    } catch {
      // The browser or its user forbids it: nothing to do about that here.
      return;
    }
    this.#screen.focus();
  }
}
