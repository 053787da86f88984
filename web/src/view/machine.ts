/** The machine from the side: the display, its bulged back, and what holds it. */
import type { Mount } from "../mount.ts";
import { MOUNT_WORDS } from "../mount.ts";
import { draw } from "../svg.ts";

/** One drawing; the display is the same in both, what holds it is not. */
export function machineView(mount: Mount): SVGSVGElement {
  const svg = draw("svg", { viewBox: "0 0 360 300", role: "img", "data-mount": mount });
  svg.setAttribute("aria-label", `The machine from the side. ${MOUNT_WORDS[mount]}.`);
  svg.append(
    draw("line", { class: "desk", x1: 24, x2: 336, y1: 280, y2: 280 }),
    ...(mount === "vesa" ? arm() : stand()),
    draw("path", { class: "back", d: "M142 30 C 150 60, 196 96, 200 142 C 202 178, 158 208, 148 236 Z" }),
    draw("path", { class: "front", d: "M138 26 h5 l6 212 h-5 z" }),
    draw("path", { class: "glass", d: "M136.5 28 h2.5 l5 172 h-2.5 z" }),
  );
  return svg;
}

function stand(): SVGElement[] {
  return [
    draw("path", { class: "holder", d: "M196 150 C 224 176, 236 220, 226 272" }),
    draw("path", { class: "holder", d: "M229 276 H 104" }),
    draw("circle", { class: "joint", cx: 196, cy: 149, r: 7 }),
  ];
}

function arm(): SVGElement[] {
  const screws = [116, 132, 148, 164].map((y) => draw("line", { class: "screw", x1: 193, x2: 203, y1: y, y2: y }));
  return [
    draw("rect", { class: "plate", x: 196, y: 106, width: 8, height: 68, rx: 2 }),
    ...screws,
    draw("path", { class: "holder", d: "M206 140 H 226" }),
    draw("path", { class: "holder", d: "M226 140 L 300 112" }),
    draw("path", { class: "holder", d: "M300 112 L 272 206 V 272" }),
    draw("path", { class: "clamp", d: "M254 274 h36 v14 h-10" }),
    draw("circle", { class: "joint", cx: 226, cy: 140, r: 7 }),
    draw("circle", { class: "joint", cx: 300, cy: 112, r: 7 }),
    draw("circle", { class: "joint", cx: 272, cy: 206, r: 6 }),
  ];
}
