/** Making elements. Text is only ever set as text, so nothing that is shown can become markup. */

import { pieces } from "./words.ts";

type Attributes = Readonly<Record<string, string | boolean>>;

export function make<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Attributes = {},
  ...children: (Node | string)[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) element.setAttribute(name, "");
    else if (value !== false) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

/** The text with the commands in it as code, as they are typed for the workstation `name`. */
export function rich(text: string, name: string | null): Node[] {
  return pieces(text, name).map((piece) =>
    piece.command ? make("code", {}, piece.text) : document.createTextNode(piece.text),
  );
}

/** The element with this id, which index.html has. */
export function byId<K extends keyof HTMLElementTagNameMap>(
  id: string,
  tag: K,
): HTMLElementTagNameMap[K] {
  const element = document.getElementById(id);
  if (!element || element.localName !== tag) throw new Error(`the page has no <${tag} id=${id}>`);
  return element as HTMLElementTagNameMap[K];
}

/** Sets the text only where it is another, so that screen readers are not told twice. */
export function setText(element: HTMLElement, text: string): void {
  if (element.textContent !== text) element.textContent = text;
}
