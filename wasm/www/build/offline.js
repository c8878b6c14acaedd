/** A Vite plugin: writes the service worker with the names of all files of the build. */

import { createHash } from "node:crypto";
import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join, relative, sep } from "node:path";

/** The folder, below `assets`, of what is kept when it is first used, not before. */
export const ON_DEMAND = "on-demand";

const SOURCE = new URL("./service-worker.js", import.meta.url);

export function offline() {
  let folder;
  return {
    name: "offline",
    apply: "build",
    configResolved(config) {
      folder = join(config.root, config.build.outDir);
    },
    closeBundle() {
      const files = readdirSync(folder, { recursive: true, withFileTypes: true })
        .filter((entry) => entry.isFile() && entry.name !== "service-worker.js")
        .map((entry) => relative(folder, join(entry.parentPath, entry.name)).split(sep).join("/"))
        .sort();
      const hash = createHash("sha256");
      for (const file of files) hash.update(file).update(readFileSync(join(folder, file)));
      const first = files.filter((file) => !file.includes(`/${ON_DEMAND}/`));
      const names = first.map((file) => (file === "index.html" ? "./" : file));
      const head = `const VERSION = "${hash.digest("hex").slice(0, 12)}";\nconst FILES = ${JSON.stringify(names)};\n`;
      writeFileSync(join(folder, "service-worker.js"), head + readFileSync(SOURCE, "utf8"));
    },
  };
}
