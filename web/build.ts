/**
 * Bundles the pages into src/spacegray/console/page/, from where the console serves it.
 *
 * The folder is replaced as a whole: first built beside it, then renamed, so that a build that
 * fails leaves the last good page.
 */
import { build } from "esbuild";
import { cp, readFile, rename, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const page = join(here, "..", "src", "spacegray", "console", "page");
const fresh = `${page}.new`;

await rm(fresh, { recursive: true, force: true });
await cp(join(here, "public"), fresh, { recursive: true });
await build({
  absWorkingDir: here,
  entryPoints: {
    console: "src/main.ts",
    order: "src/order.ts",
    service: "src/service.ts",
    timeline: "src/timeline.ts",
  },
  outdir: fresh,
  bundle: true,
  format: "esm",
  target: ["es2022"],
  minify: true,
  logLevel: "warning",
});
// noVNC is MPL-2.0: its licence goes where it goes, with where its source is to be had.
const vnc = join(here, "node_modules", "@novnc", "novnc");
const { version } = JSON.parse(await readFile(join(vnc, "package.json"), "utf8")) as { version: string };
const source = `console.js holds noVNC ${version}, unchanged: https://github.com/novnc/noVNC\n\n`;
await writeFile(join(fresh, "licenses.txt"), source + (await readFile(join(vnc, "LICENSE.txt"), "utf8")));
await rm(page, { recursive: true, force: true });
await rename(fresh, page);
